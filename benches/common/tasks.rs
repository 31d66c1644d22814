//! Programs of tasks, written once for both runtimes, and once more without one.
//!
//! What is called sequential does the same work on the same futures and channels, polled by hand on one
//! thread: what a runtime takes beyond that is its own.

use std::fmt::Debug;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, oneshot};

/// A runtime.
pub(crate) trait Executor {
    type Error: Debug;
    type Handle<T: Send + 'static>: Future<Output = Result<T, Self::Error>> + Send;

    /// Spawns from a task.
    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static;

    /// Spawns from a thread that is none of the runtime's.
    fn spawn_from_outside<F>(&self, future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static;

    /// Spawns from a task, and lets go of the handle.
    fn spawn_detached(future: impl Future<Output = ()> + Send + 'static) {
        drop(Self::spawn(future));
    }

    fn yield_now() -> impl Future<Output = ()> + Send;

    fn block_on<F: Future>(&self, future: F) -> F::Output;

    /// Runs a future on a worker.
    fn run<F>(&self, future: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.block_on(self.spawn_from_outside(future)).expect("the task ends")
    }
}

impl Executor for beat::Runtime {
    type Error = beat::JoinError;
    type Handle<T: Send + 'static> = beat::JoinHandle<T>;

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        beat::spawn(future)
    }

    fn spawn_from_outside<F>(&self, future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn(future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        beat::yield_now()
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.block_on(future)
    }
}

impl Executor for tokio::runtime::Runtime {
    type Error = tokio::task::JoinError;
    type Handle<T: Send + 'static> = tokio::task::JoinHandle<T>;

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(future)
    }

    fn spawn_from_outside<F>(&self, future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn(future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.block_on(future)
    }
}

/// tokio's scheduler with that many workers, and its I/O and timers, which Beat's default has too.
pub(crate) fn tokio_runtime(workers: usize) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.expect("tokio starts its threads")
}

// ----- spawning -----

/// A task spawns the next one and ends, again and again.
pub(crate) async fn chain<E: Executor>(length: u64) {
    fn link<E: Executor>(left: u64, end: oneshot::Sender<u64>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if left == 0 {
                end.send(black_box(left)).expect("somebody waits for the end");
            } else {
                E::spawn_detached(link::<E>(left - 1, end));
            }
        })
    }
    let (end, ended) = oneshot::channel();
    E::spawn_detached(link::<E>(length, end));
    assert_eq!(ended.await, Ok(0));
}

async fn small(index: u64) -> u64 {
    black_box(index)
}

fn check_sum(sum: u64, tasks: u64) {
    assert_eq!(sum, tasks * (tasks - 1) / 2);
}

/// A task spawns others, then awaits them all.
pub(crate) async fn spawn_from_a_worker<E: Executor>(tasks: u64) {
    let handles: Vec<_> = (0..tasks).map(|index| E::spawn(small(index))).collect();
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.expect("the task ends");
    }
    check_sum(sum, tasks);
}

/// A foreign thread spawns tasks, then awaits them all.
pub(crate) fn spawn_from_outside<E: Executor>(runtime: &E, tasks: u64) {
    let handles: Vec<_> = (0..tasks).map(|index| runtime.spawn_from_outside(small(index))).collect();
    let sum = runtime.block_on(async {
        let mut sum = 0;
        for handle in handles {
            sum += handle.await.expect("the task ends");
        }
        sum
    });
    check_sum(sum, tasks);
}

/// Spawns nothing: polls the same futures where they are.
pub(crate) fn call(tasks: u64) {
    let sum = (0..tasks).map(|index| poll_to_the_end(small(index))).sum();
    check_sum(sum, tasks);
}

// ----- yielding -----

/// Tasks that take turns.
pub(crate) async fn yields<E: Executor>(tasks: u64, times: u64) {
    let task = || async move {
        for _ in 0..times {
            E::yield_now().await;
        }
        times
    };
    let handles: Vec<_> = (0..tasks).map(|_| E::spawn(task())).collect();
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.expect("the task ends");
    }
    assert_eq!(sum, tasks * times);
}

