//! Real stalls, in control groups of the test's own: they raise the level of whoever is in the group and of nobody else.
//!
//! The test starts itself again, inside a group, in one of two roles, and talks to it a line at a time. Where no group
//! can be made it says so and is skipped.

#![cfg(target_os = "linux")]

mod common;
#[path = "../benches/common/group.rs"]
#[expect(dead_code, reason = "the benchmark asks for more")]
mod group;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use beat::Runtime;
use beat::pressure::{Level, Policy, PressureConfig};
use common::role::{self, Role, orders, say};
use common::within;
use group::Group;

const MIB: u64 = 1 << 20;
/// For the group that stalls: less than it reads.
const TIGHT: u64 = 32 * MIB;
const READ: u64 = 160 * MIB;
const PLENTY: u64 = 512 * MIB;
const TEST: &str = "stalls_raise_the_level_of_their_group_alone";
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn stalls_raise_the_level_of_their_group_alone() {
    match role::role().as_deref() {
        Some("reader") => return read_again_and_again(),
        Some("neighbour") => return admit_on_request(),
        _ => {}
    }
    let (tight, wide) = match (Group::new(TIGHT), Group::new(PLENTY)) {
        (Ok(tight), Ok(wide)) => (tight, wide),
        (Err(why), _) | (_, Err(why)) => return eprintln!("skipped: no cgroup ({why}); it takes root"),
    };
    if !tight.has_stalls() {
        return eprintln!("skipped: this kernel counts no stalls by control group");
    }
    within(PATIENCE, || {
        let start = |role, group: &Group| Role::start(role, TEST, &group.enter());
        let mut reader = start("reader", &tight);
        let mut neighbour = start("neighbour", &wide);
        // Loading the program may have stalled.
        while reader.ask("level") != "None" {}
        reader.tell("read");
        assert_eq!(reader.answer(), "raised");
        for _ in 0..20 {
            assert_eq!(neighbour.ask("admit"), "100 admitted at None");
        }
        assert_ne!(reader.ask("level"), "None", "the noise has gone on");
        reader.tell("stop");
        assert_eq!(reader.answer(), "fallen");
    });
}

/// What stalls say, and nothing else: already few of them, since on a fast disk readers hardly stall.
fn config() -> PressureConfig {
    let few = [0.1, 30.0, 60.0, 90.0];
    PressureConfig::new().policy(Policy::StallOnly).thresholds(few).hold(Duration::from_millis(100))
}

fn runtime() -> Runtime {
    Runtime::builder().worker_threads(1).pressure(config()).build().unwrap()
}

/// Looks until the level is as wanted.
fn until(runtime: &Runtime, wanted: impl Fn(Level) -> bool) {
    while !wanted(runtime.handle().pressure().level) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a file that the group has no room for, from `read` to `stop`.
fn read_again_and_again() {
    let runtime = runtime();
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for order in orders() {
        match order.as_str() {
            "level" => say(format_args!("{:?}", runtime.handle().pressure().level)),
            "read" => {
                let mut file = large_file();
                let stop = Arc::clone(&stop);
                readers.push(std::thread::spawn(move || read_until(&mut file, &stop)));
                until(&runtime, |level| level > Level::None);
                say("raised");
            }
            _ => {
                stop.store(true, SeqCst);
                readers.drain(..).for_each(|reader| reader.join().unwrap());
                until(&runtime, |level| level == Level::None);
                say("fallen");
            }
        }
    }
}

/// More than the group has room for, on a disk: in memory it would count against the limit for good.
fn large_file() -> File {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    io::copy(&mut io::repeat(7).take(READ), &mut file).unwrap();
    file.sync_all().unwrap();
    file
}

fn read_until(file: &mut File, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 20];
    while !stop.load(SeqCst) {
        file.rewind().unwrap();
        while file.read(&mut buffer).unwrap() > 0 && !stop.load(SeqCst) {}
    }
}

/// Has a hundred tasks admitted for each line.
fn admit_on_request() {
    let runtime = runtime();
    let _entered = runtime.enter();
    for _ in orders() {
        let admitted = (0..100).filter(|_| beat::admit().memory(MIB).try_spawn(async {}).is_ok()).count();
        say(format_args!("{admitted} admitted at {:?}", runtime.handle().pressure().level));
    }
}
