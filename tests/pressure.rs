//! Memory pressure is read from trees of every kind, and from whatever is left when a source fails.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use beat::Runtime;
use beat::pressure::{Level, Policy, Pressure, PressureConfig, PressureSource, Reading, Stall};
use common::within;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const STALLS: &str = "some avg10=1.50 avg60=0.91 avg300=0.00 total=681245\n\
                      full avg10=0.50 avg60=0.12 avg300=0.00 total=391926\n";

/// A tree of files that looks like a machine with 1000 MiB.
struct Tree(TempDir);

impl Tree {
    fn new(cgroup: &str, mountinfo: &str) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("proc/self/cgroup", cgroup);
        tree.write("proc/self/mountinfo", mountinfo);
        tree.write("proc/meminfo", "MemTotal: 1024000 kB\nMemFree: 1 kB\nMemAvailable: 921600 kB\n");
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn v1(&self, group: &str, limit: &str, usage: u64) {
        let group = format!("sys/fs/cgroup/memory/{group}");
        self.write(&format!("{group}/memory.limit_in_bytes"), limit);
        self.write(&format!("{group}/memory.usage_in_bytes"), &usage.to_string());
        let stat = format!("inactive_file 1\ntotal_inactive_file {}\ntotal_dirty {MIB}\n", 3 * MIB);
        self.write(&format!("{group}/memory.stat"), &stat);
    }

    fn v2(&self, group: &str, limit: &str, usage: u64) {
        let group = format!("sys/fs/cgroup/{group}");
        self.write(&format!("{group}/memory.max"), limit);
        self.write(&format!("{group}/memory.high"), "max\n");
        self.write(&format!("{group}/memory.current"), &usage.to_string());
        self.write(&format!("{group}/memory.stat"), &format!("anon 5\ninactive_file {}\n", 2 * MIB));
        self.write(&format!("{group}/memory.pressure"), STALLS);
    }

    fn runtime(&self) -> Runtime {
        let config = PressureConfig::new().root(self.0.path());
        Runtime::builder().worker_threads(1).pressure(config).build().unwrap()
    }

    fn look(&self) -> Pressure {
        self.runtime().handle().pressure()
    }
}

const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
const V2: &str = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

fn numbers(seen: &Pressure) -> (u64, u64, u64) {
    let reading = seen.reading.as_ref().expect("there is a reading");
    (reading.limit / MIB, reading.usage / MIB, reading.reclaimable / MIB)
}

#[test]
fn version_1_is_read() {
    let tree = Tree::new("4:memory:/a\n0::/\n", V1);
    tree.v1("a", "104857600\n", 60 * MIB);
    tree.v1("", "9223372036854771712\n", 900 * MIB);
    let seen = tree.look();
    // What is dirty cannot be dropped at once.
    assert_eq!(numbers(&seen), (100, 60, 2));
    assert_eq!(seen.headroom(), Some(42 * MIB));
    assert_eq!(seen.level, Level::None);
    assert!(seen.why().to_string().contains("version 1"), "{}", seen.why());
}

#[test]
fn version_2_is_read_with_its_stalls() {
    let tree = Tree::new("0::/a/b\n", V2);
    tree.v2("a/b", "104857600\n", 90 * MIB);
    let seen = tree.look();
    assert_eq!(numbers(&seen), (100, 90, 2));
    assert_eq!(seen.level, Level::High);
    let stall = seen.reading.unwrap().stall.unwrap();
    assert_eq!((stall.some.avg10, stall.full.total), (1.5, Duration::from_micros(391_926)));
}

#[test]
fn the_high_mark_of_version_2_is_a_limit() {
    let tree = Tree::new("0::/a\n", V2);
    tree.v2("a", "104857600\n", 10 * MIB);
    tree.write("sys/fs/cgroup/a/memory.high", &(50 * MIB).to_string());
    assert_eq!(numbers(&tree.look()).0, 50);
}

