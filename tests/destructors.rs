//! Destructors of user code that panic at the worst moment: in tasks that a shutdown or an abort drops.

mod common;

use common::{Drops, Never, at_each_size};

/// Panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a destructor");
        }
    }
}

async fn hold(bomb: Bomb) {
    let _bomb = bomb;
    std::future::pending::<()>().await;
}

#[test]
fn a_shutdown_drops_every_task_whatever_panics() {
    at_each_size(|like| {
        let runtime = common::runtime(like.metrics().workers);
        let drops = Drops::default();
        let others: Vec<_> =
            (0..10).map(|_| (runtime.spawn(Never(drops.guard())), runtime.spawn(hold(Bomb)))).collect();
        drop(runtime);
        assert_eq!(drops.count(), 10);
        for (quiet, loud) in others {
            assert!(like.block_on(quiet).unwrap_err().is_cancelled());
            assert!(like.block_on(loud).is_err());
        }
    });
}

#[test]
fn a_set_that_is_dropped_ends_every_task_whatever_panics() {
    at_each_size(|runtime| {
        let mut set = beat::JoinSet::new();
        let ends: Vec<_> = (0..10).map(|_| set.spawn_on(hold(Bomb), runtime.handle())).collect();
        drop(set);
        while !ends.iter().all(beat::AbortHandle::is_finished) {
            std::thread::yield_now();
        }
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
    });
}
