//! Names of tasks: seen wherever the task is shown, and free for tasks that have none.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::pending;

use beat::task::Builder;
use beat::{JoinSet, LocalSet};
use common::at_each_size;

thread_local! {
    /// What this thread has allocated: how often, and how many bytes.
    static ALLOCATED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, with a count.
struct Counting;

// SAFETY: all is left to the system's allocator; the counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| {
            let (times, bytes) = count.get();
            count.set((times + 1, bytes + layout.size()));
        });
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<R>(f: impl FnOnce() -> R) -> ((usize, usize), R) {
    let (times, bytes) = ALLOCATED.get();
    let result = f();
    let (times_after, bytes_after) = ALLOCATED.get();
    ((times_after - times, bytes_after - bytes), result)
}

/// A future of 64 bytes that waits for ever.
fn idle() -> impl Future<Output = ()> + Send + 'static {
    struct Idle([u64; 8]);
    impl Future for Idle {
        type Output = ();
        fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
            assert_eq!(self.0, [7; 8]);
            std::task::Poll::Pending
        }
    }
    Idle([7; 8])
}

/// The header of async-task (40 bytes), Beat's (32), a pointer back to it, and the future.
#[cfg(target_pointer_width = "64")]
const IDLE_TASK: usize = 40 + 32 + 8 + 64 + SPAN;
/// With the feature `tracing` the span goes along: what a half carries, task-locals included.
#[cfg(target_pointer_width = "64")]
const SPAN: usize = if cfg!(feature = "tracing") { 56 } else { 0 };

#[test]
#[cfg(target_pointer_width = "64")]
fn a_task_without_a_name_is_one_allocation_of_the_size_it_had() {
    let runtime = common::runtime(1);
    // Queues and the registry have grown.
    let early: Vec<_> = (0..1000).map(|_| runtime.spawn(idle())).collect();
    drop(early);
    let counts: Vec<_> = (0..100)
        .map(|_| {
            let (count, task) = allocations(|| runtime.spawn(idle()));
            drop(task);
            count
        })
        .collect();
    // Now and then the injector takes a new block.
    let usual = counts.iter().filter(|count| **count == (1, IDLE_TASK)).count();
    assert!(usual >= 90, "{counts:?}");
}

#[test]
fn a_name_is_two_allocations_more_and_goes_with_the_task() {
    let set = LocalSet::new();
    let local = |builder: Builder| {
        let ((times, _), task) = allocations(|| builder.spawn_local_on(async {}, &set).unwrap());
        futures::executor::block_on(set.run_until(task)).unwrap();
        times
    };
    for _ in 0..100 {
        local(Builder::new());
    }
    assert_eq!(local(Builder::new()), 1);
    // The name itself is one that the builder has made.
    let builder = Builder::new().name("named");
    assert_eq!(local(builder), 2);
}

#[test]
fn every_kind_of_task_has_its_name() {
    at_each_size(|runtime| {
        let handle = runtime.handle();
        let builder = Builder::new().name("mine");
        let name = || beat::task::name().as_deref().map(str::to_owned);
        let _entered = runtime.enter();
        let tasks = [
            builder.clone().spawn(async move { name() }),
            builder.clone().spawn_on(async move { name() }, handle),
            builder.clone().spawn_blocking(name),
            builder.clone().spawn_blocking_on(name, handle),
            builder.clone().spawn_blocking_parallel(name),
            builder.clone().spawn_blocking_parallel_on(name, handle),
        ];
        for task in tasks {
            let task = task.unwrap();
            assert_eq!(task.name(), Some("mine"));
            assert!(task.spawn_site().file().ends_with("names.rs"));
            assert_eq!(task.join().unwrap().as_deref(), Some("mine"));
        }
        let set = LocalSet::new();
        set.block_on(runtime, async {
            let task = builder.clone().spawn_local(async move { name() }).unwrap();
            assert_eq!(task.await.unwrap().as_deref(), Some("mine"));
        });
        let task = builder.spawn_local_on(async move { name() }, &set).unwrap();
        assert_eq!(set.block_on(runtime, task).unwrap().as_deref(), Some("mine"));

        assert_eq!(runtime.spawn(async move { name() }).join().unwrap(), None);
        assert_eq!(beat::task::name(), None);
    });
}

/// Stolen halves belong to the task too.
#[test]
fn halves_have_the_name_of_their_closure() {
    at_each_size(|runtime| {
        let closure = || {
            let both = beat::join(beat::task::name, beat::task::name);
            both.0.is_some() && both.0 == both.1
        };
        let task = Builder::new().name("whole").spawn_blocking_parallel_on(closure, runtime.handle());
        assert!(task.unwrap().join().unwrap());
    });
}

#[test]
fn handles_and_errors_show_the_name() {
    let runtime = common::runtime(1);
    let handle = runtime.handle();
    let task = Builder::new().name("a \"b\"").spawn_on(pending::<()>(), handle).unwrap();
    let id = task.id();
    assert!(format!("{task:?}").contains(r#"name: "a \"b\"""#), "{task:?}");
    let abort = task.abort_handle();
    assert_eq!(abort.name(), Some("a \"b\""));
    assert!(format!("{abort:?}").contains(r#"name: "a \"b\"""#), "{abort:?}");
    abort.abort();
    let error = task.join().unwrap_err();
    assert_eq!((error.name(), error.is_cancelled()), (Some("a \"b\""), true));
    assert_eq!(error.to_string(), format!(r#"task {id} "a \"b\"" was cancelled"#));
    let error = error.try_into_panic().unwrap_err();
    assert_eq!(error.name(), Some("a \"b\""));
    // The handle keeps the task's header, and with it the name.
    assert_eq!(abort.name(), Some("a \"b\""));

    let fails = Builder::new().name("fails").spawn_on(async { panic!("so") }, handle).unwrap();
    let error = fails.join().unwrap_err();
    assert_eq!(error.to_string(), format!("task {} \"fails\" panicked: so", error.id()));
    assert_eq!(*error.into_panic().downcast::<&str>().unwrap(), "so");

    // Dropped by the end of the runtime.
    let dropped = Builder::new().name(String::from("late")).spawn_on(pending::<()>(), handle).unwrap();
    drop(runtime);
    assert_eq!(dropped.join().unwrap_err().name(), Some("late"));
}

#[test]
fn a_join_set_names_its_tasks() {
    at_each_size(|runtime| {
        let handle = runtime.handle();
        let _entered = runtime.enter();
        let name = || beat::task::name().unwrap().to_string();
        let local = LocalSet::new();
        let mut set = JoinSet::new();
        set.build_task().name("1").spawn(async move { name() }).unwrap();
        set.build_task().name("2").spawn_on(async move { name() }, handle).unwrap();
        set.build_task().name("3").spawn_blocking(name).unwrap();
        set.build_task().name("4").spawn_blocking_on(name, handle).unwrap();
        set.build_task().name("5").spawn_blocking_parallel(name).unwrap();
        set.build_task().name("6").spawn_blocking_parallel_on(name, handle).unwrap();
        let abort = set.build_task().name("7").spawn_local_on(async move { name() }, &local).unwrap();
        assert_eq!(abort.name(), Some("7"));
        let mut names = local.block_on(runtime, async move {
            set.build_task().name("8").spawn_local(async move { name() }).unwrap();
            set.join_all().await
        });
        names.sort();
        assert_eq!(names, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    });
}