/// Yields to nobody.
pub(crate) fn yields_by_hand(tasks: u64, times: u64) {
    for _ in 0..tasks {
        poll_to_the_end(async {
            for _ in 0..times {
                beat::yield_now().await;
            }
        });
    }
}

// ----- waking -----

/// One side sends a number, and gets the next one from the other side.
fn ping_and_pong(number: u64) -> (impl Future<Output = u64> + Send, impl Future<Output = ()> + Send) {
    let (ping, pinged) = oneshot::channel();
    let (pong, ponged) = oneshot::channel();
    let here = async move {
        ping.send(number).expect("the other side is there");
        ponged.await.expect("the other side answers")
    };
    let there = async move {
        let number = pinged.await.expect("the other side sends");
        pong.send(number + 1).expect("the other side waits");
    };
    (here, there)
}

/// A task spawns another and exchanges a message with it through two oneshot channels, again and again.
pub(crate) async fn ping_pong<E: Executor>(pairs: u64) {
    for pair in 0..pairs {
        let (here, there) = ping_and_pong(pair);
        let there = E::spawn(there);
        assert_eq!(here.await, pair + 1);
        there.await.expect("the task ends");
    }
}

/// The same in as many pairs of tasks at once.
pub(crate) async fn ping_pong_at_once<E: Executor>(pairs: u64) {
    let one = |pair| async move {
        let (here, there) = ping_and_pong(pair);
        let there = E::spawn(there);
        let answer = here.await;
        there.await.expect("the task ends");
        answer
    };
    let handles: Vec<_> = (0..pairs).map(|pair| E::spawn(one(pair))).collect();
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.expect("the task ends") - 1;
    }
    check_sum(sum, pairs);
}

/// The same without tasks.
pub(crate) fn ping_pong_by_hand(pairs: u64) {
    for pair in 0..pairs {
        let (here, there) = ping_and_pong(pair);
        assert_eq!(poll_both(there, here).1, pair + 1);
    }
}

/// Two sides that wake each other in turn: `rounds` times each.
fn wake_each_other(rounds: u64) -> [impl Future<Output = u64> + Send; 2] {
    let bells = [(); 2].map(|()| Arc::new(Notify::new()));
    bells[0].notify_one();
    [0, 1].map(|side| {
        let (own, other) = (Arc::clone(&bells[side]), Arc::clone(&bells[1 - side]));
        async move {
            let mut woken = 0;
            for _ in 0..rounds {
                own.notified().await;
                woken += 1;
                other.notify_one();
            }
            woken
        }
    })
}

/// Two tasks wake each other in turn: two wake-ups a round.
pub(crate) async fn wakes<E: Executor>(rounds: u64) {
    let [here, there] = wake_each_other(rounds);
    let there = E::spawn(there);
    let woken = here.await + there.await.expect("the task ends");
    assert_eq!(woken, 2 * rounds);
}

/// The same without tasks.
pub(crate) fn wakes_by_hand(rounds: u64) {
    let [here, there] = wake_each_other(rounds);
    let (here, there) = poll_both(here, there);
    assert_eq!(here + there, 2 * rounds);
}

// ----- by hand -----

fn poll_to_the_end<F: Future>(future: F) -> F::Output {
    let mut future = pin!(black_box(future));
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

/// Polls one, then the other, until both have ended.
fn poll_both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(black_box(a)), pin!(black_box(b)));
    let (mut output_a, mut output_b) = (None, None);
    while output_a.is_none() || output_b.is_none() {
        poll_once(a.as_mut(), &mut output_a);
        poll_once(b.as_mut(), &mut output_b);
    }
    output_a.zip(output_b).expect("both have ended")
}

fn poll_once<F: Future>(future: Pin<&mut F>, output: &mut Option<F::Output>) {
    if output.is_none()
        && let Poll::Ready(value) = future.poll(&mut Context::from_waker(Waker::noop()))
    {
        *output = Some(value);
    }
}
