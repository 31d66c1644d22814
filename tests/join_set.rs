//! `JoinSet`: results come as tasks end, each once; what is left is aborted, or detached on demand.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use beat::JoinSet;
use common::{Drops, Gate, Latch, Never, at_each_size, panic_message};

/// Counts wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// The next result of a set whose next task is about to end.
fn spin_for<T>(mut next: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = next() {
            return value;
        }
        std::thread::yield_now();
    }
}

#[test]
fn results_come_as_tasks_end() {
    at_each_size(|runtime| {
        let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
        let mut set = JoinSet::new();
        for (i, gate) in gates.iter().cloned().enumerate() {
            let task = async move {
                gate.wait().await;
                i
            };
            set.spawn_on(task, runtime.handle());
        }
        assert_eq!(set.len(), 4);
        for (left, i) in [2, 0, 3, 1].into_iter().enumerate() {
            assert!(set.try_join_next().is_none());
            gates[i].open();
            assert_eq!(runtime.block_on(set.join_next()).unwrap().unwrap(), i);
            assert_eq!(set.len(), 3 - left);
        }
        assert!(set.is_empty());
        assert!(runtime.block_on(set.join_next()).is_none());
        assert!(set.try_join_next().is_none());
    });
}

#[test]
fn futures_and_closures_of_every_kind_share_a_set() {
    at_each_size(|runtime| {
        let mut values = runtime.block_on(async {
            let mut set = JoinSet::default();
            set.spawn(async { 1 });
            set.spawn_blocking(|| 2);
            set.spawn_blocking_parallel(|| common::fib(10));
            set.join_all().await
        });
        values.sort_unstable();
        assert_eq!(values, [1, 2, 55]);

        let mut set = JoinSet::new();
        let handle = runtime.handle();
        set.spawn_on(async { 1 }, handle);
        set.spawn_blocking_on(|| 2, handle);
        set.spawn_blocking_parallel_on(|| common::fib(10), handle);
        let mut values = runtime.block_on(set.join_all());
        values.sort_unstable();
        assert_eq!(values, [1, 2, 55]);
    });
}

#[test]
fn each_result_comes_once_out_of_many() {
    at_each_size(|runtime| {
        let mut values = runtime.block_on(async {
            let mut set: JoinSet<_> = (0..500_u32).map(|i| async move { i }).collect();
            set.extend((500..1000).map(|i| async move {
                beat::yield_now().await;
                i
            }));
            let mut values = Vec::new();
            while let Some(result) = set.join_next().await {
                values.push(result.unwrap());
            }
            values
        });
        values.sort_unstable();
        assert!(values.into_iter().eq(0..1000));
    });
}

#[test]
fn ids_match() {
    at_each_size(|runtime| {
        let mut set = JoinSet::new();
        let mut ids: Vec<_> =
            (0..10).map(|_| set.spawn_on(async { beat::task::id() }, runtime.handle()).id()).collect();
        let mut seen = Vec::new();
        for i in 0..10 {
            let (id, own) = if i % 2 == 0 {
                runtime.block_on(set.join_next_with_id()).unwrap().unwrap()
            } else {
                spin_for(|| set.try_join_next_with_id()).unwrap()
            };
            assert_eq!(id, own);
            seen.push(id);
        }
        ids.sort();
        seen.sort();
        assert_eq!(ids, seen);

        let failing = set.spawn_on(async { panic!("with a number") }, runtime.handle());
        let error = runtime.block_on(set.join_next_with_id()).unwrap().unwrap_err();
        assert_eq!(error.id(), failing.id());
    });
}

#[test]
fn abort_all_gives_cancellations_and_keeps_what_had_ended() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let mut set = JoinSet::new();
        let ended = set.spawn_on(async {}, runtime.handle());
        while !ended.is_finished() {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            set.spawn_on(Never(drops.guard()), runtime.handle());
        }
        set.abort_all();
        assert_eq!(set.len(), 4);
        let mut values = 0;
        while let Some(result) = runtime.block_on(set.join_next_with_id()) {
            match result {
                Ok((id, ())) => {
                    assert_eq!(id, ended.id());
                    values += 1;
                }
                Err(error) => assert!(error.is_cancelled()),
            }
        }
        assert_eq!((values, drops.count()), (1, 3));
    });
}

