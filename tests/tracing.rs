//! The feature `tracing`: the caller's span, and values of `beat::task_local!`, are where its work is.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;

use beat::iter::IntoBeatIterator;
use beat::stream::{IntoStream, ParStreamExt};
use beat::{JoinSet, LocalSet, Runtime};
use common::{Drops, Latch, at_each_size, fib, runtime, within};
use futures::{StreamExt, stream};
use rayon::prelude::*;
use tracing::{Span, info_span, subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

/// Spans that have ended, by a field of theirs' callsite name.
#[derive(Clone, Default)]
struct Closed(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Closed {
    fn on_close(&self, _id: tracing::span::Id, _cx: Context<'_, S>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// The subscriber of this process, with the layer that makes forks exact.
fn init() {
    static INIT: OnceLock<()> = OnceLock::new();
    INIT.get_or_init(|| tracing_subscriber::registry().with(beat::tracing::Forks::new()).init());
}

/// Forks until `done`: whatever this thread has to offer goes on offer.
fn fork_until(done: &AtomicBool) {
    while !done.load(SeqCst) {
        beat::join(|| (), || ());
    }
}

/// Goes on inside.
type Go<'a> = &'a mut (dyn FnMut() + Send);

/// A `join` whose second half is surely stolen, and not before `a` has begun: `deep` is called inside `a`, with what
/// has to be called there.
fn stolen<R: Send>(
    runtime: &Runtime,
    around: impl FnOnce(Go<'_>) + Send,
    deep: impl FnOnce(Go<'_>) + Send,
    b: impl FnOnce() -> R + Send,
) -> R {
    let free = Arc::new(AtomicBool::new(false));
    // The other worker has something to do until then.
    let blocks: Vec<_> = (1..runtime.current_num_threads())
        .map(|_| {
            let (free, begun) = (Arc::clone(&free), Latch::new());
            let begins = Arc::clone(&begun);
            let closure = runtime.spawn_blocking_parallel(move || {
                begins.set();
                while !free.load(SeqCst) {
                    thread::yield_now();
                }
            });
            begun.wait();
            closure
        })
        .collect();
    let (mut deep, mut b) = (Some(deep), Some(b));
    let result = runtime.install(|| {
        let mut result = None;
        around(&mut || {
            let (deep, b) = (deep.take().unwrap(), b.take().unwrap());
            let (begun, forker) = (AtomicBool::new(false), thread::current().id());
            let ((), value) = beat::join(
                || {
                    deep(&mut || {
                        free.store(true, SeqCst);
                        fork_until(&begun);
                    });
                },
                || {
                    begun.store(true, SeqCst);
                    assert_ne!(thread::current().id(), forker);
                    b()
                },
            );
            result = Some(value);
        });
        result.unwrap()
    });
    for closure in blocks {
        closure.join().unwrap();
    }
    result
}

#[test]
fn a_stolen_half_has_the_span_of_its_fork() {
    init();
    let runtime = runtime(2);
    let span = info_span!("caller");
    let seen = stolen(&runtime, |go| span.in_scope(go), |go| go(), Span::current);
    assert_eq!(seen, span);
    assert!(Span::current().is_none());
    assert!(runtime.install(Span::current).is_none(), "nothing is left behind");
}

#[test]
fn spans_that_the_other_half_enters_are_its_own() {
    init();
    let runtime = runtime(2);
    let span = info_span!("caller");
    let inner = |go: Go<'_>| {
        let _first = info_span!("first half").entered();
        let deeper = || info_span!("deeper").in_scope(|| beat::join(&mut *go, || ()));
        beat::join(deeper, || ());
    };
    let seen = stolen(&runtime, |go| span.in_scope(go), inner, Span::current);
    assert_eq!(seen, span);
    let seen = stolen(&runtime, |go| go(), |go| info_span!("first half").in_scope(go), Span::current);
    assert!(seen.is_none());
}

/// Out of order, and left for good.
#[test]
fn spans_may_be_left_in_any_order() {
    init();
    let runtime = runtime(2);
    let span = info_span!("caller");
    let inner = |go: Go<'_>| {
        let (first, second) = (info_span!("first").entered(), info_span!("second").entered());
        drop(first);
        go();
        drop(second);
    };
    assert_eq!(stolen(&runtime, |go| span.in_scope(go), inner, Span::current), span);
}

#[test]
fn an_instrumented_recursion_has_the_right_parents() {
    fn recurse(depth: u64, parent: &Span) -> u64 {
        assert_eq!(Span::current(), *parent);
        if depth == 0 {
            return fib(3);
        }
        let span = info_span!("level", depth);
        let _entered = span.enter();
        let (a, b) = beat::join(|| recurse(depth - 1, &span), || recurse(depth - 1, &span));
        assert_eq!(Span::current(), span);
        a + b
    }
    init();
    at_each_size(|runtime| {
        let root = info_span!("root");
        let sum = root.in_scope(|| runtime.install(|| recurse(10, &root)));
        assert_eq!(sum, 2 * 1024);
    });
}

/// Also for whoever is no thread of the runtime, and without the layer: loops know where they began.
#[test]
fn the_halves_of_a_loop_have_the_span_of_the_loop() {
    let plain = tracing_subscriber::registry();
    subscriber::with_default(plain, || {
        at_each_size(|runtime| {
            let _entered = runtime.enter();
            let outer = info_span!("outer").entered();
            (0..20_u32).into_beat_iter().for_each(|_| {
                assert_eq!(Span::current(), *outer);
                let inner = info_span!("inner").entered();
                (0..100_u32).into_beat_iter().for_each(|_| {
                    assert_eq!(Span::current(), *inner);
                    fib(5);
                });
            });
        });
    });
}

#[test]
fn jobs_have_the_span_in_which_they_were_spawned() {
    init();
    at_each_size(|runtime| {
        runtime.install(|| {
            let outer = info_span!("outer").entered();
            beat::scope(|scope| {
                for _ in 0..50 {
                    let span = info_span!("job").entered();
                    let expected = span.clone();
                    scope.spawn(move |scope| {
                        assert_eq!(Span::current(), expected);
                        scope.spawn(move |_| assert_eq!(Span::current(), expected));
                    });
                    drop(span);
                    scope.spawn(|_| assert_eq!(Span::current(), *outer));
                }
            });
        });
    });
}

#[test]
fn closures_and_tasks_have_the_span_of_their_spawn() {
    init();
    at_each_size(|runtime| {
        let span = info_span!("request");
        let expected = span.clone();
        let check = move || assert_eq!(Span::current(), expected);
        span.in_scope(|| {
            runtime.install(&check);
            runtime.broadcast(|_| check());
        });
        runtime.block_on(async {
            let mut set = JoinSet::new();
            span.in_scope(|| {
                for _ in 0..20 {
                    set.spawn_blocking_parallel(check.clone());
                    set.spawn_blocking(check.clone());
                    let (first, check) = (check.clone(), check.clone());
                    set.spawn(async move {
                        first();
                        beat::yield_now().await;
                        check();
                        let own = info_span!("own");
                        own.in_scope(|| assert_eq!(Span::current(), own));
                    });
                }
            });
            assert!(Span::current().is_none());
            set.join_all().await;
            beat::spawn(async { assert!(Span::current().is_none()) }).await.unwrap();
        });
        let local = LocalSet::new();
        let task = span.in_scope(|| local.spawn_local(async move { check() }));
        local.block_on(runtime, task).unwrap();
    });
}

#[test]
fn a_task_is_dropped_in_its_span() {
    struct Checks(Span, Drops);
    impl Drop for Checks {
        fn drop(&mut self) {
            assert_eq!(Span::current(), self.0);
            drop(self.1.guard());
        }
    }
    init();
    at_each_size(|runtime| {
        let drops = Drops::default();
        let span = info_span!("request");
        let checks = Checks(span.clone(), drops.clone());
        let task = span.in_scope(|| {
            runtime.spawn(async move {
                let _checks = checks;
                std::future::pending::<()>().await;
            })
        });
        task.abort();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn streams_work_in_the_span_of_their_reader() {
    init();
    at_each_size(|runtime| {
        let span = info_span!("reader");
        let expected = span.clone();
        let check = move || assert_eq!(Span::current(), expected);
        let task = span.in_scope(|| {
            runtime.spawn(async move {
                let again = check.clone();
                let elements = (0..100_u32).into_par_iter().map(move |_| check()).into_stream(8);
                let results = stream::iter(0..100).par_map(4, move |_| again());
                (elements.count().await, results.count().await)
            })
        });
        assert_eq!(task.join().unwrap(), (100, 100));
    });
}

#[test]
fn a_subscriber_of_this_thread_alone_goes_along() {
    let runtime = runtime(2);
    let entered = Arc::new(AtomicUsize::new(0));
    struct Counts(Arc<AtomicUsize>);
    impl<S: tracing::Subscriber> Layer<S> for Counts {
        fn on_event(&self, _event: &tracing::Event<'_>, _cx: Context<'_, S>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let registry = tracing_subscriber::registry().with(Counts(Arc::clone(&entered)));
    subscriber::with_default(registry, || {
        let span = info_span!("caller").entered();
        let says = || {
            tracing::info!("from elsewhere");
            Span::current()
        };
        let seen = stolen(&runtime, |go| go(), |go| go(), says);
        assert_eq!(seen, *span);
    });
    assert_eq!(entered.load(SeqCst), 1);
}

#[test]
fn a_span_ends_with_its_work() {
    let closed = Closed::default();
    let registry = tracing_subscriber::registry().with(beat::tracing::Forks::new()).with(closed.clone());
    subscriber::with_default(registry, || {
        at_each_size(|runtime| {
            for _ in 0..20 {
                let before = closed.0.load(SeqCst);
                let span = info_span!("caller").entered();
                runtime.install(|| {
                    fib(15);
                    beat::scope(|scope| scope.spawn(|_| assert_eq!(fib(10), 55)));
                });
                runtime.spawn(async { beat::yield_now().await }).join().unwrap();
                assert_eq!(closed.0.load(SeqCst), before);
                drop(span);
                // What ran it lets go of it before the handle is told, but for the one who polled it last.
                within(std::time::Duration::from_secs(60), || {
                    while closed.0.load(SeqCst) == before {
                        thread::yield_now();
                    }
                });
                assert_eq!(closed.0.load(SeqCst), before + 1);
            }
        });
    });
}

#[test]
fn who_has_no_subscriber_gives_none_along() {
    init();
    let runtime = runtime(1);
    info_span!("request").in_scope(|| {
        let task = subscriber::with_default(subscriber::NoSubscriber::default(), || {
            runtime.spawn(async { Span::current() })
        });
        assert!(task.join().unwrap().is_none());
    });
}

/// A joiner waits for its half, whatever becomes of the subscriber.
#[test]
fn a_subscriber_that_panics_takes_nobody_down() {
    struct Panics(thread::ThreadId);
    impl<S: tracing::Subscriber> Layer<S> for Panics {
        fn on_enter(&self, _id: &tracing::span::Id, _cx: Context<'_, S>) {
            assert_eq!(thread::current().id(), self.0, "only its own thread");
        }
    }
    let runtime = runtime(2);
    let registry = tracing_subscriber::registry().with(Panics(thread::current().id()));
    subscriber::with_default(registry, || {
        let span = info_span!("caller").entered();
        let closure = runtime.spawn_blocking_parallel(|| fib(20));
        assert_eq!(closure.join().unwrap(), 6765);
        assert_eq!(runtime.install(|| fib(10)), 55);
        drop(span);
    });
}

/// Tells of no span, and panics when asked which one is current.
struct PanicsWhenAsked;

impl tracing::Subscriber for PanicsWhenAsked {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn event(&self, _event: &tracing::Event<'_>) {}
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
    fn current_span(&self) -> tracing_core::span::Current {
        panic!("a test's panic")
    }
}

/// Nor where a task is made, which must not be left half made.
#[test]
fn a_subscriber_that_panics_when_asked_is_passed_over() {
    let runtime = runtime(2);
    subscriber::with_default(PanicsWhenAsked, || {
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
        assert_eq!(runtime.spawn_blocking_parallel(|| fib(20)).join().unwrap(), 6765);
        assert_eq!(runtime.install(|| fib(10)), 55);
        assert_eq!(runtime.broadcast(|part| part.index()), [0, 1]);
    });
}

/// One that counts how often spans are entered.
#[test]
fn a_span_is_entered_once_for_each_poll() {
    struct Counts(Arc<AtomicUsize>);
    impl<S: tracing::Subscriber> Layer<S> for Counts {
        fn on_enter(&self, _id: &tracing::span::Id, _cx: Context<'_, S>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let runtime = runtime(1);
    let entered = Arc::new(AtomicUsize::new(0));
    let registry = tracing_subscriber::registry().with(Counts(Arc::clone(&entered)));
    subscriber::with_default(registry, || {
        let _span = info_span!("caller").entered();
        let before = entered.load(SeqCst);
        runtime.block_on(runtime.spawn(async { beat::yield_now().await })).unwrap();
        runtime.install(|| ());
        // What is left of the task goes with its handle or its thread.
        runtime.block_on(runtime.spawn(async {})).unwrap();
        assert_eq!(entered.load(SeqCst) - before, 2 + 1 + 1);
    });
}

beat::task_local! {
    static NUMBER: usize;
    static GUARD: common::DropGuard;
}

#[test]
fn a_stolen_half_has_the_values_of_its_fork() {
    let runtime = runtime(2);
    let seen = stolen(&runtime, |go| NUMBER.sync_scope(5, go), |go| go(), || NUMBER.get());
    assert_eq!(seen, 5);
    // What the other half enters is its own.
    let inner = |go: Go<'_>| NUMBER.sync_scope(6, go);
    let seen = stolen(&runtime, |go| NUMBER.sync_scope(5, go), inner, || NUMBER.get());
    assert_eq!(seen, 5);
    let deeper = |go: Go<'_>| {
        NUMBER.sync_scope(6, || beat::join(|| NUMBER.sync_scope(7, &mut *go), || ()));
    };
    let seen = stolen(&runtime, |go| NUMBER.sync_scope(5, go), deeper, || NUMBER.get());
    assert_eq!(seen, 5);
    let seen = stolen(&runtime, |go| go(), inner, || NUMBER.try_get());
    assert!(seen.is_err());
    assert!(runtime.install(|| NUMBER.try_get()).is_err(), "nothing is left behind");
}

#[test]
fn each_half_of_a_recursion_has_its_values() {
    fn sum(depth: usize) -> usize {
        let number = NUMBER.get();
        if depth == 0 {
            return number;
        }
        // One half has its own value, the other one inherits.
        let (left, right) =
            beat::join(move || NUMBER.sync_scope(number + 1, || sum(depth - 1)), move || sum(depth - 1));
        assert_eq!(NUMBER.get(), number);
        left + right
    }
    at_each_size(|runtime| {
        let total = NUMBER.sync_scope(0, || runtime.install(|| sum(12)));
        // As many as there are ways to go left so often.
        assert_eq!(total, 12 * 4096 / 2);
    });
}

#[test]
fn jobs_and_loops_and_parts_have_the_values_of_their_caller() {
    at_each_size(|runtime| {
        NUMBER.sync_scope(3, || {
            assert!(runtime.broadcast(|_| NUMBER.get()).into_iter().all(|number| number == 3));
            runtime.install(|| {
                beat::scope(|scope| {
                    NUMBER.sync_scope(4, || scope.spawn(|_| assert_eq!(NUMBER.get(), 4)));
                    scope.spawn(|scope| {
                        assert_eq!(NUMBER.get(), 3);
                        NUMBER.sync_scope(5, || scope.spawn(|_| assert_eq!(NUMBER.get(), 5)));
                    });
                });
                (0..2_000_u32).into_beat_iter().for_each(|_| assert_eq!(NUMBER.get(), 3));
            });
        });
    });
}

#[test]
fn tasks_keep_their_values_and_what_is_spawned_inherits_none() {
    async fn is_kept(number: usize) {
        for _ in 0..10 {
            assert_eq!(NUMBER.get(), number);
            beat::yield_now().await;
            NUMBER.scope(number + 1, async { assert_eq!(NUMBER.get(), number + 1) }).await;
        }
    }
    at_each_size(|runtime| {
        runtime.block_on(NUMBER.scope(1_000, async {
            let mut set = JoinSet::new();
            for number in 0..100 {
                set.spawn(NUMBER.scope(number, is_kept(number)));
                set.spawn(async { assert!(NUMBER.try_get().is_err()) });
                set.spawn_blocking_parallel(|| assert!(NUMBER.try_get().is_err()));
            }
            set.join_all().await;
            assert_eq!(NUMBER.get(), 1_000);
        }));
    });
}

#[test]
fn a_value_is_dropped_once_and_its_future_before_it() {
    struct Looks;
    impl Drop for Looks {
        fn drop(&mut self) {
            assert!(GUARD.try_with(|_| ()).is_ok());
        }
    }
    at_each_size(|runtime| {
        let drops = Drops::default();
        let looks = Looks;
        let task = runtime.spawn(GUARD.scope(drops.guard(), async move {
            let _looks = looks;
            std::future::pending::<()>().await;
        }));
        task.abort();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 1);
        GUARD.sync_scope(drops.guard(), || runtime.install(|| fib(15)));
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn a_panic_leaves_the_values_in_order() {
    at_each_size(|runtime| {
        NUMBER.sync_scope(1, || {
            let message = common::panic_message(|| {
                runtime.install(|| NUMBER.sync_scope(2, || beat::join(|| panic!("here"), || ())))
            });
            assert_eq!((message.as_str(), NUMBER.get()), ("here", 1));
        });
    });
}

/// What was entered inside a half that has been given away since is outside of the forks that come after.
#[test]
fn what_was_entered_in_time_goes_along() {
    init();
    let runtime = runtime(2);
    let span = info_span!("inside");
    let mut seen = None;
    let to = &mut seen;
    let inside = |go: Go<'_>| {
        let _entered = span.enter();
        NUMBER.sync_scope(6, || {
            go();
            // The outer half is away; the fork that is stolen now is younger than span and value.
            let begun = AtomicBool::new(false);
            let ((), here) = beat::join(
                || fork_until(&begun),
                || {
                    begun.store(true, SeqCst);
                    (NUMBER.get(), Span::current())
                },
            );
            *to = Some(here);
        });
    };
    let outer = stolen(&runtime, |go| go(), inside, || (NUMBER.try_get().ok(), Span::current().id()));
    assert_eq!(outer, (None, None));
    assert_eq!(seen, Some((6, span)));
}
