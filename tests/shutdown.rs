//! Shutdown drops everything that has not ended: whatever it waits for, wherever it is queued, whatever runs
//! beside it, however the runtime ends.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beat::{Handle, JoinHandle, Runtime};
use common::{DropGuard, Drops, Gate, Latch, fib};

const LIMIT: Duration = Duration::from_secs(120);

/// Guards that are counted when they are made and when they are dropped.
#[derive(Clone, Default)]
struct Tally {
    made: Arc<AtomicUsize>,
    drops: Drops,
}

impl Tally {
    fn guard(&self) -> DropGuard {
        self.made.fetch_add(1, SeqCst);
        self.drops.guard()
    }

    fn left(&self) -> usize {
        let dropped = self.drops.count();
        self.made.load(SeqCst) - dropped
    }

    fn wait_until_none_is_left(&self) {
        while self.left() > 0 {
            std::thread::yield_now();
        }
    }
}

/// How a runtime ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Drop,
    Timeout,
    Background,
    InTask,
    InClosure,
    InBlocking,
    InHalf,
}

const ENDS: [End; 7] =
    [End::Drop, End::Timeout, End::Background, End::InTask, End::InClosure, End::InBlocking, End::InHalf];

impl End {
    /// Ends `runtime`; whoever waits for its end may rely on the tally at once.
    fn of(self, runtime: Runtime, tally: &Tally) {
        let handle = runtime.handle().clone();
        match self {
            Self::Drop => drop(runtime),
            Self::Timeout => runtime.shutdown_timeout(LIMIT),
            Self::Background => runtime.shutdown_background(),
            Self::InTask => drop(handle.spawn(async move { drop(runtime) })),
            Self::InClosure => drop(handle.spawn_blocking_parallel(move || drop(runtime))),
            Self::InBlocking => drop(handle.spawn_blocking(move || drop(runtime))),
            Self::InHalf => {
                let halves = move || beat::join(|| fib(10), move || drop(runtime));
                drop(handle.spawn_blocking_parallel(halves));
            }
        }
        if matches!(self, Self::Drop | Self::Timeout) {
            assert_eq!(tally.left(), 0, "{self:?}");
        }
        tally.wait_until_none_is_left();
    }
}

/// Runs a test at 1, 2 and 4 workers, with each end.
fn at_each_size_and_end(test: impl Fn(Runtime, End)) {
    for workers in [1, 2, 4] {
        for end in ENDS {
            common::within(LIMIT, || test(common::runtime(workers), end));
        }
    }
}

/// Tasks that wait for all kinds of things that will not come; returns when all do wait. The result keeps what
/// they wait for.
fn waiting_tasks(runtime: &Runtime, tally: &Tally) -> Vec<Box<dyn std::any::Any>> {
    const OF_EACH: usize = 5;
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
    let (arrived, all) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let expected = Arc::new(AtomicUsize::new(usize::MAX));
    let mut spawned = 0;
    let mut wait_for = |future: Pin<Box<dyn Future<Output = ()> + Send>>| {
        spawned += 1;
        let (arrived, expected, all) = (Arc::clone(&arrived), Arc::clone(&expected), Arc::clone(&all));
        let guard = tally.guard();
        runtime.spawn(async move {
            let _guard = guard;
            let mut future = future;
            let mut first = true;
            std::future::poll_fn(|cx| {
                let poll = future.as_mut().poll(cx);
                assert!(poll.is_pending());
                if std::mem::take(&mut first) && arrived.fetch_add(1, SeqCst) + 1 == expected.load(SeqCst) {
                    all.open();
                }
                poll
            })
            .await;
        })
    };
    let _entered = runtime.enter();
    for _ in 0..OF_EACH {
        let gate = Gate::new();
        kept.push(Box::new(Arc::clone(&gate)));
        drop(wait_for(Box::pin(async move { gate.wait().await })));
        drop(wait_for(Box::pin(std::future::pending())));

        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        kept.push(Box::new(sender));
        drop(wait_for(Box::pin(async { receiver.await.unwrap() })));

        #[cfg(feature = "tokio")]
        {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let stream = std::net::TcpStream::connect(address).unwrap();
            let (silent, _) = listener.accept().unwrap();
            silent.set_nonblocking(true).unwrap();
            listener.set_nonblocking(true).unwrap();
            kept.push(Box::new(stream));
            let silent = tokio::net::TcpStream::from_std(silent).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            drop(wait_for(Box::pin(async move { silent.readable().await.unwrap() })));
            drop(wait_for(Box::pin(async move { drop(listener.accept().await.unwrap()) })));
            drop(wait_for(Box::pin(tokio::time::sleep(Duration::from_secs(100_000)))));
        }

        // A chain of handles, and two that wait for each other.
        let mut last = wait_for(Box::pin(std::future::pending()));
        for _ in 0..3 {
            last = wait_for(Box::pin(async move { last.await.unwrap() }));
        }
        drop(last);
        let slot = Arc::new(Mutex::new(None::<JoinHandle<()>>));
        let first = wait_for(Box::pin({
            let slot = Arc::clone(&slot);
            std::future::poll_fn(move |cx| match &mut *slot.lock().unwrap() {
                Some(second) => Pin::new(second).poll(cx).map(|ended| ended.unwrap()),
                None => std::task::Poll::Pending,
            })
        }));
        *slot.lock().unwrap() = Some(wait_for(Box::pin(async move { first.await.unwrap() })));
    }
    expected.store(spawned, SeqCst);
    if arrived.load(SeqCst) == spawned {
        all.open();
    }
    runtime.block_on(all.wait());
    kept
}

