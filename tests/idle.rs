//! Idle is free: with nothing to do no thread of the process is woken, and none burns CPU. A test binary of its own,
//! since it looks at all threads of the process.
#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, atomic::AtomicBool};

use beat::pressure::{PressureConfig, Reading};
use common::idle::stays_quiet;
use common::{Latch, Memory, fib};

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
    // Whatever else the machine does: above the level none the sampler takes ten seconds to fall asleep.
    let pressure = PressureConfig::new().source(|| Memory(Reading::new(1 << 30, 1 << 20, 0)));
    let runtime = beat::Runtime::builder()
        .worker_threads(2)
        .follow_cpu_limits(true)
        .pressure(pressure)
        .build()
        .unwrap();
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
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    });
    #[cfg(feature = "tokio")]
    let events = events(&runtime);
    stays_quiet("after closures, tasks and timers", 0);

    // After admission the sampler looks a few times more, and sleeps.
    let _entered = runtime.enter();
    let permit = beat::admit().memory(1 << 10).try_permit().unwrap();
    runtime.block_on(beat::try_spawn(async {}).unwrap()).unwrap();
    assert!(beat::pressure().reading.is_some());
    std::thread::sleep(std::time::Duration::from_secs(3));
    stays_quiet("after admission, with a permit still held", 0);
    drop(permit);

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

    stays_quiet("after all of it", 0);
    // Everybody sleeps, and hears of the end.
    common::within(std::time::Duration::from_secs(60), || drop(runtime));
}