#[test]
fn one_abort_handle_ends_one_task() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let mut set = JoinSet::new();
        let first = set.spawn_on(Never(drops.guard()), runtime.handle());
        let second = set.spawn_on(Never(drops.guard()), runtime.handle());
        second.abort();
        let error = runtime.block_on(set.join_next()).unwrap().unwrap_err();
        assert!(error.is_cancelled());
        assert_eq!(error.id(), second.id());
        assert!(!first.is_finished());
        assert_eq!((set.len(), drops.count()), (1, 1));
    });
}

#[test]
fn drop_aborts() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let mut set = JoinSet::new();
        let ends: Vec<_> = (0..3).map(|_| set.spawn_on(Never(drops.guard()), runtime.handle())).collect();
        drop(set);
        while !ends.iter().all(beat::AbortHandle::is_finished) {
            std::thread::yield_now();
        }
        assert_eq!(drops.count(), 3);
    });
}

#[test]
fn detach_all_lets_them_run() {
    at_each_size(|runtime| {
        let gate = Gate::new();
        let begin = Latch::new();
        let ran: Vec<_> = (0..2).map(|_| Latch::new()).collect();
        let mut set = JoinSet::new();
        set.spawn_on(
            {
                let (gate, ran) = (Arc::clone(&gate), Arc::clone(&ran[0]));
                async move {
                    gate.wait().await;
                    ran.set();
                }
            },
            runtime.handle(),
        );
        set.spawn_blocking_on(
            {
                let (begin, ran) = (Arc::clone(&begin), Arc::clone(&ran[1]));
                move || {
                    begin.wait();
                    ran.set();
                }
            },
            runtime.handle(),
        );
        set.detach_all();
        assert!(set.is_empty());
        assert!(runtime.block_on(set.join_next()).is_none());
        drop(set);
        gate.open();
        begin.set();
        ran.iter().for_each(|ran| ran.wait());
    });
}

#[test]
fn a_panic_reaches_join_next_and_no_further() {
    at_each_size(|runtime| {
        let mut set = JoinSet::new();
        set.spawn_on(async { panic!("of a future") }, runtime.handle());
        let error = runtime.block_on(set.join_next()).unwrap().unwrap_err();
        assert_eq!(*error.into_panic().downcast::<&str>().unwrap(), "of a future");
        set.spawn_blocking_parallel_on(|| panic!("of a closure"), runtime.handle());
        let error = spin_for(|| set.try_join_next()).unwrap_err();
        assert_eq!(*error.into_panic().downcast::<&str>().unwrap(), "of a closure");
        set.spawn_on(async {}, runtime.handle());
        assert!(runtime.block_on(set.join_next()).unwrap().is_ok());
    });
}

#[test]
fn join_all_hands_on_the_first_failure_and_aborts_the_others() {
    at_each_size(|runtime| {
        let fails_with = |fail: fn(&beat::AbortHandle)| {
            let drops = Drops::default();
            let mut set = JoinSet::new();
            let gate = Gate::new();
            let failing = set.spawn_on(
                {
                    let gate = Arc::clone(&gate);
                    async move {
                        gate.wait().await;
                        panic!("the first")
                    }
                },
                runtime.handle(),
            );
            let other = set.spawn_on(Never(drops.guard()), runtime.handle());
            fail(&failing);
            gate.open();
            let message = panic_message(|| runtime.block_on(set.join_all()));
            while !other.is_finished() {
                std::thread::yield_now();
            }
            assert_eq!(drops.count(), 1);
            message
        };
        assert_eq!(fails_with(|_| {}), "the first");
        let message = fails_with(beat::AbortHandle::abort);
        assert!(message.contains("cancelled"), "{message}");
    });
}