#[test]
fn whatever_a_task_waits_for() {
    at_each_size_and_end(|runtime, end| {
        let tally = Tally::default();
        let _kept = waiting_tasks(&runtime, &tally);
        end.of(runtime, &tally);
    });
}

#[test]
fn tasks_and_closures_that_have_just_been_queued() {
    at_each_size_and_end(|runtime, end| {
        let tally = Tally::default();
        for _ in 0..50 {
            let [task, closure, blocking] = [(); 3].map(|()| tally.guard());
            drop(runtime.spawn(async move {
                let _guard = task;
                std::future::pending::<()>().await;
            }));
            drop(runtime.spawn_blocking_parallel(move || drop(closure)));
            drop(runtime.spawn_blocking(move || drop(blocking)));
        }
        end.of(runtime, &tally);
    });
}

/// What waits and what is queued goes while tasks and closures spin, fork and block: those that spin go on until
/// it has gone.
#[test]
fn what_waits_goes_while_others_are_busy() {
    at_each_size_and_end(|runtime, end| {
        if matches!(end, End::InClosure | End::InHalf) {
            // A closure would wait its turn behind those that do not end before the runtime does.
            return;
        }
        let (waiting, all) = (Tally::default(), Tally::default());
        let _kept = waiting_tasks(&runtime, &waiting);
        let workers = runtime.metrics().workers;
        // One after the other: the next one must not take the worker that one waits for.
        let busy = |spawn: &dyn Fn(Box<dyn FnOnce() + Send>)| {
            let (begun, guard) = (Latch::new(), all.guard());
            let theirs = Arc::clone(&begun);
            spawn(Box::new(move || {
                theirs.set();
                drop(guard);
            }));
            begun.wait();
        };
        let handle = runtime.handle().clone();
        busy(&|begin| {
            let handle = handle.clone();
            drop(handle.clone().spawn_blocking_parallel(move || {
                let never = handle.spawn(std::future::pending::<()>());
                begin();
                assert!(handle.block_on(never).unwrap_err().is_cancelled());
            }));
        });
        busy(&|begin| {
            let handle = handle.clone();
            drop(handle.clone().spawn_blocking(move || {
                let never = handle.spawn(std::future::pending::<()>());
                begin();
                assert!(handle.block_on(never).unwrap_err().is_cancelled());
            }));
        });
        // After the one that blocks: this one keeps its worker until it is cancelled.
        busy(&|begin| {
            drop(handle.spawn_blocking_parallel(move || {
                begin();
                loop {
                    fib(12);
                }
            }));
        });
        // These spin until all that waited has been dropped: a task on the duty thread or a worker, and closures if
        // there is room.
        let until_dropped = |waiting: Tally| {
            move || {
                while waiting.left() > 0 {
                    std::hint::spin_loop();
                }
            }
        };
        busy(&|begin| {
            let spin = until_dropped(waiting.clone());
            drop(handle.spawn(async move {
                begin();
                spin();
            }));
        });
        for _ in 0..workers {
            let (spin, guard) = (until_dropped(waiting.clone()), all.guard());
            drop(handle.spawn_blocking_parallel(move || {
                let _guard = guard;
                spin();
            }));
        }
        // Behind all of them.
        for _ in 0..20 {
            let guard = all.guard();
            drop(handle.spawn_blocking_parallel(move || drop(guard)));
        }
        end.of(runtime, &waiting);
        all.wait_until_none_is_left();
    });
}