#[test]
fn on_a_hybrid_system_memory_comes_from_version_1_and_stalls_from_version_2() {
    let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    let tree = Tree::new("4:memory:/a\n0::/b\n", &format!("{v2}{V1}"));
    tree.v1("a", "104857600\n", 60 * MIB);
    tree.write("sys/fs/cgroup/unified/b/memory.pressure", STALLS);
    let seen = tree.look();
    assert_eq!(numbers(&seen), (100, 60, 2));
    assert_eq!(seen.reading.unwrap().stall.unwrap().some.avg60, 0.91);
}

#[test]
fn of_nested_limits_the_one_with_least_left_counts() {
    let tree = Tree::new("0::/pod/one\n", V2);
    tree.v2("pod/one", "104857600\n", 10 * MIB);
    tree.v2("pod", "209715200\n", 190 * MIB);
    assert_eq!(numbers(&tree.look()), (200, 190, 2));
    // And the machine is the outermost group.
    tree.write("proc/meminfo", "MemTotal: 1024000 kB\nMemAvailable: 1024 kB\n");
    assert_eq!(numbers(&tree.look()), (1000, 999, 0));
}

#[test]
fn in_a_container_the_mount_shows_the_own_part_only() {
    let mount = "35 31 0:32 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    let tree = Tree::new("4:memory:/docker/1\n", mount);
    tree.v1("", "104857600\n", 60 * MIB);
    assert_eq!(numbers(&tree.look()), (100, 60, 2));
    // A namespace of its own, entered from outside.
    let tree = Tree::new("0::/../../system.slice\n", V2);
    tree.v2("", "104857600\n", 60 * MIB);
    assert_eq!(numbers(&tree.look()), (100, 60, 2));
}

#[test]
fn without_a_group_or_a_limit_the_machine_counts() {
    for tree in [Tree::new("", ""), Tree::new("0::/\n", V2), Tree::new("garbage", "more - garbage")] {
        let seen = tree.look();
        assert_eq!(numbers(&seen), (1000, 100, 0));
        assert!(seen.why().to_string().contains("machine"), "{}", seen.why());
    }
    let tree = Tree::new("4:memory:/a\n", V1);
    tree.v1("a", "9223372036854771712\n", 60 * MIB);
    assert_eq!(numbers(&tree.look()).0, 1000);
}

#[test]
fn garbage_and_files_that_cannot_be_read_leave_the_machine() {
    let broken: [&dyn Fn(&Path); 5] = [
        &|group| fs::write(group.join("memory.max"), "much").unwrap(),
        &|group| fs::write(group.join("memory.current"), "\0\u{fffd}").unwrap(),
        &|group| fs::write(group.join("memory.stat"), [0xff, 0xfe, 0x00]).unwrap(),
        &|group| fs::remove_file(group.join("memory.stat")).unwrap(),
        &|group| {
            // A directory can be opened, but not read: as a file without permission, for whoever is root.
            fs::remove_file(group.join("memory.current")).unwrap();
            fs::create_dir(group.join("memory.current")).unwrap();
        },
    ];
    for damage in broken {
        let tree = Tree::new("0::/a\n", V2);
        tree.v2("a", "104857600\n", 60 * MIB);
        damage(&tree.0.path().join("sys/fs/cgroup/a"));
        assert_eq!(numbers(&tree.look()), (1000, 100, 0));
    }
}

#[test]
fn stalls_that_are_garbage_are_left_out() {
    for garbage in [
        "",
        "some",
        "some avg10=x\nfull \n",
        "some avg10=NaN avg60=0 avg300=0 total=1\nfull avg10=0 avg60=0 avg300=0 total=1\n",
    ] {
        let tree = Tree::new("0::/a\n", V2);
        tree.v2("a", "104857600\n", 60 * MIB);
        tree.write("sys/fs/cgroup/a/memory.pressure", garbage);
        let seen = tree.look();
        assert_eq!((numbers(&seen), seen.reading.unwrap().stall), ((100, 60, 2), None), "{garbage:?}");
    }
}

#[test]
fn with_nothing_to_be_read_nothing_is_held_back() {
    let empty = tempfile::tempdir().unwrap();
    let config = PressureConfig::new().root(empty.path());
    let runtime = Runtime::builder().worker_threads(1).pressure(config).build().unwrap();
    let seen = runtime.handle().pressure();
    assert_eq!((seen.level, seen.headroom()), (Level::None, None));
    let _entered = runtime.enter();
    let task = beat::admit().memory(1 << 50).try_spawn(async { 1 }).expect("there is no limit");
    assert_eq!(runtime.block_on(task).unwrap(), 1);
}

