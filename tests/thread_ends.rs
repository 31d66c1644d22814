//! What user code leaves on a thread, and what it does at the thread's very end: guards that are never dropped, and
//! thread-locals whose destructors use a runtime after the thread-locals of others have gone.

mod common;

use std::cell::RefCell;
use std::mem;
use std::time::Duration;

use beat::{Handle, Runtime};
use common::{Drops, Never, at_each_size, within};

const LIMIT: Duration = Duration::from_secs(120);

/// Enters the current runtime, and never leaves it.
fn leave_a_guard_behind() {
    let handle = Handle::current();
    mem::forget(handle.enter());
}

struct LeavesAGuard;

impl Drop for LeavesAGuard {
    fn drop(&mut self) {
        leave_a_guard_behind();
    }
}

#[test]
fn a_guard_that_is_left_behind_takes_no_thread_of_the_runtime_down() {
    at_each_size(|like| {
        let runtime = common::runtime(like.metrics().workers);
        let drops = Drops::default();
        runtime.block_on(async {
            beat::spawn(async { leave_a_guard_behind() }).await.unwrap();
            beat::spawn_blocking(leave_a_guard_behind).await.unwrap();
            beat::spawn_blocking_parallel(leave_a_guard_behind).await.unwrap();
            beat::spawn(async { mem::forget(tokio::runtime::Handle::current().enter()) }).await.unwrap();
            // What comes after it on the same thread.
            assert_eq!(beat::spawn_blocking_parallel(|| common::fib(12)).await.unwrap(), 144);
        });
        let (leaves, guard) = (LeavesAGuard, drops.guard());
        drop(runtime.spawn(async move {
            let _leaves = leaves;
            Never(guard).await;
        }));
        // Here and on the runtime's threads.
        drop(runtime);
        assert_eq!(drops.count(), 1);
    });
}

/// Calls its function when the thread ends.
struct AtTheEnd(RefCell<Option<Box<dyn FnOnce()>>>);

impl AtTheEnd {
    fn call(&self, f: impl FnOnce() + 'static) {
        *self.0.borrow_mut() = Some(Box::new(f));
    }
}

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

thread_local! {
    static AT_THE_END: AtTheEnd = const { AtTheEnd(RefCell::new(None)) };
}

/// Runs `f` in the destructor of a thread-local that is older than those of Beat and of tokio on its thread, which
/// are gone by then.
fn at_a_threads_end(runtime: &Runtime, f: impl FnOnce() + Send + 'static) {
    within(LIMIT, || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                AT_THE_END.with(|end| end.call(f));
                assert_eq!(runtime.block_on(async { beat::spawn(async { 5 }).await.unwrap() }), 5);
                let _guard = runtime.enter();
                assert_eq!(beat::join(|| 1, || 2), (1, 2));
            });
            // Unlike the scope's end it waits for the destructors.
            thread.join().unwrap();
        });
    });
}

#[test]
fn a_runtime_may_be_used_at_the_end_of_a_thread() {
    at_each_size(|runtime| {
        let handle = runtime.handle().clone();
        at_a_threads_end(runtime, move || {
            drop(handle.enter());
            let closure = handle.spawn_blocking_parallel(|| common::fib(12));
            assert_eq!(handle.block_on(closure).unwrap(), 144);
            assert_eq!(handle.block_on(async { 6 }), 6);
        });
    });
}

#[test]
fn a_runtime_may_be_dropped_at_the_end_of_a_thread() {
    at_each_size(|like| {
        let runtime = common::runtime(like.metrics().workers);
        let drops = Drops::default();
        drop(runtime.spawn(Never(drops.guard())));
        at_a_threads_end(like, move || drop(runtime));
        assert_eq!(drops.count(), 1);
    });
}