#[test]
fn a_join_next_that_is_dropped_loses_nothing() {
    at_each_size(|runtime| {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = &mut Context::from_waker(&waker);
        let gates: Vec<_> = (0..3).map(|_| Gate::new()).collect();
        let mut set = JoinSet::new();
        for (i, gate) in gates.iter().cloned().enumerate() {
            let task = async move {
                gate.wait().await;
                i
            };
            set.spawn_on(task, runtime.handle());
        }
        assert!(pin!(set.join_next()).poll(cx).is_pending());
        gates.iter().for_each(|gate| gate.open());
        // Polled at any moment of the tasks' ends, and dropped each time.
        let mut values: Vec<_> = (0..3)
            .map(|_| {
                spin_for(|| match pin!(set.join_next()).poll(cx) {
                    Poll::Ready(result) => result,
                    Poll::Pending => None,
                })
                .unwrap()
            })
            .collect();
        values.sort_unstable();
        assert_eq!(values, [0, 1, 2]);
        assert!(set.is_empty());
    });
}

#[test]
fn whoever_waits_is_woken_after_a_look_and_after_a_spawn() {
    at_each_size(|runtime| {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = &mut Context::from_waker(&waker);
        let gate = Gate::new();
        let mut set = JoinSet::new();
        let spawn_gated = |set: &mut JoinSet<()>| {
            let gate = Arc::clone(&gate);
            set.spawn_on(async move { gate.wait().await }, runtime.handle())
        };
        let wait = |set: &mut JoinSet<()>, cx: &mut Context<'_>| {
            // It asks to be polled again as long as it has not settled.
            loop {
                wakes.0.store(0, SeqCst);
                assert!(set.poll_join_next(cx).is_pending());
                if wakes.0.load(SeqCst) == 0 {
                    return;
                }
            }
        };
        let never = set.spawn_on(std::future::pending(), runtime.handle());
        wait(&mut set, cx);
        // A look without a context does not take the waiter's place.
        spawn_gated(&mut set);
        wait(&mut set, cx);
        assert!(set.try_join_next().is_none());
        assert_eq!(wakes.0.load(SeqCst), 0);
        gate.open();
        while wakes.0.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert!(spin_for(|| set.try_join_next()).is_ok());
        // A task that was spawned after the wait began is waited for as well.
        wait(&mut set, cx);
        spawn_gated(&mut set);
        while wakes.0.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        let mut poll = || match set.poll_join_next_with_id(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => None,
        };
        let (id, ()) = spin_for(&mut poll).unwrap();
        assert_ne!(id, never.id());
        assert_eq!(set.len(), 1);
    });
}

#[test]
fn shutdown_ends_futures_and_closures_and_drops_what_they_hold() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let mut set = JoinSet::new();
        set.spawn_on(Never(drops.guard()), runtime.handle());
        let forks = Latch::new();
        set.spawn_blocking_parallel_on(
            {
                let (guard, forks) = (drops.guard(), Arc::clone(&forks));
                move || {
                    let _guard = guard;
                    forks.set();
                    // Only a cancellation ends this.
                    loop {
                        beat::join(|| (), || ());
                    }
                }
            },
            runtime.handle(),
        );
        let blocks = Latch::new();
        set.spawn_blocking_on(
            {
                let (guard, blocks) = (drops.guard(), Arc::clone(&blocks));
                move || {
                    let _guard = guard;
                    blocks.set();
                    while !beat::is_cancelled() {
                        std::thread::yield_now();
                    }
                }
            },
            runtime.handle(),
        );
        forks.wait();
        blocks.wait();
        runtime.block_on(set.shutdown());
        assert!(set.is_empty());
        assert_eq!(drops.count(), 3);
        // It can be used again.
        set.spawn_on(async {}, runtime.handle());
        assert!(runtime.block_on(set.join_next()).unwrap().is_ok());
    });
}

