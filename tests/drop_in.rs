//! `use beat::task` in the place of `use tokio::task`: one program, compiled and run with each.
#![cfg(feature = "tokio")]

mod common;

/// A program that uses all of `task`, the module given.
macro_rules! program {
    ($task:path) => {
        use std::pin::Pin;
        use std::rc::Rc;
        use std::task::{Context, Poll, Waker};

        use $task as task;

        type Results = Vec<String>;

        pub(super) async fn run() -> Results {
            let mut results = handles().await;
            results.extend(budgets().await);
            results.extend(joined().await);
            results
        }

        async fn handles() -> Results {
            assert!(task::spawn(async { task::try_id() == Some(task::id()) }).await.unwrap());
            let handle: task::JoinHandle<u32> = task::spawn(async { 5 });
            let (id, abort): (task::Id, task::AbortHandle) = (handle.id(), handle.abort_handle());
            assert_eq!((abort.id(), id.to_string()), (id, abort.id().to_string()));
            let value = handle.await.unwrap();
            while !abort.is_finished() {
                task::yield_now().await;
            }
            let aborted = task::spawn(std::future::pending::<()>());
            aborted.abort();
            let error: task::JoinError = aborted.await.unwrap_err();
            assert!(error.is_cancelled() && !error.is_panic() && error.try_into_panic().is_err());
            let panicked: task::JoinHandle<()> = task::spawn(async { panic!("told") });
            let payload = panicked.await.unwrap_err().into_panic();
            let blocking = task::spawn_blocking(|| 6).await.unwrap();
            let in_place = task::spawn(async { task::block_in_place(|| 7) }).await.unwrap();
            vec![format!("{value} {blocking} {in_place} {:?}", payload.downcast_ref::<&str>())]
        }

        async fn budgets() -> Results {
            task::consume_budget().await;
            vec![task::unconstrained(async { "unconstrained" }).await.into()]
        }

        async fn joined() -> Results {
            let mut set: task::JoinSet<u32> = (0..3).map(|i| async move { i }).collect();
            set.extend([async { 3 }]);
            set.spawn(async { 4 });
            let aborts = [set.spawn_blocking(|| 5), set.spawn(async { 6 })];
            assert_eq!((set.len(), set.is_empty()), (7, false));
            let mut values = Vec::new();
            values.push(set.join_next().await.unwrap().unwrap());
            values.push(set.join_next_with_id().await.unwrap().unwrap().1);
            values.push(std::future::poll_fn(|cx| set.poll_join_next(cx)).await.unwrap().unwrap());
            let polled = std::future::poll_fn(|cx| set.poll_join_next_with_id(cx)).await;
            values.push(polled.unwrap().unwrap().1);
            while !aborts.iter().all(task::AbortHandle::is_finished) {
                task::yield_now().await;
            }
            while let Some(result) = set.join_next().await {
                values.push(result.unwrap());
            }
            values.sort_unstable();
            assert!(set.try_join_next().is_none() && set.try_join_next_with_id().is_none());
            set.spawn(std::future::pending());
            set.abort_all();
            assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
            set.spawn(std::future::pending());
            set.shutdown().await;
            set.spawn(async { 8 });
            set.detach_all();
            let debug = format!("{:?}", task::JoinSet::<u32>::default());
            set.spawn(async { 9 });
            vec![format!("{values:?} {debug} {:?}", set.join_all().await)]
        }

        /// For the thread of whoever blocks on it: it is not `Send`.
        pub(super) async fn run_locally() -> Results {
            let local = task::LocalSet::new();
            let shared = Rc::new(1);
            let early = local.spawn_local({
                let shared = Rc::clone(&shared);
                async move { *shared }
            });
            let entered: task::LocalEnterGuard = local.enter();
            let in_entered = task::spawn_local(async { 2 });
            drop(entered);
            let mut set = task::JoinSet::new();
            set.spawn_local_on(async { 3 }, &local);
            let sum = local.run_until(async {
                set.spawn_local(async { 4 });
                let joined: u32 = set.join_all().await.into_iter().sum();
                early.await.unwrap() + in_entered.await.unwrap() + joined
            });
            let sum = sum.await;
            drop(local.spawn_local(async move { drop(shared) }));
            local.await;
            let mut empty = task::LocalSet::default();
            let polled = Pin::new(&mut empty).poll(&mut Context::from_waker(Waker::noop()));
            vec![format!("{sum} {}", polled == Poll::Ready(()))]
        }
    };
}

mod with_beat {
    program!(::beat::task);
}

mod with_tokio {
    program!(::tokio::task);
}

#[test]
fn the_same_program_gives_the_same() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let expected = tokio.block_on(async { tokio::spawn(with_tokio::run()).await.unwrap() });
    let expected_locally = tokio.block_on(with_tokio::run_locally());
    common::at_each_size(|runtime| {
        assert_eq!(runtime.block_on(async { beat::spawn(with_beat::run()).await.unwrap() }), expected);
        assert_eq!(runtime.block_on(with_beat::run_locally()), expected_locally);
        let local = beat::LocalSet::new();
        assert_eq!(local.block_on(runtime, with_beat::run_locally()), expected_locally);
    });
}
