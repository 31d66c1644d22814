//! The system refuses a thread when a processor is handed over: nothing is lost, and work goes on as soon as
//! threads can be had again. Alone in its process, whose address space it limits.
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::within;

/// Allows the process so much more address space than it has now; `None` takes the limit back.
fn limit_growth(bytes: Option<u64>) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().next().unwrap().parse().unwrap();
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    let limit = bytes.map_or(libc::RLIM_INFINITY, |bytes| pages * page + bytes);
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is a valid one.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

#[test]
fn a_refused_thread_at_a_hand_over_loses_nothing() {
    const STACK: usize = 256 << 20;
    fn nest(handle: beat::Handle, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let inner = handle.clone();
        let below = handle.spawn_blocking_parallel(move || nest(inner, depth - 1));
        handle.block_on(below).unwrap() + 1
    }
    for workers in [1, 2] {
        let runtime =
            beat::Runtime::builder().worker_threads(workers).thread_stack_size(STACK).build().unwrap();
        within(Duration::from_secs(60), || {
            // All threads that there are at the start have come up.
            let warm: Vec<_> = (0..workers).map(|_| runtime.spawn_blocking_parallel(|| ())).collect();
            runtime.block_on(async {
                for closure in warm {
                    closure.await.unwrap();
                }
            });
            // Room for the watchdog, not for a worker.
            limit_growth(Some(STACK as u64 / 2));
            let handle = runtime.handle().clone();
            let closure = runtime.spawn_blocking_parallel(move || nest(handle, 10));
            // Every thread waits for a closure that none is left to begin.
            while runtime.metrics().hand_overs < workers as u64 || runtime.metrics().closures_queued == 0 {
                std::thread::yield_now();
            }
            assert!(!closure.is_finished());
            // Tasks need a thread as well: the duty thread is refused too.
            let task = runtime.spawn(async { 5 });
            limit_growth(None);
            assert_eq!(runtime.block_on(closure).unwrap(), 10);
            assert_eq!(runtime.block_on(task).unwrap(), 5);
        });
    }
}
