//! Idle is free: with nothing to do no thread of the process is woken, and none burns CPU. A test binary of its own,
//! since it looks at all threads of the process.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, atomic::AtomicBool};
use std::time::Duration;

use common::{Latch, fib};

/// What a thread has done so far.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Done {
    name: String,
    voluntary_switches: u64,
    /// In ticks of the kernel's, of 10 ms as a rule.
    cpu_time: u64,
}

/// Beat's threads in this process, but for the calling one.
fn threads() -> Vec<Done> {
    let this = fs::read_link("/proc/thread-self").unwrap();
    let this = this.file_name().unwrap();
    let others = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let mut threads: Vec<_> = others
        .filter(|thread| thread.file_name() != Some(this))
        .filter_map(|thread| {
            let status = fs::read_to_string(thread.join("status")).ok()?;
            let stat = fs::read_to_string(thread.join("stat")).ok()?;
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            // Behind the name, which may contain anything: state, ten numbers, user time, system time.
            let times = stat[stat.rfind(')').unwrap()..].split_whitespace().skip(12).take(2);
            Some(Done {
                name: format!("{} {}", field("Name:"), field("Pid:")),
                voluntary_switches: field("voluntary_ctxt_switches:").parse().unwrap(),
                cpu_time: times.map(|time| time.parse::<u64>().unwrap()).sum(),
            })
        })
        .filter(|thread| thread.name.starts_with("beat"))
        .collect();
    threads.sort();
    threads
}

/// Nothing happens for five seconds, beginning one second from now, but that so many threads are `computing`.
fn stays_quiet(what: &str, computing: usize) {
    std::thread::sleep(Duration::from_secs(1));
    let before = threads();
    std::thread::sleep(Duration::from_secs(5));
    let after = threads();
    let switches = |threads: &[Done]| -> Vec<_> {
        threads.iter().map(|thread| (thread.name.clone(), thread.voluntary_switches)).collect()
    };
    assert_eq!(switches(&before), switches(&after), "{what}");
    let busy = before.iter().zip(&after).filter(|(before, after)| before.cpu_time != after.cpu_time).count();
    assert!(busy <= computing, "{busy} threads burn CPU {what}: {before:?}, then {after:?}");
}

/// Two tasks that wait for an event each. The first then polls until the second has gone on: whoever takes the first event
/// and has left the driver for a long poll must be found, although no watchdog ticks when the event comes.
#[cfg(feature = "tokio")]
fn events(runtime: &beat::Runtime) -> impl FnOnce() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use tokio::io::AsyncReadExt;

    let pair = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, runtime.block_on(async { tokio::net::UnixStream::from_std(theirs).unwrap() }))
    };
    let ((mut first, mut first_event), (mut second, mut second_event)) = (pair(), pair());
    let (polls, went_on) = (Latch::new(), Latch::new());
    let spinner = runtime.spawn({
        let (polls, went_on) = (Arc::clone(&polls), Arc::clone(&went_on));
        async move {
            first_event.read_u8().await.unwrap();
            polls.set();
            went_on.wait();
        }
    });
    let other = runtime.spawn(async move {
        second_event.read_u8().await.unwrap();
        went_on.set();
    });
    let handle = runtime.handle().clone();
    move || {
        first.write_all(&[1]).unwrap();
        polls.wait();
        second.write_all(&[1]).unwrap();
        handle.block_on(async {
            spinner.await.unwrap();
            other.await.unwrap();
        });
    }
}

#[test]
fn an_idle_runtime_makes_no_wake_ups() {
    let runtime = common::runtime(2);
    runtime.block_on(async {
        let closures: Vec<_> = (0..8).map(|_| beat::spawn_blocking_parallel(|| fib(20))).collect();
        let tasks: Vec<_> = (0..1000).map(|_| beat::spawn(beat::yield_now())).collect();
        for closure in closures {
            closure.await.unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        beat::spawn_blocking(|| ()).await.unwrap();
        #[cfg(feature = "tokio")]
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    #[cfg(feature = "tokio")]
    let events = events(&runtime);
    stays_quiet("after closures, tasks and timers", 0);

    // A closure that is open and blocked: still nothing to do.
    let (begun, release) = (Latch::new(), Latch::new());
    let closure = runtime.spawn_blocking_parallel({
        let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
        move || {
            begun.set();
            release.wait();
            // No watchdog ticks now: the other worker must be sent for.
            let taken = Latch::new();
            beat::scope(|scope| {
                scope.spawn(|_| taken.set());
                taken.wait();
            });
        }
    });
    begun.wait();
    stays_quiet("with a closure that blocks", 0);
    release.set();
    runtime.block_on(closure).unwrap();

    // Some worker computes, the others stay down.
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Latch::new();
    let closure = runtime.spawn_blocking_parallel({
        let (begun, stop) = (Arc::clone(&begun), Arc::clone(&stop));
        move || {
            begun.set();
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        }
    });
    begun.wait();
    stays_quiet("with one worker computing", 1);
    #[cfg(feature = "tokio")]
    events();
    stop.store(true, SeqCst);
    runtime.block_on(closure).unwrap();
}