/// The runtime is left behind with threads that wait for what only a shutdown that goes on can give them: a task
/// that was still running, and a timer.
#[test]
fn those_who_wait_in_a_runtime_that_nobody_waits_for_are_freed() {
    for workers in [1, 2, 4] {
        for end in ENDS {
            // The first two wait until nobody is left.
            if matches!(end, End::Drop | End::Timeout) {
                continue;
            }
            let (runtime, outer) = (common::runtime(workers), common::runtime(1));
            let handle = runtime.handle().clone();
            let (running, closed) = (Latch::new(), Latch::new());
            let on_time = Latch::new();
            let tally = Tally::default();
            let task = runtime.spawn({
                let (running, closed, guard) = (Arc::clone(&running), Arc::clone(&closed), tally.guard());
                async move {
                    let _guard = guard;
                    running.set();
                    // The shutdown has looked for tasks by then, and has found this one running.
                    closed.wait();
                    std::future::pending::<()>().await;
                }
            });
            running.wait();
            let on_task = runtime.spawn_blocking(move || Handle::current().block_on(task));
            let on_timer = runtime.spawn_blocking({
                let on_time = Arc::clone(&on_time);
                move || {
                    on_time.set();
                    #[cfg(feature = "tokio")]
                    Handle::current().block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
                }
            });
            on_time.wait();
            common::within(LIMIT, || {
                // Whoever ends it tells the task.
                let close = {
                    let closed = Arc::clone(&closed);
                    move || closed.set()
                };
                match end {
                    End::Background => {
                        runtime.shutdown_background();
                        close();
                    }
                    End::InTask => drop(handle.spawn(async move {
                        drop(runtime);
                        close();
                    })),
                    End::InBlocking => drop(handle.spawn_blocking(move || {
                        drop(runtime);
                        close();
                    })),
                    _ => drop(handle.spawn_blocking_parallel(move || {
                        drop(runtime);
                        close();
                    })),
                }
                // It may not have begun, then it has been dropped.
                match outer.block_on(on_task) {
                    Ok(ended) => assert!(ended.unwrap_err().is_cancelled()),
                    Err(error) => assert!(error.is_cancelled(), "{error}"),
                }
                outer.block_on(on_timer).unwrap();
                tally.wait_until_none_is_left();
            });
        }
    }
}

/// Hands itself from one runtime to the other without end.
fn bounce(
    here: Handle,
    there: Handle,
    tally: Tally,
    hops: Arc<AtomicUsize>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let guard = tally.guard();
    Box::pin(async move {
        let _guard = guard;
        if hops.fetch_add(1, SeqCst).is_multiple_of(3) {
            beat::yield_now().await;
        }
        let next = there.spawn(bounce(there.clone(), here, tally, Arc::clone(&hops)));
        // Some wait for what they have spawned.
        if hops.load(SeqCst).is_multiple_of(4) {
            let _ = next.await;
        }
    })
}

