//! `tokio::task_local!` inside Beat: the value is there while its scope is polled or run, and for nobody else.
#![cfg(feature = "tokio")]

mod common;

use std::rc::Rc;

use beat::{JoinSet, LocalSet};
use common::{Drops, at_each_size};

tokio::task_local! {
    static NUMBER: usize;
    static GUARD: common::DropGuard;
}

async fn is_kept(number: usize) {
    for _ in 0..10 {
        assert_eq!(NUMBER.get(), number);
        beat::yield_now().await;
        NUMBER.scope(number + 1, async { assert_eq!(NUMBER.get(), number + 1) }).await;
    }
}

#[test]
fn tasks_that_take_turns_keep_their_values() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let mut set = JoinSet::new();
            for i in 0..100 {
                set.spawn(NUMBER.scope(i, is_kept(i)));
                set.spawn(async { assert!(NUMBER.try_get().is_err()) });
            }
            set.join_all().await;
        });
    });
}

#[test]
fn local_tasks_keep_theirs() {
    at_each_size(|runtime| {
        let local = LocalSet::new();
        local.block_on(
            runtime,
            NUMBER.scope(1000, async {
                let mut set = JoinSet::new();
                for i in 0..100 {
                    let stays = Rc::new(i);
                    set.spawn_local(NUMBER.scope(i, async move { is_kept(*stays).await }));
                    // What is spawned inherits nothing.
                    set.spawn_local(async { assert!(NUMBER.try_get().is_err()) });
                }
                set.join_all().await;
                assert_eq!(NUMBER.get(), 1000);
            }),
        );
    });
}

#[test]
fn closures_have_theirs_by_sync_scope() {
    fn check(number: usize) {
        NUMBER.sync_scope(number, || {
            assert_eq!(NUMBER.get(), number);
            common::fib(12);
            assert_eq!(NUMBER.get(), number, "whatever was stolen meanwhile");
        });
        assert!(NUMBER.try_get().is_err());
    }
    at_each_size(|runtime| {
        let closures: Vec<_> = (0..50)
            .flat_map(|i| {
                [runtime.spawn_blocking_parallel(move || check(i)), runtime.spawn_blocking(move || check(i))]
            })
            .collect();
        for closure in closures {
            closure.join().unwrap();
        }
    });
}

/// Each half has its own value, wherever it runs; moved in, not inherited.
#[test]
fn halves_have_theirs_by_sync_scope() {
    fn sum(depth: usize) -> usize {
        let number = NUMBER.get();
        if depth == 0 {
            return number;
        }
        let (left, right) = beat::join(
            move || NUMBER.sync_scope(2 * number, || sum(depth - 1)),
            move || NUMBER.sync_scope(2 * number + 1, || sum(depth - 1)),
        );
        assert_eq!(NUMBER.get(), number);
        left + right
    }
    at_each_size(|runtime| {
        let total = runtime.spawn_blocking_parallel(|| NUMBER.sync_scope(1, || sum(12))).join().unwrap();
        assert_eq!(total, (4096..8192).sum::<usize>());
    });
}

#[test]
fn the_value_goes_with_the_task() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let task = runtime.spawn(GUARD.scope(drops.guard(), std::future::pending::<()>()));
        task.abort();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}
