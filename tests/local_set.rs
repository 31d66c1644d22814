//! `LocalSet`: its tasks are polled and dropped on its own thread and no other, whoever wakes or aborts them and
//! whatever ends first; and nobody in it starves.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use beat::LocalSet;
use beat::task::spawn_local;
use common::{Drops, Gate, Latch, Never, at_each_size, panic_message, within};

/// A future that must stay on the thread that made it: it says so if it is polled or dropped elsewhere.
struct Stays<F> {
    home: ThreadId,
    strays: Arc<AtomicUsize>,
    future: Pin<Box<F>>,
    _drop: common::DropGuard,
    not_send: PhantomData<*const ()>,
}

/// Counts the drops of futures, and what happened to them on a wrong thread.
#[derive(Clone, Default)]
struct Watch {
    drops: Drops,
    strays: Arc<AtomicUsize>,
}

impl Watch {
    fn stays<F: Future>(&self, future: F) -> Stays<F> {
        Stays {
            home: thread::current().id(),
            strays: Arc::clone(&self.strays),
            future: Box::pin(future),
            _drop: self.drops.guard(),
            not_send: PhantomData,
        }
    }

    fn check(&self, dropped: usize) {
        assert_eq!((self.drops.count(), self.strays.load(SeqCst)), (dropped, 0));
    }
}

impl<F> Stays<F> {
    fn look(&self) {
        if thread::current().id() != self.home {
            self.strays.fetch_add(1, SeqCst);
        }
    }
}

impl<F: Future> Future for Stays<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.look();
        self.future.as_mut().poll(cx)
    }
}

impl<F> Drop for Stays<F> {
    fn drop(&mut self) {
        self.look();
    }
}

/// Counts wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// One poll, by a waker that nobody listens to.
fn poll_once(future: impl Future<Output = ()>) -> bool {
    let mut future = std::pin::pin!(future);
    future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// A few local tasks that share an `Rc` and end one after the other.
async fn sum_of_locals() -> usize {
    let sum = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..10)
        .map(|i| {
            let sum = Rc::clone(&sum);
            spawn_local(async move {
                beat::yield_now().await;
                sum.set(sum.get() + i);
                Rc::new(i)
            })
        })
        .collect();
    for (i, task) in tasks.into_iter().enumerate() {
        assert_eq!(*task.await.unwrap(), i);
    }
    sum.get()
}

#[test]
fn it_runs_wherever_one_may_block() {
    at_each_size(|runtime| {
        let handle = runtime.handle().clone();
        let run = move || LocalSet::new().block_on(&handle, sum_of_locals());
        assert_eq!(run(), 45);
        assert_eq!(runtime.spawn_blocking(run.clone()).join().unwrap(), 45);
        assert_eq!(runtime.spawn_blocking_parallel(run.clone()).join().unwrap(), 45);
        assert_eq!(runtime.spawn(async move { run() }).join().unwrap(), 45);
        assert_eq!(futures::executor::block_on(LocalSet::new().run_until(sum_of_locals())), 45);
        assert_eq!(runtime.block_on(LocalSet::new().run_until(sum_of_locals())), 45);
    });
}

