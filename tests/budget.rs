//! A task that always finds something to do yields all the same: by tokio's budget, and by time.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{at_each_size, runtime};

/// Runs `greedy` on the only worker, and says whether another task of that worker ran before it had ended.
fn lets_another_task_run<F>(greedy: impl FnOnce(Arc<AtomicBool>) -> F) -> bool
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = runtime(1);
    let ran = Arc::new(AtomicBool::new(false));
    let greedy = greedy(Arc::clone(&ran));
    let ran_meanwhile = runtime.spawn(async move {
        // Behind this task, on the same worker.
        let other = beat::spawn({
            let ran = Arc::clone(&ran);
            async move { ran.store(true, SeqCst) }
        });
        greedy.await;
        let ran_meanwhile = ran.load(SeqCst);
        other.await.unwrap();
        ran_meanwhile
    });
    runtime.block_on(ran_meanwhile).unwrap()
}

#[cfg(feature = "tokio")]
#[test]
fn receiving_what_is_there_yields_by_tokios_budget() {
    const MESSAGES: usize = 1_000;
    assert!(lets_another_task_run(|_| async {
        let (send, mut receive) = tokio::sync::mpsc::channel(MESSAGES);
        for i in 0..MESSAGES {
            send.try_send(i).unwrap();
        }
        for i in 0..MESSAGES {
            assert_eq!(receive.recv().await, Some(i));
        }
    }));
}

#[cfg(feature = "tokio")]
#[test]
fn an_unconstrained_future_has_no_budget() {
    const MESSAGES: usize = 1_000;
    let polls = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(1);
    let task = runtime.spawn({
        let polls = Arc::clone(&polls);
        async move {
            let (send, mut receive) = tokio::sync::mpsc::channel(MESSAGES);
            for i in 0..MESSAGES {
                send.try_send(i).unwrap();
            }
            let mut all = std::pin::pin!(beat::task::unconstrained(async {
                for _ in 0..MESSAGES {
                    receive.recv().await.unwrap();
                }
            }));
            std::future::poll_fn(|cx| {
                polls.fetch_add(1, SeqCst);
                all.as_mut().poll(cx)
            })
            .await;
        }
    });
    runtime.block_on(task).unwrap();
    assert_eq!(polls.load(SeqCst), 1);
}

/// The budget must not be left behind for those who poll on the worker next: spent, it would make them spin.
#[cfg(feature = "tokio")]
#[test]
fn a_spent_budget_ends_with_its_poll() {
    at_each_size(|runtime| {
        let task = runtime.spawn(async {
            let (send, mut receive) = tokio::sync::mpsc::channel(1_000);
            for i in 0..1_000 {
                send.try_send(i).unwrap();
            }
            // Inside the poll, in a `block_on` of Beat's, and of somebody else's, which has no budget either.
            let inside = beat::Handle::current().block_on(async {
                for _ in 0..500 {
                    receive.recv().await.unwrap();
                }
                5
            });
            let closure = beat::spawn_blocking_parallel(move || {
                futures::executor::block_on(async {
                    for _ in 0..500 {
                        receive.recv().await.unwrap();
                    }
                });
            });
            closure.await.unwrap();
            inside
        });
        assert_eq!(runtime.block_on(task).unwrap(), 5);
    });
}

#[test]
fn awaiting_finished_tasks_yields_by_time() {
    assert!(lets_another_task_run(|ran| async move {
        // Each is finished when it is awaited; without a budget the loop would not end.
        while !ran.load(SeqCst) {
            let finished = beat::spawn_blocking(|| ());
            while !finished.is_finished() {
                std::hint::spin_loop();
            }
            finished.await.unwrap();
        }
    }));
}

#[test]
fn consuming_budget_yields_by_time() {
    assert!(lets_another_task_run(|ran| async move {
        while !ran.load(SeqCst) {
            beat::task::consume_budget().await;
        }
    }));
}

#[test]
fn a_long_budget_is_not_spent() {
    let runtime =
        beat::Runtime::builder().worker_threads(1).poll_budget(Duration::from_secs(3600)).build().unwrap();
    let polls_before = runtime.metrics().polls;
    let task = runtime.spawn(async {
        for _ in 0..100_000 {
            beat::task::consume_budget().await;
        }
    });
    runtime.block_on(task).unwrap();
    assert_eq!(runtime.metrics().polls - polls_before, 1);
}

/// Receives what is there, again and again; its future ends when `other` has run.
#[cfg(feature = "tokio")]
async fn receive_until(other: &AtomicBool) {
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    while !other.load(SeqCst) {
        send.send(()).unwrap();
        receive.recv().await.unwrap();
    }
}

#[cfg(feature = "tokio")]
#[test]
fn what_block_on_polls_gives_way_to_its_other_branch() {
    at_each_size(|runtime| {
        let ran = AtomicBool::new(false);
        let other = async { ran.store(true, SeqCst) };
        runtime.block_on(async { tokio::join!(biased; receive_until(&ran), other) });
    });
}

#[test]
fn what_block_on_polls_gives_way_by_time() {
    at_each_size(|runtime| {
        let ran = AtomicBool::new(false);
        let greedy = async {
            while !ran.load(SeqCst) {
                beat::task::consume_budget().await;
            }
        };
        let other = async { ran.store(true, SeqCst) };
        runtime.block_on(futures::future::join(greedy, other));
    });
}

/// Would spin if the thread had a budget that nobody fills.
#[cfg(feature = "tokio")]
fn receive_in_another_executor() {
    const MESSAGES: usize = 1_000;
    let (send, mut receive) = tokio::sync::mpsc::channel(MESSAGES);
    for i in 0..MESSAGES {
        send.try_send(i).unwrap();
    }
    futures::executor::block_on(async {
        for i in 0..MESSAGES {
            assert_eq!(receive.recv().await, Some(i));
        }
    });
}

#[cfg(feature = "tokio")]
#[test]
fn a_thread_has_no_budget_after_block_on() {
    let runtime = runtime(1);
    runtime.block_on(async {});
    receive_in_another_executor();
}

#[cfg(feature = "tokio")]
#[test]
fn a_thread_has_no_budget_after_a_set_of_tasks() {
    let runtime = runtime(1);
    let set = beat::LocalSet::new();
    set.block_on(&runtime, async { beat::task::spawn_local(async {}).await.unwrap() });
    drop(set);
    receive_in_another_executor();
}

#[cfg(feature = "tokio")]
#[test]
fn what_blocks_in_place_has_no_budget() {
    at_each_size(|runtime| {
        runtime.block_on(async { beat::block_in_place(receive_in_another_executor) });
    });
}
