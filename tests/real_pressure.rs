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
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
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
/// Longer than the sampler looks on, at any level.
const ASLEEP: Duration = Duration::from_secs(12);
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

/// The kernel wakes a sampler that has fallen asleep, for nobody asks for the level here.
#[test]
fn stalls_wake_a_sampler_that_sleeps() {
    if let Some("sleeper") = role::role().as_deref() {
        return read_while_the_sampler_sleeps();
    }
    let tight = match Group::new(TIGHT) {
        Ok(tight) => tight,
        Err(why) => return eprintln!("skipped: no cgroup ({why}); it takes root"),
    };
    if !tight.grants_trigger() {
        return eprintln!("skipped: this kernel grants no trigger on a control group's stalls");
    }
    within(PATIENCE, || {
        let mut sleeper = Role::start("sleeper", "stalls_wake_a_sampler_that_sleeps", &tight.enter());
        assert_eq!(sleeper.ask("read"), "told of a higher level");
    });
}

/// What stalls say, and nothing else.
fn config() -> PressureConfig {
    PressureConfig::new().policy(Policy::StallOnly).hold(Duration::from_millis(100))
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

/// Reads such a file as soon as the sampler sleeps, until it has told of it by itself.
fn read_while_the_sampler_sleeps() {
    let (told, tell) = mpsc::channel();
    let file = large_file();
    let config = config().on_change(move |seen| told.send(seen.level).unwrap());
    let runtime = Runtime::builder().worker_threads(1).pressure(config).build().unwrap();
    let _entered = runtime.enter();
    for _ in orders() {
        let admitted = beat::admit().memory(MIB).try_spawn(async {}).expect("there is room");
        runtime.block_on(admitted).unwrap();
        // Writing the file may have stalled: whoever is told of that waits until all is calm, and then longer than
        // the sampler takes to fall asleep.
        while tell.recv_timeout(ASLEEP).is_ok() {}
        let stop = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let (stop, mut file) = (Arc::clone(&stop), file.try_clone().unwrap());
            move || read_until(&mut file, &stop)
        });
        while tell.recv().unwrap() == Level::None {}
        stop.store(true, SeqCst);
        reader.join().unwrap();
        say("told of a higher level");
    }
    drop(file);
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