#[test]
fn a_closure_that_waits_for_a_worker_is_dropped_by_shutdown() {
    // The only worker computes until it is asked to end.
    let runtime = common::runtime(1);
    let drops = Drops::default();
    let begun = Latch::new();
    let mut set = JoinSet::new();
    set.spawn_blocking_parallel_on(
        {
            let begun = Arc::clone(&begun);
            move || {
                begun.set();
                while !beat::is_cancelled() {
                    std::hint::spin_loop();
                }
            }
        },
        runtime.handle(),
    );
    begun.wait();
    let guard = drops.guard();
    let second = set.spawn_blocking_parallel_on(move || drop(guard), runtime.handle());
    runtime.block_on(set.shutdown());
    assert!(second.is_finished());
    assert_eq!(drops.count(), 1);
}

#[test]
fn the_end_of_the_runtime_reaches_the_set() {
    at_each_size(|_| {
        let drops = Drops::default();
        let runtime = common::runtime(2);
        let mut set = JoinSet::new();
        for _ in 0..3 {
            set.spawn_on(Never(drops.guard()), runtime.handle());
        }
        drop(runtime);
        assert_eq!(drops.count(), 3);
        for _ in 0..3 {
            assert!(set.try_join_next().unwrap().unwrap_err().is_cancelled());
        }
        assert!(set.is_empty());
    });
}

#[test]
fn it_shows_its_length() {
    let runtime = common::runtime(1);
    let mut set = JoinSet::new();
    set.spawn_on(async {}, runtime.handle());
    assert_eq!(format!("{set:?}"), "JoinSet { len: 1 }");
}

#[test]
fn a_set_goes_where_its_values_may_go() {
    fn goes<T: Send + Sync + Unpin>() {}
    goes::<JoinSet<u8>>();
    goes::<JoinSet<std::cell::Cell<u8>>>();
}

/// A look that does not wait cannot yield either: a spent budget must not make it go round for ever.
#[test]
fn looking_without_waiting_has_no_budget() {
    let runtime =
        beat::Runtime::builder().worker_threads(1).poll_budget(std::time::Duration::ZERO).build().unwrap();
    common::within(std::time::Duration::from_secs(60), || {
        let all = runtime.spawn(async {
            let mut set = beat::JoinSet::new();
            let ended = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            for i in 0..100 {
                let ended = std::sync::Arc::clone(&ended);
                set.spawn_blocking(move || {
                    ended.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    i
                });
            }
            while ended.load(std::sync::atomic::Ordering::SeqCst) < 100 {
                std::thread::yield_now();
            }
            let mut sum = 0;
            while !set.is_empty() {
                while let Some(result) = set.try_join_next() {
                    sum += result.unwrap();
                }
            }
            sum
        });
        assert_eq!(runtime.block_on(all).unwrap(), 4950);
    });
}

#[test]
fn local_tasks_share_a_set_with_others() {
    at_each_size(|runtime| {
        let local = beat::LocalSet::new();
        let drops = Drops::default();
        let mut set = JoinSet::new();
        let shared = std::rc::Rc::new(1);
        let outside = std::rc::Rc::clone(&shared);
        set.spawn_local_on(async move { *outside }, &local);
        let mut values = local.block_on(runtime, async {
            set.spawn_local(async move { *shared + 1 });
            set.spawn(async { 3 });
            set.join_all().await
        });
        values.sort_unstable();
        assert_eq!(values, [1, 2, 3]);

        // Values that cannot leave the thread.
        let mut set = JoinSet::new();
        set.spawn_local_on(async { std::rc::Rc::new(5) }, &local);
        assert_eq!(*local.block_on(runtime, set.join_next()).unwrap().unwrap(), 5);

        // Dropped elsewhere than where the tasks live: they are aborted, and end at home.
        let mut set = JoinSet::new();
        set.spawn_local_on(Never(drops.guard()), &local);
        runtime.spawn_blocking(move || drop(set)).join().unwrap();
        assert_eq!(drops.count(), 0);
        runtime.block_on(local);
        assert_eq!(drops.count(), 1);
    });
}