/// What a test makes up.
#[derive(Clone)]
struct Made(Arc<Mutex<Result<Reading, &'static str>>>);

impl Made {
    fn new(reading: Reading) -> Self {
        Self(Arc::new(Mutex::new(Ok(reading))))
    }

    fn set(&self, to: Result<Reading, &'static str>) {
        *self.0.lock().unwrap() = to;
    }
}

impl PressureSource for Made {
    fn name(&self) -> String {
        "a test".into()
    }

    fn read(&mut self) -> io::Result<Reading> {
        let said = self.0.lock().unwrap().clone();
        assert_ne!(said, Err("panic"), "a test's panic");
        said.map_err(io::Error::other)
    }
}

fn runtime(config: PressureConfig, made: &Made) -> Runtime {
    let made = made.clone();
    Runtime::builder().worker_threads(1).pressure(config.source(move || made.clone())).build().unwrap()
}

/// Looks until the level is what it is to be: a snapshot may be 10 ms old.
fn until(runtime: &Runtime, level: Level) -> Pressure {
    within(Duration::from_secs(30), || {
        loop {
            let seen = runtime.handle().pressure();
            if seen.level == level {
                return seen;
            }
            std::thread::yield_now();
        }
    })
}

#[test]
fn a_source_that_fails_or_panics_leaves_the_next_one() {
    let tree = Tree::new("0::/a\n", V2);
    tree.v2("a", "104857600\n", 90 * MIB);
    for end in ["it has gone", "panic"] {
        tree.v2("a", "104857600\n", 90 * MIB);
        let made = Made::new(Reading::new(100, 10, 0));
        let runtime = runtime(PressureConfig::new().root(tree.0.path()), &made);
        assert_eq!(runtime.handle().pressure().source.as_deref(), Some("a test"));
        made.set(Err(end));
        assert_eq!(numbers(&until(&runtime, Level::High)), (100, 90, 2));
        // It is not asked again.
        made.set(Ok(Reading::new(100, 10, 0)));
        tree.write("sys/fs/cgroup/a/memory.current", "garbage");
        assert_eq!(numbers(&until(&runtime, Level::None)), (1000, 100, 0));
    }
}

#[test]
fn a_limit_of_zero_is_a_lie() {
    let tree = Tree::new("", "");
    let made = Made::new(Reading::new(0, 0, 0));
    let runtime = runtime(PressureConfig::new().root(tree.0.path()), &made);
    assert_eq!(numbers(&runtime.handle().pressure()), (1000, 100, 0));
}

#[test]
fn changes_are_awaited_and_hooked() {
    let made = Made::new(Reading::new(1000, 100, 0));
    let (told, tell) = mpsc::channel();
    let hook = move |seen: &Pressure| {
        told.send(seen.level).unwrap();
        // Reported, and swallowed.
        assert!(seen.level != Level::Critical, "a test's panic");
    };
    let runtime = runtime(PressureConfig::new().hold(Duration::ZERO).on_change(hook), &made);
    let (first, seen) = mpsc::channel();
    let watch = runtime.spawn(async move {
        let mut levels = Vec::new();
        let mut now = beat::pressure();
        first.send(now.level).unwrap();
        while levels.len() < 3 {
            now = now.changed().await;
            levels.push(now.level);
            first.send(now.level).unwrap();
        }
        levels
    });
    let expect = |level| assert_eq!(seen.recv_timeout(Duration::from_secs(30)).unwrap(), level);
    expect(Level::None);
    for (usage, level) in [(800, Level::Medium), (950, Level::Critical), (100, Level::None)] {
        made.set(Ok(Reading::new(1000, usage, 0)));
        expect(level);
        assert_eq!(tell.recv_timeout(Duration::from_secs(30)).unwrap(), level);
    }
    assert_eq!(runtime.block_on(watch).unwrap(), [Level::Medium, Level::Critical, Level::None]);
}

/// What a test makes up, with a trigger: urgent data on a socket are ready as stalls are.
struct Triggered {
    made: Made,
    looks: mpsc::Sender<()>,
    trigger: TcpStream,
}

impl PressureSource for Triggered {
    fn name(&self) -> String {
        "a test with a trigger".into()
    }

    fn read(&mut self) -> io::Result<Reading> {
        // The test may have seen enough.
        let _ = self.looks.send(());
        self.made.read()
    }

    fn trigger(&self) -> Option<BorrowedFd<'_>> {
        Some(self.trigger.as_fd())
    }
}

