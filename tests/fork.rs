//! A child of `fork` has none of its parent's threads: using its runtime there must not hang.
#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::{panic_message, runtime};

/// Runs `f` in a child process, and says whether it returned `true`.
fn in_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: `f` needs no lock that another thread of this process may hold, and glibc has its allocator ready in the
    // child.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(false);
            // SAFETY: always allowed; nothing of the parent's is run.
            unsafe { libc::_exit(i32::from(!passed)) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the child is this process's, and `status` is there to be written.
            let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(waited, child);
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

#[test]
fn using_a_runtime_in_a_child_is_a_clear_error() {
    let parent = runtime(2);
    parent.block_on(async { beat::spawn(async {}).await.unwrap() });
    let task = parent.spawn(std::future::pending::<()>());
    // Idle: no thread is in the middle of anything.
    while parent.metrics().idle_workers < 2 {
        std::thread::yield_now();
    }
    let says_so = |message: String| message.contains("forked") && message.contains("after `fork`");
    let passed = in_child(|| {
        let spawned = says_so(panic_message(|| parent.spawn(async {})));
        let closure = says_so(panic_message(|| parent.spawn_blocking_parallel(|| ())));
        let blocked = says_so(panic_message(|| parent.block_on(async {})));
        let joined = says_so(panic_message(|| task.join()));
        let forked = {
            let _entered = parent.enter();
            says_so(panic_message(|| beat::join(|| (), || ())))
        };
        // Does not wait for threads that are not there.
        drop(parent);
        // A runtime of the child's own works.
        let own = runtime(2);
        let answer = own.block_on(async { beat::spawn(async { 42 }).await.unwrap() });
        spawned && closure && blocked && joined && forked && answer == 42
    });
    assert!(passed);
}

/// The thread that forks has forked work before, so it stands in the runtime's table of threads, which others are about
/// to change at that moment. In the child it ends in the ordinary way.
#[test]
fn a_child_ends_whatever_the_others_were_doing() {
    let parent = runtime(1);
    let _entered = parent.enter();
    beat::join(|| (), || ());
    let over = AtomicBool::new(false);
    let come_and_go = || {
        while !over.load(SeqCst) {
            let guest = || {
                let _entered = parent.enter();
                beat::join(|| (), || ())
            };
            std::thread::scope(|scope| drop(scope.spawn(guest)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(come_and_go);
        }
        common::within(std::time::Duration::from_secs(120), || {
            for _ in 0..300 {
                // SAFETY: always allowed; the destructors of this thread's thread-locals are what is tested.
                assert!(in_child(|| unsafe { libc::exit(0) }));
            }
        });
        over.store(true, SeqCst);
    });
}
