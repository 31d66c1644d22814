//! Stealing and waking by distance, on the real scheduler: its workers have places on a machine that there is not.

mod common;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;

use beat::task::Near;
use beat::topology::{Ring, Topology};
use beat::{DriverKind, Runtime};

/// Workers 0 and 1 are in one package, 2 and 3 in the other.
const MACHINE: &str = "package:2 core:2 pu:1";

fn runtime(machine: &str, workers: usize) -> Runtime {
    let machine: Topology = machine.parse().unwrap();
    Runtime::builder()
        .worker_threads(workers)
        .topology(machine)
        // Nobody sits in a driver: whoever sleeps can be woken.
        .driver(DriverKind::Plain)
        .build()
        .unwrap()
}

/// Waits on the CPU: a thread that slept would lose its processor.
fn spin_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

fn reached(counter: &AtomicUsize, value: usize) -> impl Fn() -> bool {
    move || counter.load(SeqCst) >= value
}

fn index() -> usize {
    beat::current_thread_index().expect("a worker")
}

/// All workers but 0 have a half of a join on offer; then 0 is free to steal. Whose it took, in their order.
fn stolen_by_worker_0(runtime: &Runtime, workers: usize) -> Vec<usize> {
    let (here, offered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let order = Arc::new(Mutex::new(Vec::new()));
    let stolen = Arc::new(AtomicUsize::new(0));
    let closures: Vec<_> = (0..workers)
        .map(|_| {
            let (here, offered, stolen) = (Arc::clone(&here), Arc::clone(&offered), Arc::clone(&stolen));
            let order = Arc::clone(&order);
            runtime.spawn_blocking_parallel(move || {
                let me = index();
                here.fetch_add(1, SeqCst);
                spin_until(reached(&here, workers));
                if me == 0 {
                    spin_until(reached(&offered, workers - 1));
                    return;
                }
                let a = || {
                    offered.fetch_add(1, SeqCst);
                    spin_until(reached(&stolen, workers - 1));
                };
                let b = || {
                    order.lock().unwrap().push((me, index()));
                    stolen.fetch_add(1, SeqCst);
                };
                // A fork of rayon's goes on offer whoever is idle.
                assert!(beat::__rayon::join_both(a, b).is_ok());
            })
        })
        .collect();
    for closure in closures {
        closure.join().unwrap();
    }
    let order = order.lock().unwrap();
    assert!(order.iter().all(|&(_, thief)| thief == 0), "{order:?}");
    order.iter().map(|&(victim, _)| victim).collect()
}

#[test]
fn a_thief_takes_from_its_own_package_before_it_goes_to_another() {
    for _ in 0..20 {
        // A new one each time: where threads have moved to is noticed only on the way.
        let runtime = runtime(MACHINE, 4);
        let order = stolen_by_worker_0(&runtime, 4);
        assert_eq!((order.len(), order[0]), (3, 1), "{order:?}");
        let metrics = runtime.metrics();
        assert_eq!((metrics.steals_from(Ring::Node), metrics.steals_from(Ring::Remote)), (1, 2));
    }
}

#[test]
fn a_thief_goes_from_ring_to_ring() {
    let runtime = runtime("package:2 numanode:2 l3:1 l2:2 core:2 pu:1", 16);
    let order = stolen_by_worker_0(&runtime, 16);
    let machine: Topology = "package:2 numanode:2 l3:1 l2:2 core:2 pu:1".parse().unwrap();
    let rings: Vec<_> = order.iter().map(|&victim| machine.ring(0, victim).unwrap()).collect();
    assert!(rings.is_sorted(), "{rings:?}");
    let metrics = runtime.metrics();
    let counted = [Ring::L2, Ring::L3, Ring::Package, Ring::Remote].map(|ring| metrics.steals_from(ring));
    assert_eq!(counted, [1, 2, 4, 8]);
}

#[test]
fn a_closure_that_forks_wakes_its_neighbour() {
    for _ in 0..20 {
        let runtime = runtime(MACHINE, 4);
        let woken = Arc::new(AtomicUsize::new(usize::MAX));
        let (here, there) = runtime.install(|| {
            let here = index();
            spin_until(|| runtime.metrics().idle_workers == 3);
            beat::join(|| spin_until(|| woken.load(SeqCst) != usize::MAX), || woken.store(index(), SeqCst));
            (here, woken.load(SeqCst))
        });
        assert_eq!(here / 2, there / 2, "worker {here} has woken worker {there}");
    }
}

#[test]
fn where_nobody_is_nearer_than_others_all_steals_are_in_one_ring() {
    let runtime = runtime("l3:1 core:4 pu:1", 4);
    assert_eq!(stolen_by_worker_0(&runtime, 4).len(), 3);
    assert_eq!(runtime.metrics().steals_from(Ring::L3), 3);
}

#[test]
fn a_machine_without_room_for_the_workers_is_a_clear_error() {
    let machine: Topology = MACHINE.parse().unwrap();
    let error = Runtime::builder().worker_threads(5).topology(machine).build().unwrap_err();
    assert!(error.to_string().contains("there is room for 4"), "{error}");
}

/// Keeps all workers busy until the first step of what is returned, and those who `stay` until the second.
fn occupy(
    runtime: &Runtime,
    workers: usize,
    stay: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> (Arc<AtomicUsize>, Vec<beat::JoinHandle<()>>) {
    let (here, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stay = Arc::new(stay);
    let closures = (0..workers).map(|_| {
        let (here, go, stay) = (Arc::clone(&here), Arc::clone(&go), Arc::clone(&stay));
        runtime.spawn_blocking_parallel(move || {
            let me = index();
            here.fetch_add(1, SeqCst);
            spin_until(reached(&here, workers));
            // The first step frees those who do not stay, the second all.
            spin_until(reached(&go, if stay(me) { 2 } else { 1 }));
        })
    });
    let closures = closures.collect();
    spin_until(reached(&here, workers));
    (go, closures)
}

#[test]
fn a_closure_starts_on_the_node_that_was_asked_for() {
    let runtime = runtime("package:2 numanode:1 core:2 pu:1", 4);
    for _ in 0..10 {
        // One worker of each node is free: 1 and 3.
        let (go, busy) = occupy(&runtime, 4, |worker| worker.is_multiple_of(2));
        let started = Arc::new(AtomicUsize::new(0));
        let closures = [1, 0, 1, 0].map(|node| {
            let started = Arc::clone(&started);
            runtime.handle().spawn_blocking_parallel_on(Near::node(node), move || {
                let me = index();
                started.fetch_add(1, SeqCst);
                // The first of each node stays until the other has begun.
                spin_until(reached(&started, 2));
                me / 2
            })
        });
        go.store(1, SeqCst);
        let [first, second, third, fourth] = closures.map(|closure| closure.join().unwrap());
        assert_eq!([first, second], [1, 0]);
        // Who is free goes on with the other node's.
        assert!(third < 2 && fourth < 2);
        go.store(2, SeqCst);
        busy.into_iter().for_each(|closure| closure.join().unwrap());
    }
}

#[test]
fn a_task_starts_near_the_one_whose_result_it_uses() {
    let runtime = runtime("package:2 numanode:1 core:2 pu:1", 4);
    let (go, busy) = occupy(&runtime, 4, |worker| worker != 3);
    let first = runtime.spawn_blocking_parallel(index);
    go.store(1, SeqCst);
    spin_until(|| first.is_finished());
    let second = runtime.handle().spawn_on(Near::task(&first), async { beat::current_thread_index() });
    assert_eq!(second.join().unwrap(), Some(3));
    assert_eq!(first.join().unwrap(), 3);
    go.store(2, SeqCst);
    busy.into_iter().for_each(|closure| closure.join().unwrap());
}

#[test]
fn nothing_starves_in_the_queue_of_a_node_whose_workers_are_all_busy() {
    let runtime = runtime("package:2 numanode:1 core:2 pu:1", 4);
    // Only worker 0 is free.
    let (go, busy) = occupy(&runtime, 4, |worker| worker != 0);
    let there = [
        runtime.handle().spawn_on(Near::node(1), async {}),
        runtime.handle().spawn_blocking_parallel_on(Near::node(1), || {}),
    ];
    let done = Arc::new(AtomicUsize::new(0));
    // Worker 0 has always more of its own, of both kinds.
    let flood = |done: Arc<AtomicUsize>| async move {
        while done.load(SeqCst) == 0 {
            drop(beat::spawn_blocking_parallel_on(Near::node(0), || {}));
            beat::yield_now().await;
        }
    };
    let flood = runtime.handle().spawn_on(Near::node(0), flood(Arc::clone(&done)));
    go.store(1, SeqCst);
    for handle in there {
        handle.join().unwrap();
    }
    done.store(1, SeqCst);
    flood.join().unwrap();
    go.store(2, SeqCst);
    busy.into_iter().for_each(|closure| closure.join().unwrap());
}