/// Longer than a sampler that has not fallen asleep waits before its next look.
const ASLEEP: Duration = Duration::from_secs(3);

#[test]
fn a_trigger_wakes_whoever_looks_at_the_memory() {
    within(Duration::from_secs(60), || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ringer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let trigger = listener.accept().unwrap().0;
        let made = Made::new(Reading::new(1000, 100, 0));
        let (told, tell) = mpsc::channel();
        let (looks, looked) = mpsc::channel();
        let hook = move |seen: &Pressure| told.send(seen.level).unwrap();
        let source = {
            let made = made.clone();
            move || Triggered {
                made: made.clone(),
                looks: looks.clone(),
                trigger: trigger.try_clone().unwrap(),
            }
        };
        let config = PressureConfig::new().hold(Duration::ZERO).on_change(hook).source(source);
        let runtime = Runtime::builder().worker_threads(1).pressure(config).build().unwrap();
        let _entered = runtime.enter();
        let admitted = beat::admit().memory(1).try_spawn(async {}).expect("there is room");
        runtime.block_on(admitted).unwrap();
        while looked.recv_timeout(ASLEEP).is_ok() {}
        made.set(Ok(Reading::new(1000, 950, 0)));
        rustix::net::send(&ringer, b"!", rustix::net::SendFlags::OOB).unwrap();
        assert_eq!(tell.recv().unwrap(), Level::Critical, "nobody has asked");
    });
}

#[test]
fn a_watcher_that_is_dropped_is_forgotten() {
    let made = Made::new(Reading::new(1000, 100, 0));
    let runtime = runtime(PressureConfig::new(), &made);
    let begun = common::Latch::new();
    let polls = Arc::new(AtomicUsize::new(0));
    let watch = runtime.spawn({
        let (begun, polls) = (Arc::clone(&begun), Arc::clone(&polls));
        async move {
            let now = beat::pressure();
            begun.set();
            now.changed().await;
            polls.fetch_add(1, SeqCst);
        }
    });
    begun.wait();
    watch.abort();
    assert!(runtime.block_on(watch).unwrap_err().is_cancelled());
    made.set(Ok(Reading::new(1000, 990, 0)));
    until(&runtime, Level::Critical);
    assert_eq!(polls.load(SeqCst), 0);
}

#[test]
fn the_policies_differ() {
    let mut stall = Stall::default();
    (stall.some.avg10, stall.some.avg60, stall.full.avg10) = (90.0, 90.0, 90.0);
    let reading = Reading::new(1000, 800, 0).with_stall(stall);
    // The averages are high, the counter has not moved: 0.4 × 90 + 0.2 × 90 + 0.3 × 90 + 0.1 × 80 = 89.
    for (policy, level) in [
        (Policy::Headroom, Level::Medium),
        (Policy::StallOnly, Level::None),
        (Policy::Composite, Level::Critical),
    ] {
        let runtime = runtime(PressureConfig::new().policy(policy), &Made::new(reading.clone()));
        assert_eq!(runtime.handle().pressure().level, level, "{policy:?}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (config, word) in [
        (PressureConfig::new().thresholds([60.0, 50.0, 80.0, 90.0]), "thresholds"),
        (PressureConfig::new().thresholds([60.0, 70.0, 80.0, f64::NAN]), "thresholds"),
        (PressureConfig::new().thresholds([60.0, 70.0, 80.0, 101.0]), "thresholds"),
        (PressureConfig::new().guaranteed_minimum(0), "guaranteed_minimum"),
    ] {
        let error = Runtime::builder().pressure(config).build().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(word), "{error}");
    }
}