#[test]
fn two_runtimes_that_hand_tasks_to_each_other() {
    for workers in [1, 2, 4] {
        for (first, second) in ENDS.into_iter().zip(ENDS.into_iter().rev()) {
            common::within(LIMIT, || {
                let (a, b) = (common::runtime(workers), common::runtime(1 + workers / 2));
                let (tally, hops) = (Tally::default(), Arc::new(AtomicUsize::new(0)));
                for _ in 0..10 {
                    let (here, there) = (a.handle().clone(), b.handle().clone());
                    drop(a.spawn(bounce(here, there, tally.clone(), Arc::clone(&hops))));
                }
                while hops.load(SeqCst) < 1_000 {
                    std::thread::yield_now();
                }
                // Neither end may ask for an empty tally before the other has ended as well.
                std::thread::scope(|scope| {
                    let none = Tally::default();
                    scope.spawn({
                        let none = none.clone();
                        move || first.of(a, &none)
                    });
                    scope.spawn(move || second.of(b, &none));
                });
                tally.wait_until_none_is_left();
            });
        }
    }
}

/// A task is stuck, without Beat's knowing, until another one has gone that it has just put on its own thread's queue.
#[test]
fn what_lies_on_the_queue_of_a_stuck_thread_goes_too() {
    for round in 0..60 {
        common::within(LIMIT, || {
            let runtime = common::runtime(1 + round % 3);
            let drops = Drops::default();
            let running = Latch::new();
            let task = runtime.spawn({
                let (running, guard) = (Arc::clone(&running), drops.guard());
                async move {
                    let (held, gone) = std::sync::mpsc::channel::<()>();
                    drop(beat::spawn(async move {
                        let _guard = guard;
                        std::future::pending::<()>().await;
                        drop(held);
                    }));
                    running.set();
                    gone.recv().unwrap_err();
                }
            });
            running.wait();
            drop(runtime);
            assert_eq!(drops.count(), 1);
            drop(task);
        });
    }
}

/// A shutdown turns the driver for those it waits for, and a task that was given to tokio runs there: it may block as
/// little as on a worker.
#[test]
fn a_task_of_tokios_is_refused_to_block_in_a_shutdown_too() {
    struct Spawns(Arc<Latch>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let (handle, over) = (Handle::current(), Sets(Arc::clone(&self.0)));
            drop(tokio::spawn(async move {
                let _over = over;
                handle.block_on(std::future::pending::<()>());
            }));
        }
    }
    for workers in [1, 2, 4] {
        common::within(LIMIT, || {
            let runtime = common::runtime(workers);
            let (running, over) = (Latch::new(), Latch::new());
            let spawns = Spawns(Arc::clone(&over));
            drop(runtime.spawn(async move {
                let _spawns = spawns;
                std::future::pending::<()>().await;
            }));
            drop(runtime.spawn_blocking({
                let running = Arc::clone(&running);
                move || {
                    running.set();
                    over.wait();
                }
            }));
            running.wait();
            drop(runtime);
        });
    }
}

/// Sets its latch when it goes.
struct Sets(Arc<Latch>);

impl Drop for Sets {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// A task that is being polled when the end comes is left alone, and dropped when its poll is over: now and then by
/// whoever waits for the threads meanwhile, and by the last step if not. Hence some rounds.
#[test]
fn a_task_that_is_polled_meanwhile_is_dropped_after_its_poll() {
    common::within(LIMIT, || (0..20).for_each(|_| drop_while_polled()));
}

fn drop_while_polled() {
    let runtime = common::runtime(2);
    let handle = runtime.handle().clone();
    let (waits, ends) = (Latch::new(), Latch::new());
    drop(runtime.spawn({
        let (waits, ends) = (Arc::clone(&waits), Sets(Arc::clone(&ends)));
        async move {
            let _ends = ends;
            waits.set();
            std::future::pending::<()>().await;
        }
    }));
    waits.wait();
    let (polled, drops) = (Latch::new(), Drops::default());
    let guard = drops.guard();
    drop(runtime.spawn({
        let polled = Arc::clone(&polled);
        async move {
            let _guard = guard;
            polled.set();
            ends.wait();
            std::future::pending::<()>().await;
        }
    }));
    polled.wait();
    drop(runtime);
    assert_eq!(drops.count(), 1);
    // Until here it has kept the runtime's queues.
    drop(handle);
}
