//! Admission: new work from outside waits or is refused while memory is short; what is admitted finishes.

mod common;

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use beat::admission::{AdmittedStream, Class, accept_permitted};
use beat::pressure::{Level, PressureConfig, PressureSource, Reading};
use beat::{Handle, Runtime};
use common::{Drops, Gate, Latch, Never, at_each_size, within};
use futures::stream::{self, StreamExt};

/// So much of 1000 bytes is in use, by a test's word.
#[derive(Clone)]
struct Used(Arc<AtomicU64>);

impl PressureSource for Used {
    fn name(&self) -> String {
        "a test".into()
    }

    fn read(&mut self) -> io::Result<Reading> {
        Ok(Reading::new(1000, self.0.load(SeqCst), 0))
    }
}

/// A runtime of two workers whose guaranteed minimum is one task. At 800 of 1000 bytes the level is medium, and
/// 130 bytes are left to be reserved.
struct World {
    runtime: Runtime,
    used: Used,
}

impl World {
    fn new(used: u64) -> Self {
        let used = Used(Arc::new(AtomicU64::new(used)));
        let source = used.clone();
        let config =
            PressureConfig::new().hold(Duration::ZERO).guaranteed_minimum(1).source(move || source.clone());
        let runtime = Runtime::builder().worker_threads(2).pressure(config).build().unwrap();
        Self { runtime, used }
    }

    fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }

    fn set(&self, used: u64, level: Level) {
        self.used.0.store(used, SeqCst);
        self.until(|| self.runtime.handle().pressure().level == level);
    }

    fn until(&self, condition: impl Fn() -> bool) {
        within(Duration::from_secs(60), || {
            while !condition() {
                std::thread::yield_now();
            }
        });
    }

    /// Nothing is reserved, and nobody runs: then exactly the room is to be had.
    fn is_clean(&self) {
        self.until(|| self.runtime.handle().pressure().reserved == 0);
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn with_plenty_everything_is_admitted() {
    at_each_size(|runtime| {
        let _entered = runtime.enter();
        let tasks: Vec<_> = (0..1000).map(|i| beat::try_spawn(async move { i }).unwrap()).collect();
        let sum = async {
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            sum += beat::spawn_admitted(async { 1 }).await.await.unwrap();
            sum += beat::spawn_blocking_parallel_admitted(|| 2).await.await.unwrap();
            sum += beat::try_spawn_blocking_parallel(|| 3).unwrap().await.unwrap();
            sum
        };
        assert_eq!(runtime.block_on(sum), 499_500 + 6);
    });
}

#[test]
fn what_does_not_fit_is_given_back_with_a_reason() {
    let world = World::new(800);
    let handle = world.handle();
    let drops = Drops::default();
    let first = handle.admit().memory(100).try_spawn(Never(drops.guard())).unwrap();
    let refused = handle.admit().memory(31).try_spawn(Never(drops.guard())).unwrap_err();
    assert!(refused.is_full() && !refused.is_pressure() && !refused.is_behind(), "{refused}");
    assert!(refused.retry_after() >= Duration::from_secs(1));
    assert!(refused.to_string().contains("spawn_admitted"), "{refused}");
    let future = refused.into_inner();
    assert_eq!(drops.count(), 0);
    // It fits after all.
    let second = handle.admit().memory(30).try_spawn(future).unwrap();
    assert_eq!(world.runtime.handle().pressure().reserved, 130);
    assert_eq!(world.runtime.handle().pressure().headroom(), Some(70));
    first.abort();
    second.abort();
    world.is_clean();
    assert_eq!(drops.count(), 2);
}

#[test]
fn the_levels_refuse_classes_and_the_minimum_is_let_in() {
    let world = World::new(800);
    let handle = world.handle();
    let asks = |class| handle.admit().class(class).memory(0).try_permit();
    let minimum = asks(Class::Background).expect("nothing runs");
    assert!(asks(Class::Background).unwrap_err().is_pressure());
    drop(asks(Class::Normal).unwrap());
    world.set(990, Level::Critical);
    assert!(asks(Class::Normal).unwrap_err().is_pressure());
    assert!(asks(Class::Critical).unwrap_err().is_full());
    drop(minimum);
    // Whatever its size: a service whose allocator keeps its pages goes on.
    drop(handle.admit().memory(1 << 40).try_permit().unwrap());
    world.is_clean();
}

#[test]
fn waiters_come_in_turn_when_there_is_room_again() {
    let world = World::new(800);
    let handle = world.handle();
    let (gate, order) = (Gate::new(), Arc::new(Mutex::new(Vec::new())));
    let first = handle.admit().memory(130).try_spawn({
        let gate = Arc::clone(&gate);
        async move { gate.wait().await }
    });
    let waiters = stream::FuturesUnordered::new();
    for i in 0..10 {
        let (request, order) = (handle.admit().memory(130), Arc::clone(&order));
        waiters.push(request.spawn(async move { order.lock().unwrap().push(i) }));
    }
    let mut waiters = Box::pin(waiters);
    // The first poll puts them in line.
    assert!(poll_once(pin!(waiters.next())).is_pending());
    assert!(handle.admit().memory(0).try_permit().unwrap_err().is_behind());
    gate.open();
    within(Duration::from_secs(60), || {
        world.runtime.block_on(async {
            first.unwrap().await.unwrap();
            while let Some(task) = waiters.next().await {
                task.await.unwrap();
            }
        });
    });
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
    world.is_clean();
}

#[test]
fn relief_lets_waiters_in_without_any_release() {
    let world = World::new(800);
    let handle = world.handle();
    let minimum = handle.admit().memory(0).try_permit().unwrap();
    let waiter = world.runtime.spawn(handle.admit().memory(200).spawn(async { 7 }));
    world.until(|| handle.admit().memory(0).try_permit().is_err());
    world.used.0.store(100, SeqCst);
    // The sampler sees it: nobody asks.
    let task = within(Duration::from_secs(60), || world.runtime.block_on(waiter)).unwrap();
    assert_eq!(world.runtime.block_on(task).unwrap(), 7);
    drop(minimum);
    world.is_clean();
}

#[test]
fn what_admitted_work_spawns_is_never_held_back() {
    let world = World::new(800);
    let handle = world.handle();
    let inner = handle.clone();
    let task = handle.admit().memory(130).try_spawn(async move {
        // In the task, in a task and a closure that it spawns, and in the halves of a join.
        let deep = inner.clone();
        let child =
            inner.spawn(async move { deep.admit().memory(500).spawn(async { 1 }).await.await.unwrap() });
        let deep = inner.clone();
        let closure = inner.spawn_blocking_parallel(move || {
            let half = || deep.admit().memory(500).try_permit().map(drop).is_ok();
            beat::join(half, half)
        });
        let own = inner.admit().memory(500).spawn(async { 2 }).await;
        (child.await.unwrap(), closure.await.unwrap(), own.await.unwrap())
    });
    let done = within(Duration::from_secs(60), || world.runtime.block_on(task.unwrap()));
    assert_eq!(done.unwrap(), (1, (true, true), 2));
    world.is_clean();
}

#[test]
fn a_reservation_grows_and_shrinks_with_its_task() {
    let world = World::new(800);
    let handle = world.handle();
    let (begun, release) = (Latch::new(), Latch::new());
    let (tell, told) = mpsc::channel();
    let task = {
        let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
        let request = handle.admit().memory(100);
        world.runtime.block_on(request.spawn_blocking_parallel_with(move |memory| {
            memory.grow(200);
            memory.shrink(280);
            assert!(memory.try_grow(111).unwrap_err().is_full());
            memory.try_grow(110).unwrap();
            tell.send(memory.clone()).unwrap();
            begun.set();
            release.wait();
        }))
    };
    begun.wait();
    assert_eq!(world.runtime.handle().pressure().reserved, 130);
    release.set();
    world.runtime.block_on(task).unwrap();
    world.is_clean();
    // The task has ended: nothing is counted any more.
    let memory = told.recv().unwrap();
    memory.grow(1000);
    memory.try_grow(1000).unwrap();
    assert_eq!((memory.bytes(), world.runtime.handle().pressure().reserved), (0, 0));
}

#[test]
fn a_panic_and_an_abort_give_the_reservation_back() {
    let world = World::new(800);
    let handle = world.handle();
    let panics = handle.admit().memory(130).try_spawn_blocking_parallel(|| panic!("a test's panic"));
    assert!(world.runtime.block_on(async { panics.unwrap().await }).is_err_and(|e| e.is_panic()));
    world.is_clean();
    let panics = handle.admit().memory(130).try_spawn(async { panic!("a test's panic") });
    assert!(world.runtime.block_on(async { panics.unwrap().await }).is_err_and(|e| e.is_panic()));
    world.is_clean();
    // Of a closure that has not begun, too.
    let (begun, release) = (Latch::new(), Latch::new());
    let blockers: Vec<_> = (0..2)
        .map(|_| {
            let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
            world.runtime.spawn_blocking_parallel(move || {
                begun.set();
                release.wait();
            })
        })
        .collect();
    begun.wait();
    let waiting = handle.admit().memory(130).try_spawn_blocking_parallel(|| ()).unwrap();
    waiting.abort();
    release.set();
    world.is_clean();
    blockers.into_iter().for_each(|blocker| world.runtime.block_on(blocker).unwrap());
}

#[test]
fn an_aborted_waiter_frees_its_place_and_its_future() {
    let world = World::new(800);
    let handle = world.handle();
    let drops = Drops::default();
    let held = handle.admit().memory(130).try_permit().unwrap();
    let waiter = world.runtime.spawn(handle.admit().memory(130).spawn(Never(drops.guard())));
    world.until(|| handle.admit().memory(0).try_permit().is_err_and(|e| e.is_behind()));
    waiter.abort();
    assert!(world.runtime.block_on(waiter).unwrap_err().is_cancelled());
    assert_eq!(drops.count(), 1);
    assert!(handle.admit().memory(0).try_permit().is_ok());
    drop(held);
    world.is_clean();
}

#[test]
fn a_shutdown_lets_waiters_go_and_leaves_nothing_reserved() {
    let world = World::new(800);
    let handle = world.handle();
    let drops = Drops::default();
    let held = handle.admit().memory(130).try_permit().unwrap();
    let inside = world.runtime.spawn(handle.admit().memory(130).spawn(Never(drops.guard())));
    // One that is no task of the runtime.
    let request = handle.admit().memory(130);
    let never = Never(drops.guard());
    let waits = Latch::new();
    let begun = Arc::clone(&waits);
    let outside = std::thread::spawn(move || {
        futures::executor::block_on(async {
            begun.set();
            request.spawn(never).await.await.unwrap_err().is_cancelled()
        })
    });
    waits.wait();
    drop(inside);
    within(Duration::from_secs(60), || {
        drop(world.runtime);
        assert!(outside.join().unwrap());
    });
    assert_eq!(drops.count(), 2);
    drop(held);
    assert_eq!(handle.pressure().reserved, 0);
}

#[test]
fn a_stream_is_read_no_faster_than_it_is_admitted() {
    let world = World::new(800);
    let handle = world.handle();
    let read = Arc::new(AtomicUsize::new(0));
    let counted = stream::iter(0..5).inspect({
        let read = Arc::clone(&read);
        move |_| {
            read.fetch_add(1, SeqCst);
        }
    });
    let mut admitted = AdmittedStream::new(counted, handle.admit().memory(100));
    let mut permits = Vec::new();
    world.runtime.block_on(async {
        let (item, permit) = admitted.next().await.unwrap();
        assert_eq!(item, 0);
        // The second one has been read, and waits; there is no third.
        assert!(poll_once(pin!(admitted.next())).is_pending());
        assert!(poll_once(pin!(admitted.next())).is_pending());
        assert_eq!(read.load(SeqCst), 2);
        drop(permit);
        while let Some((item, permit)) = admitted.next().await {
            permits.push(item);
            drop(permit);
        }
    });
    assert_eq!(permits, [1, 2, 3, 4]);
    world.is_clean();
}

#[test]
fn connections_are_not_accepted_at_a_high_level() {
    let world = World::new(100);
    let handle = world.handle();
    let minimum = handle.admit().memory(1).try_permit().unwrap();
    let accepts = |handle: &Handle| {
        let _entered = handle.enter();
        poll_once(pin!(accept_permitted())).is_ready()
    };
    assert!(accepts(&handle));
    world.set(900, Level::High);
    assert!(!accepts(&handle));
    let waiting = world.runtime.spawn(accept_permitted());
    // Below the minimum one is accepted, or a service could stay shut for ever.
    drop(minimum);
    within(Duration::from_secs(60), || world.runtime.block_on(waiting).unwrap());
    let minimum = handle.admit().memory(1).try_permit().unwrap();
    let waiting = world.runtime.spawn(accept_permitted());
    world.used.0.store(100, SeqCst);
    within(Duration::from_secs(60), || world.runtime.block_on(waiting).unwrap());
    drop(minimum);
}

/// A listener at which nobody ever arrives.
#[cfg(feature = "axum")]
struct Asked(Arc<AtomicUsize>);

#[cfg(feature = "axum")]
impl beat::serve::Listener for Asked {
    type Io = tokio::io::DuplexStream;
    type Handshake = std::future::Ready<io::Result<tokio::io::DuplexStream>>;
    type Addr = ();

    async fn accept(&mut self) -> io::Result<(Self::Handshake, ())> {
        self.0.fetch_add(1, SeqCst);
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "axum")]
#[test]
fn a_server_that_is_told_to_accepts_nobody_at_a_high_level() {
    let world = World::new(100);
    let handle = world.handle();
    let minimum = handle.admit().memory(1).try_permit().unwrap();
    world.set(900, Level::High);
    let asked = Arc::new(AtomicUsize::new(0));
    let server = beat::serve(Asked(Arc::clone(&asked)), axum::Router::new()).hold_back_under_pressure();
    let server = world.runtime.spawn(server.into_future());
    // Everything that was spawned has been polled when nothing is queued and nobody polls.
    world.until(|| {
        let metrics = handle.metrics();
        metrics.tasks_queued == 0 && metrics.idle_workers == metrics.workers
    });
    assert_eq!(asked.load(SeqCst), 0);
    world.used.0.store(100, SeqCst);
    world.until(|| asked.load(SeqCst) == 1);
    server.abort();
    drop(minimum);
}

#[test]
fn work_without_an_estimate_is_counted_while_memory_is_short() {
    let world = World::new(800);
    let handle = world.handle();
    let held = handle.admit().memory(0).try_permit().unwrap();
    // Nothing is known of it: it is taken to need more than there is.
    let refused = handle.admit().try_spawn(async { 5 }).unwrap_err();
    assert!(refused.is_full());
    drop(held);
    let task = handle.admit().try_spawn(refused.into_inner()).unwrap();
    assert_eq!(world.runtime.block_on(task).unwrap(), 5);
    world.is_clean();
}

/// Rounds of admitting, aborting, panicking and shutting down, from several threads. `BEAT_ROUNDS` says how many.
#[test]
fn nothing_stays_reserved_whatever_happens() {
    let rounds: u64 = std::env::var("BEAT_ROUNDS").map_or(20_000, |text| text.parse().unwrap());
    const PER_RUNTIME: u64 = 5_000;
    for _ in 0..rounds.div_ceil(PER_RUNTIME) {
        let world = World::new(800);
        let seed = AtomicU64::new(1);
        let handle = world.handle();
        let part = |rounds: u64| {
            let mut state = seed.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
            for _ in 0..rounds {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                one_round(&handle, state >> 33);
            }
        };
        within(Duration::from_secs(600), || {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| part(PER_RUNTIME / 2));
                }
            });
            world.is_clean();
            // Nobody counts as running either: only below the minimum is there room now.
            world.set(990, Level::Critical);
            drop(handle.admit().memory(1 << 40).try_permit().unwrap());
            world.set(800, Level::Medium);
            // And with waiters, tasks and closures under way.
            let left: Vec<_> = (0..20)
                .map(|i| handle.spawn(handle.admit().memory(i * 13).spawn(Never(Drops::default().guard()))))
                .collect();
            drop(world.runtime);
            drop(left);
        });
        within(Duration::from_secs(60), || {
            while handle.pressure().reserved > 0 {
                std::thread::yield_now();
            }
        });
    }
}