#[test]
fn tasks_are_polled_in_the_order_in_which_they_became_ready() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let set = LocalSet::new();
    for i in 0..3 {
        let order = Rc::clone(&order);
        drop(set.spawn_local(async move {
            for round in 0..2 {
                order.borrow_mut().push((round, i));
                beat::yield_now().await;
            }
        }));
    }
    futures::executor::block_on(set);
    assert_eq!(*order.borrow(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
}

#[test]
fn wakes_from_other_threads_bring_tasks_home() {
    at_each_size(|runtime| {
        for _ in 0..20 {
            let watch = Watch::default();
            let set = LocalSet::new();
            let gates: Vec<_> = (0..8).map(|_| Gate::new()).collect();
            let tasks: Vec<_> = gates
                .iter()
                .map(|gate| {
                    let gate = Arc::clone(gate);
                    set.spawn_local(watch.stays(async move { gate.wait().await }))
                })
                .collect();
            for gates in gates.chunks(2) {
                let gates = gates.to_vec();
                drop(runtime.spawn(async move { gates.iter().for_each(|gate| gate.open()) }));
            }
            set.block_on(runtime, async {
                for task in tasks {
                    task.await.unwrap();
                }
            });
            watch.check(8);
        }
    });
}

#[test]
fn a_task_aborted_from_elsewhere_is_dropped_at_home() {
    at_each_size(|runtime| {
        let watch = Watch::default();
        let set = LocalSet::new();
        let task = set.spawn_local(watch.stays(pending::<()>()));
        // Begun, or not.
        let other = set.spawn_local(watch.stays(pending::<()>()));
        assert!(!poll_once(set.run_until(pending())));
        let fresh = set.spawn_local(watch.stays(pending::<()>()));
        let (by_handle, by_abort_handle) = (task, other.abort_handle());
        let fresh_abort = fresh.abort_handle();
        let by_handle = runtime
            .spawn_blocking(move || {
                by_handle.abort();
                by_abort_handle.abort();
                fresh_abort.abort();
                by_handle
            })
            .join()
            .unwrap();
        // Nobody has polled the set since.
        watch.check(0);
        assert!(!by_handle.is_finished());
        set.block_on(runtime, async {
            assert!(by_handle.await.unwrap_err().is_cancelled());
            assert!(other.await.unwrap_err().is_cancelled());
            assert!(fresh.await.unwrap_err().is_cancelled());
        });
        watch.check(3);
        assert!(poll_once(set), "nothing is left");
    });
}

#[test]
fn an_abort_wakes_whoever_polls_the_set() {
    at_each_size(|runtime| {
        for _ in 0..50 {
            let watch = Watch::default();
            let set = LocalSet::new();
            let task = set.spawn_local(watch.stays(pending::<()>()));
            let abort = task.abort_handle();
            let aborter = runtime.spawn(async move { abort.abort() });
            runtime.block_on(set);
            watch.check(1);
            assert!(task.join().unwrap_err().is_cancelled());
            aborter.join().unwrap();
        }
    });
}

#[test]
fn dropping_the_set_drops_its_tasks_here() {
    at_each_size(|runtime| {
        let watch = Watch::default();
        let set = LocalSet::new();
        let gate = Gate::new();
        let waits = set.spawn_local(watch.stays({
            let gate = Arc::clone(&gate);
            async move { gate.wait().await }
        }));
        assert!(!poll_once(set.run_until(pending())));
        let queued = set.spawn_local(watch.stays(async { 5 }));
        let detached_abort = set.spawn_local(watch.stays(pending::<()>())).abort_handle();
        assert!(format!("{set:?}").contains("tasks: 3"), "{set:?}");
        drop(set);
        watch.check(3);
        // What is left of them can be used anywhere, and does nothing.
        assert!(detached_abort.is_finished());
        let elsewhere = thread::spawn(move || {
            gate.open();
            detached_abort.abort();
            waits.abort();
            assert!(waits.is_finished());
            assert!(waits.join().unwrap_err().is_cancelled());
        });
        elsewhere.join().unwrap();
        assert!(runtime.block_on(queued).unwrap_err().is_cancelled());
    });
}

/// Others are just waking tasks when the set goes: it waits for those that they have in hand.
#[test]
fn dropping_the_set_races_with_wakes_and_aborts() {
    at_each_size(|runtime| {
        for round in 0..100 {
            let watch = Watch::default();
            let set = LocalSet::new();
            let gates: Vec<_> = (0..6).map(|_| Gate::new()).collect();
            let aborts: Vec<_> = gates
                .iter()
                .map(|gate| {
                    let gate = Arc::clone(gate);
                    set.spawn_local(watch.stays(async move { gate.wait().await })).abort_handle()
                })
                .collect();
            assert!(!poll_once(set.run_until(pending())));
            let begun = Latch::new();
            let others = runtime.spawn_blocking({
                let begun = Arc::clone(&begun);
                move || {
                    begun.set();
                    for (gate, abort) in gates.iter().zip(&aborts) {
                        if round % 2 == 0 { gate.open() } else { abort.abort() }
                    }
                }
            });
            begun.wait();
            if round % 3 == 0 {
                poll_once(set.run_until(pending()));
            }
            drop(set);
            watch.check(6);
            others.join().unwrap();
        }
    });
}

#[test]
fn what_destructors_spawn_into_a_set_that_goes_is_cancelled() {
    struct SpawnsWhenDropped(Rc<RefCell<Vec<beat::JoinHandle<()>>>>, Drops);
    impl Drop for SpawnsWhenDropped {
        fn drop(&mut self) {
            self.0.borrow_mut().push(spawn_local(Never(self.1.guard())));
        }
    }
    let (handles, drops) = (Rc::new(RefCell::new(Vec::new())), Drops::default());
    let set = LocalSet::new();
    let entered = set.enter();
    let guard = SpawnsWhenDropped(Rc::clone(&handles), drops.clone());
    drop(spawn_local(async move {
        let _guard = guard;
        pending::<()>().await;
    }));
    drop(set);
    // The guard outlives the set.
    handles.borrow_mut().push(spawn_local(Never(drops.guard())));
    assert_eq!(drops.count(), 2, "at once");
    drop(entered);
    for handle in handles.take() {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
}

#[test]
fn a_set_may_go_with_its_thread() {
    thread_local! {
        static SET: RefCell<Option<LocalSet>> = const { RefCell::new(None) };
    }
    let watch = Watch::default();
    let handle = thread::spawn({
        let watch = watch.clone();
        move || {
            let set = LocalSet::new();
            let task = set.spawn_local(watch.stays(pending::<u8>()));
            assert!(!poll_once(set.run_until(pending())));
            SET.set(Some(set));
            task
        }
    });
    let task = handle.join().unwrap();
    watch.check(1);
    assert!(task.join().unwrap_err().is_cancelled());
}

#[test]
fn the_end_of_the_runtime_leaves_the_set_alone() {
    for workers in [1, 2, 4] {
        within(Duration::from_secs(60), || {
            let watch = Watch::default();
            let runtime = common::runtime(workers);
            let handle = runtime.handle().clone();
            let set = LocalSet::new();
            let remote = runtime.spawn(pending::<()>());
            let task = set.spawn_local(watch.stays(async move { remote.await.unwrap_err().is_cancelled() }));
            let idle = set.spawn_local(watch.stays(pending::<()>()));
            let begun = Latch::new();
            let stops = thread::spawn({
                let begun = Arc::clone(&begun);
                move || {
                    begun.wait();
                    drop(runtime);
                }
            });
            let cancelled = set.block_on(&handle, async {
                begun.set();
                task.await.unwrap()
            });
            assert!(cancelled);
            stops.join().unwrap();
            assert!(!idle.is_finished());
            // It can go on without the runtime.
            let late = set.spawn_local(async { 5 });
            assert_eq!(futures::executor::block_on(set.run_until(late)).unwrap(), 5);
            watch.check(1);
            drop(set);
            watch.check(2);
        });
    }
}

/// The closure that runs a set is asked to end; the set ends when its future does.
#[test]
fn a_shutdown_reaches_a_set_inside_a_closure() {
    for workers in [1, 2] {
        let runtime = common::runtime(workers);
        let watch = Watch::default();
        let begun = Latch::new();
        let handle = runtime.handle().clone();
        let ran = runtime.spawn_blocking({
            let (watch, begun) = (watch.clone(), Arc::clone(&begun));
            move || {
                let remote = handle.spawn(pending::<()>());
                LocalSet::new().block_on(&handle, async {
                    drop(spawn_local(watch.stays(pending::<()>())));
                    begun.set();
                    remote.await.unwrap_err().is_cancelled()
                })
            }
        });
        begun.wait();
        within(Duration::from_secs(60), || drop(runtime));
        watch.check(1);
        assert!(ran.join().unwrap());
    }
}

#[test]
fn a_panic_goes_to_the_handle_and_the_set_goes_on() {
    at_each_size(|runtime| {
        LocalSet::new().block_on(runtime, async {
            let fails = spawn_local(async { panic!("local trouble") });
            let goes_on = spawn_local(async {
                beat::yield_now().await;
                7
            });
            let error = fails.await.unwrap_err();
            assert!(error.is_panic() && error.to_string().ends_with("panicked: local trouble"), "{error}");
            assert_eq!(goes_on.await.unwrap(), 7);
        });
    });
}

#[test]
fn a_panic_of_the_future_beside_the_set_leaves_it_usable() {
    let set = LocalSet::new();
    let message = panic_message(|| {
        futures::executor::block_on(set.run_until(async {
            drop(spawn_local(async {}));
            panic!("beside")
        }))
    });
    assert_eq!(message, "beside");
    assert!(panic_message(|| spawn_local(async {})).contains("outside of a `LocalSet`"), "the set was left");
    futures::executor::block_on(set);
}

#[test]
fn spawn_local_outside_of_a_set_says_where_to_call_it() {
    let message = panic_message(|| spawn_local(async {}));
    assert!(message.contains("`LocalSet::run_until`"), "{message}");
    at_each_size(|runtime| {
        let error = runtime.spawn(async { drop(spawn_local(async {})) }).join().unwrap_err();
        assert!(error.to_string().contains("outside of a `LocalSet`"), "{error}");
        // Another thread than the set's is outside.
        let set = LocalSet::new();
        let _entered = set.enter();
        let error = runtime.spawn(async { drop(spawn_local(async {})) }).join().unwrap_err();
        assert!(error.is_panic());
    });
}

#[test]
fn sets_may_be_entered_and_left_in_any_order() {
    let (first, second) = (LocalSet::new(), LocalSet::new());
    let in_first = first.enter();
    let in_second = second.enter();
    let task = spawn_local(async { "second" });
    drop(in_first);
    let also = spawn_local(async { "second" });
    drop(in_second);
    assert!(panic_message(|| spawn_local(async {})).contains("outside"));
    drop(first);
    assert_eq!(futures::executor::block_on(second.run_until(task)).unwrap(), "second");
    assert_eq!(futures::executor::block_on(second.run_until(also)).unwrap(), "second");
}

#[test]
fn a_set_inside_a_task_of_another_set() {
    at_each_size(|runtime| {
        let outer = LocalSet::new();
        let value = outer.block_on(runtime, async {
            let task = spawn_local(async {
                let inner = LocalSet::new();
                inner.run_until(async { spawn_local(async { 5 }).await.unwrap() }).await
            });
            task.await.unwrap() + spawn_local(async { 6 }).await.unwrap()
        });
        assert_eq!(value, 11);
    });
}

#[test]
fn a_task_may_await_its_own_set_but_not_block_on_it() {
    at_each_size(|runtime| {
        let set = Rc::new(LocalSet::new());
        let awaited = set.spawn_local({
            let set = Rc::clone(&set);
            async move {
                let sibling = set.spawn_local(async {
                    beat::yield_now().await;
                    5
                });
                set.run_until(sibling).await.unwrap()
            }
        });
        assert_eq!(set.block_on(runtime, awaited).unwrap(), 5);

        let gate = Gate::new();
        let woken = set.spawn_local({
            let (set, gate) = (Rc::clone(&set), Arc::clone(&gate));
            async move { set.run_until(async move { gate.wait().await }).await }
        });
        drop(runtime.spawn(async move { gate.open() }));
        set.block_on(runtime, woken).unwrap();

        let blocked = set.spawn_local({
            let (set, handle) = (Rc::clone(&set), runtime.handle().clone());
            async move { set.block_on(&handle, async {}) }
        });
        let error = set.block_on(runtime, blocked).unwrap_err();
        assert!(error.to_string().contains("a task of the same set"), "{error}");
    });
}

/// A task that polls its own set stands on the stack: the others wait until its poll is over.
#[test]
fn nothing_of_the_set_runs_on_top_of_a_task() {
    at_each_size(|runtime| {
        let set = Rc::new(LocalSet::new());
        let inside = Rc::new(Cell::new(false));
        let sibling = set.spawn_local({
            let inside = Rc::clone(&inside);
            async move {
                for _ in 0..10 {
                    assert!(!inside.get(), "on top of a sibling");
                    beat::yield_now().await;
                }
            }
        });
        let nested = set.spawn_local({
            let set = Rc::clone(&set);
            async move {
                let mut own = Box::pin(set.run_until(sibling));
                poll_fn(|cx| {
                    inside.set(true);
                    let polled = own.as_mut().poll(cx);
                    inside.set(false);
                    polled
                })
                .await
            }
        });
        set.block_on(runtime, nested).unwrap().unwrap();
    });
}

/// It is a future: it ends at its next suspension point and does not unwind at a fork, as a closure does.
#[test]
fn an_aborted_task_that_forks_is_not_unwound() {
    at_each_size(|runtime| {
        LocalSet::new().block_on(runtime, async {
            let own: Rc<RefCell<Option<beat::AbortHandle>>> = Rc::default();
            let task = spawn_local({
                let own = Rc::clone(&own);
                async move {
                    own.take().unwrap().abort();
                    assert!(beat::is_cancelled());
                    common::fib(15)
                }
            });
            *own.borrow_mut() = Some(task.abort_handle());
            assert_eq!(task.await.unwrap(), 610);
        });
    });
}

#[test]
fn join_on_the_thread_of_the_set_would_wait_for_ever() {
    at_each_size(|runtime| {
        let set = LocalSet::new();
        let task = set.spawn_local(pending::<()>());
        let message = panic_message(|| task.join());
        assert!(message.contains("on the thread of the `LocalSet`"), "{message}");
        // From another thread, and of a task that has ended, it is fine.
        let (ended, moved) = (set.spawn_local(async { 4 }), set.spawn_local(async { 5 }));
        let joined = runtime.spawn_blocking(move || moved.join().unwrap());
        assert_eq!(set.block_on(runtime, joined).unwrap(), 5);
        assert!(ended.is_finished());
        assert_eq!(ended.join().unwrap(), 4);
    });
}

#[test]
fn a_handle_may_be_awaited_elsewhere() {
    at_each_size(|runtime| {
        let set = LocalSet::new();
        let gate = Gate::new();
        let task = set.spawn_local({
            let gate = Arc::clone(&gate);
            let local = Rc::new(5);
            async move {
                gate.wait().await;
                *local
            }
        });
        let remote = runtime.spawn(async move {
            gate.open();
            task.await.unwrap()
        });
        assert_eq!(set.block_on(runtime, remote).unwrap(), 5);
    });
}

#[test]
fn neither_the_future_nor_the_tasks_starve() {
    let polls = Rc::new(Cell::new(0));
    let set = LocalSet::new();
    for _ in 0..3 {
        let polls = Rc::clone(&polls);
        drop(set.spawn_local(async move {
            loop {
                polls.set(polls.get() + 1);
                beat::yield_now().await;
            }
        }));
    }
    let mut turns = 0;
    let counts = futures::executor::block_on(set.run_until(poll_fn(|cx| {
        turns += 1;
        cx.waker().wake_by_ref();
        if turns == 11 { Poll::Ready(polls.get()) } else { Poll::Pending }
    })));
    assert_eq!(counts, 10 * 61);
}

/// What comes from outside is seen to although tasks of the set are ready all the time.
#[test]
fn tasks_woken_from_outside_do_not_starve() {
    at_each_size(|runtime| {
        let set = LocalSet::new();
        let gate = Gate::new();
        let waits = set.spawn_local({
            let gate = Arc::clone(&gate);
            async move { gate.wait().await }
        });
        drop(set.spawn_local(async {
            loop {
                beat::yield_now().await;
            }
        }));
        drop(runtime.spawn(async move { gate.open() }));
        set.block_on(runtime, waits).unwrap();
    });
}

#[test]
fn the_poller_is_woken_for_what_a_full_batch_or_an_ended_future_leaves() {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let cx = &mut Context::from_waker(&waker);
    let set = LocalSet::new();
    for _ in 0..61 {
        drop(set.spawn_local(async {}));
    }
    {
        let mut run = std::pin::pin!(set.run_until(pending::<()>()));
        assert!(run.as_mut().poll(cx).is_pending());
        assert_eq!(wakes.0.load(SeqCst), 0, "all were polled");
        for _ in 0..62 {
            drop(set.spawn_local(async {}));
        }
        assert!(wakes.0.load(SeqCst) > 0, "a spawn from outside of a poll wakes");
        let before = wakes.0.load(SeqCst);
        assert!(run.as_mut().poll(cx).is_pending());
        assert_eq!(wakes.0.load(SeqCst), before + 1, "one was left");
        assert!(run.as_mut().poll(cx).is_pending());
        assert_eq!(wakes.0.load(SeqCst), before + 1);
    }
    let before = wakes.0.load(SeqCst);
    let spawns = set.run_until(async { drop(spawn_local(async {})) });
    assert!(Box::pin(spawns).as_mut().poll(cx).is_ready());
    assert_eq!(wakes.0.load(SeqCst), before + 1);
    assert!(!poll_once(set.run_until(pending())));
    assert!(poll_once(set));
}

#[test]
fn large_futures_and_detached_ones() {
    at_each_size(|runtime| {
        let watch = Watch::default();
        let set = LocalSet::new();
        drop(set.spawn_local(watch.stays(async {})));
        let large = [7_u8; 5000];
        let task = set.spawn_local(async move {
            beat::yield_now().await;
            large.iter().map(|byte| usize::from(*byte)).sum::<usize>()
        });
        assert_eq!(set.block_on(runtime, task).unwrap(), 35_000);
        runtime.block_on(set);
        watch.check(1);
    });
}

#[test]
fn ids_names_and_sites_are_those_of_any_task() {
    let set = LocalSet::new();
    let plain = set.spawn_local(async { (beat::task::id(), beat::task::name()) });
    let (id, site) = (plain.id(), plain.spawn_site());
    assert!(site.file().ends_with("local_set.rs"));
    assert_eq!(futures::executor::block_on(set.run_until(plain)).unwrap(), (id, None));
    let named = beat::task::Builder::new().name("here").spawn_local_on(async { beat::task::name() }, &set);
    let name = futures::executor::block_on(set.run_until(named.unwrap())).unwrap();
    assert_eq!(name.as_deref(), Some("here"));
}

#[test]
fn tasks_may_fork_and_spawn() {
    at_each_size(|runtime| {
        LocalSet::new().block_on(runtime, async {
            let task = spawn_local(async {
                let here = Rc::new(1);
                let forked = common::fib(15);
                let remote = beat::spawn(async { 2 }).await.unwrap();
                let closure = beat::spawn_blocking_parallel(|| common::fib(10)).await.unwrap();
                *here + forked + remote + closure
            });
            assert_eq!(task.await.unwrap(), 1 + 610 + 2 + 55);
        });
    });
}

#[test]
fn the_traits_of_futures_spawn_into_it() {
    use futures::task::{LocalSpawnExt, SpawnExt};
    let set = LocalSet::new();
    let local = Rc::new(5);
    let task = set.spawn_local_with_handle(async move { *local }).unwrap();
    let other = set.spawn_with_handle(async { 6 }).unwrap();
    assert_eq!(futures::executor::block_on(set.run_until(async { task.await + other.await })), 11);
}

/// Each task of a set has its own budget; what the task outside has left is its own affair.
#[test]
fn the_time_budget_works_in_it() {
    for workers in [1, 2] {
        let runtime =
            beat::Runtime::builder().worker_threads(workers).poll_budget(Duration::ZERO).build().unwrap();
        within(Duration::from_secs(60), || {
            LocalSet::new().block_on(&runtime, async {
                let stop = Rc::new(Cell::new(false));
                let greedy = spawn_local({
                    let stop = Rc::clone(&stop);
                    async move {
                        while !stop.get() {
                            beat::task::consume_budget().await;
                        }
                    }
                });
                spawn_local(async move { stop.set(true) }).await.unwrap();
                greedy.await.unwrap();
            });
        });
    }
}

#[cfg(feature = "tokio")]
mod with_tokio {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn tokios_budget_works_in_it() {
        at_each_size(|runtime| {
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            LocalSet::new().block_on(runtime, async move {
                let stop = Rc::new(Cell::new(false));
                let greedy = spawn_local({
                    let stop = Rc::clone(&stop);
                    let again = sender.clone();
                    async move {
                        again.send(()).unwrap();
                        // There is always a message.
                        while !stop.get() {
                            receiver.recv().await.unwrap();
                            again.send(()).unwrap();
                        }
                    }
                });
                spawn_local(async move { stop.set(true) }).await.unwrap();
                greedy.await.unwrap();
            });
        });
    }

    /// Each task begins with what tokio gives a task, and the future beside the set has its own.
    #[test]
    fn each_task_has_a_budget_of_its_own() {
        use tokio::task::coop::{consume_budget, has_budget_remaining};
        async fn operations_in_a_poll() -> u32 {
            let mut operations = 0;
            while has_budget_remaining() && operations < 1000 {
                consume_budget().await;
                operations += 1;
            }
            operations
        }
        at_each_size(|runtime| {
            LocalSet::new().block_on(runtime, async {
                for _ in 0..3 {
                    let operations = spawn_local(operations_in_a_poll()).await.unwrap();
                    assert!((100..=128).contains(&operations), "{operations}");
                }
                // `block_on` has one too, some of which this poll may have spent.
                let operations = operations_in_a_poll().await;
                assert!((64..=128).contains(&operations), "{operations}");
            });
        });
    }

    #[test]
    fn timers_and_sockets_work_in_it() {
        at_each_size(|runtime| {
            LocalSet::new().block_on(runtime, async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let server = spawn_local(async move {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let byte = stream.read_u8().await.unwrap();
                    stream.write_u8(byte + 1).await.unwrap();
                });
                let client = spawn_local(async move {
                    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                    stream.write_u8(6).await.unwrap();
                    stream.read_u8().await.unwrap()
                });
                let slept = spawn_local(tokio::time::sleep(Duration::from_millis(1)));
                let late = spawn_local(tokio::time::timeout(Duration::from_millis(1), pending::<()>()));
                assert_eq!(client.await.unwrap(), 7);
                server.await.unwrap();
                slept.await.unwrap();
                assert!(late.await.unwrap().is_err());
            });
        });
    }

    #[test]
    fn tokios_own_set_works_too() {
        at_each_size(|runtime| {
            let set = tokio::task::LocalSet::new();
            let value = runtime.block_on(set.run_until(async {
                let local = Rc::new(5);
                let task = tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    *local
                });
                task.await.unwrap() + beat::spawn(async { 1 }).await.unwrap()
            }));
            assert_eq!(value, 6);
        });
    }

    #[test]
    fn a_set_of_ours_under_tokio() {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let value = tokio.block_on(LocalSet::new().run_until(async {
            let local = Rc::new(5);
            spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                *local
            })
            .await
            .unwrap()
        }));
        assert_eq!(value, 5);
    }
}