fn one_round(handle: &Handle, dice: u64) {
    let classes = [Class::Critical, Class::Normal, Class::Background];
    let request = handle.admit().class(classes[dice as usize % 3]).memory(dice / 3 % 90);
    match dice / 1000 % 8 {
        0 => drop(request.try_spawn(async {})),
        1 => {
            // Aborted while it waits, while it runs, or after.
            let waiter = handle.spawn(request.spawn(beat::yield_now()));
            waiter.abort();
        }
        2 => drop(futures::executor::block_on(request.spawn_blocking_parallel(|| {
            std::panic::resume_unwind(Box::new(()));
        }))),
        3 => {
            if let Ok(task) = request.try_spawn_blocking_parallel(|| ()) {
                task.abort();
            }
        }
        4 => {
            let task = futures::executor::block_on(request.spawn_with(|memory| async move {
                memory.grow(50);
                beat::yield_now().await;
                memory.shrink(70);
            }));
            if dice.is_multiple_of(2) {
                task.abort();
            }
        }
        5 => {
            // Polled once and dropped.
            drop(poll_once(pin!(request.permit())));
        }
        6 => drop(futures::executor::block_on(request.permit())),
        _ => drop(futures::executor::block_on(handle.spawn(request.spawn(async {})))),
    }
}
