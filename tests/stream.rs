//! `beat::stream`: parallel iterators as streams and streams as parallel work, within their bounds.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use beat::stream::{IntoStream, ParStreamExt};
use common::{DropGuard, Drops, Gate, Latch, at_each_size, panic_message, runtime};
use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt, stream};
use rayon::prelude::*;

/// Capacities: one, fewer than blocks, an odd one, more than there are elements.
const CAPACITIES: [usize; 4] = [1, 3, 64, 100_000];

/// A number that threads wait for.
#[derive(Default)]
struct Count {
    count: Mutex<usize>,
    changed: std::sync::Condvar,
}

impl Count {
    fn add(&self) -> usize {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        self.changed.notify_all();
        *count
    }

    fn get(&self) -> usize {
        *self.count.lock().unwrap()
    }

    fn wait_for(&self, least: usize) {
        drop(self.changed.wait_while(self.count.lock().unwrap(), |count| *count < least).unwrap());
    }
}

/// Opens when it is dropped.
struct OpensWhenDropped(Arc<Latch>);

impl Drop for OpensWhenDropped {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn poll_once<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    stream.poll_next_unpin(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn elements_come_in_their_order() {
    at_each_size(|runtime| {
        for capacity in CAPACITIES {
            let got: Vec<usize> = runtime.block_on(
                (0..5_000_usize).into_par_iter().map(|n| n * 3).into_stream(capacity).collect::<Vec<_>>(),
            );
            assert_eq!(got, (0..5_000).map(|n| n * 3).collect::<Vec<_>>());
        }
    });
}

#[test]
fn out_of_order_each_comes_once() {
    at_each_size(|runtime| {
        for capacity in CAPACITIES {
            let stream = (0..5_000_usize).into_par_iter().into_stream_unordered(capacity);
            let mut got: Vec<usize> = runtime.block_on(stream.collect());
            got.sort_unstable();
            assert_eq!(got, (0..5_000).collect::<Vec<_>>());
        }
    });
}

#[test]
fn adaptors_that_need_an_index_go_before_it() {
    at_each_size(|runtime| {
        let text = vec!["a", "b", "c"];
        let numbers = vec![1, 2, 3, 4];
        let stream = text.into_par_iter().zip(numbers).enumerate().rev().into_stream(4);
        assert_eq!(stream.size_hint(), (3, Some(3)));
        let got: Vec<_> = runtime.block_on(stream.collect());
        assert_eq!(got, [(2, ("c", 3)), (1, ("b", 2)), (0, ("a", 1))]);
        let empty: Vec<u8> = runtime.block_on(Vec::<u8>::new().into_par_iter().into_stream(1).collect());
        assert!(empty.is_empty());
    });
}

#[test]
fn a_slow_element_holds_up_those_after_it_and_out_of_order_none() {
    at_each_size(|runtime| {
        let gate = Latch::new();
        let slow = || {
            let gate = Arc::clone(&gate);
            (0..100_usize).into_par_iter().map(move |n| {
                if n == 0 {
                    beat::block_in_place(|| gate.wait());
                }
                n
            })
        };
        runtime.block_on(async {
            let mut ordered = slow().into_stream(8);
            let mut unordered = slow().into_stream_unordered(8);
            assert_ne!(unordered.next().await, Some(0));
            assert!(poll_once(&mut ordered).is_pending());
            gate.set();
            assert_eq!(ordered.collect::<Vec<_>>().await, (0..100).collect::<Vec<_>>());
            assert_eq!(unordered.count().await, 99);
        });
    });
}

/// What is computed and not handed out is never more than the capacity, and comes up to it.
#[test]
fn no_more_is_computed_ahead_than_there_is_room() {
    at_each_size(|runtime| {
        for capacity in [1, 2, 7, 64] {
            for ordered in [true, false] {
                let begun = Arc::new(Count::default());
                let taken = Arc::new(AtomicUsize::new(0));
                let elements = (0..1_000_usize).into_par_iter().map({
                    let (begun, taken) = (Arc::clone(&begun), Arc::clone(&taken));
                    move |n| {
                        let ahead = begun.add().saturating_sub(taken.load(SeqCst));
                        assert!(ahead <= capacity, "{ahead} ahead, and room for {capacity}");
                        n
                    }
                });
                let mut stream = if ordered {
                    elements.into_stream(capacity)
                } else {
                    elements.into_stream_unordered(capacity)
                };
                runtime.block_on(async {
                    assert_eq!(begun.get(), 0, "nothing runs before the first poll");
                    for number in 1..=500 {
                        // Counted before: the room is free as soon as the item is handed out.
                        taken.store(number, SeqCst);
                        assert!(stream.next().await.is_some());
                    }
                });
                // Nobody reads, and the buffer fills but for the blocks at its ends, which have room or not as a whole.
                let longest = (capacity / (4 * runtime.current_num_threads())).max(1);
                begun.wait_for(500 + capacity - 2 * (longest - 1));
                drop(stream);
            }
        }
    });
}

/// With the buffer full, one worker goes on with closures, tasks and other streams.
#[test]
fn a_full_buffer_holds_no_worker() {
    let runtime = runtime(1);
    common::within(std::time::Duration::from_secs(60), || {
        let begun = Arc::new(Count::default());
        let full = || {
            let begun = Arc::clone(&begun);
            (0..usize::MAX).into_par_iter().inspect(move |_| _ = begun.add())
        };
        runtime.block_on(async {
            let mut streams: Vec<_> = (0..10).map(|_| full().into_stream(2)).collect();
            for stream in &mut streams {
                assert_eq!(stream.next().await, Some(0));
            }
            // Each has room for two more.
            beat::block_in_place(|| begun.wait_for(30));
            assert_eq!(beat::spawn_blocking_parallel(|| common::fib(15)).await.unwrap(), 610);
            assert_eq!(beat::spawn(async { 5 }).await.unwrap(), 5);
            assert_eq!(begun.get(), 30);
            for stream in &mut streams {
                assert_eq!(stream.next().await, Some(1));
            }
        });
    });
}

#[test]
fn dropping_the_stream_ends_the_work() {
    at_each_size(|runtime| {
        for ordered in [true, false] {
            let ended = Latch::new();
            let guard = OpensWhenDropped(Arc::clone(&ended));
            let elements = (0..usize::MAX).into_par_iter().map(move |n| {
                let _guard = &guard;
                n
            });
            let mut stream =
                if ordered { elements.into_stream(8) } else { elements.into_stream_unordered(8) };
            runtime.block_on(async {
                for _ in 0..10 {
                    stream.next().await.unwrap();
                }
            });
            drop(stream);
            ended.wait();
        }
    });
}

#[test]
fn a_stream_that_nobody_polls_is_dropped_with_its_elements() {
    let drops = Drops::default();
    let elements: Vec<DropGuard> = (0..10).map(|_| drops.guard()).collect();
    drop(elements.into_par_iter().into_stream(4));
    assert_eq!(drops.count(), 10);
}

#[test]
fn every_element_is_dropped_once() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let ended = Latch::new();
        let guard = OpensWhenDropped(Arc::clone(&ended));
        let elements: Vec<DropGuard> = (0..1_000).map(|_| drops.guard()).collect();
        let mut stream = elements.into_par_iter().map(move |element| (&guard, element).1).into_stream(16);
        runtime.block_on(async {
            for _ in 0..100 {
                drop(stream.next().await.unwrap());
            }
        });
        drop(stream);
        ended.wait();
        // The closure is gone, and with it all that the producer held.
        while drops.count() < 1_000 {
            std::thread::yield_now();
        }
        assert_eq!(drops.count(), 1_000);
    });
}

#[test]
fn a_panic_comes_in_the_place_of_its_element() {
    at_each_size(|runtime| {
        for capacity in CAPACITIES {
            let mut stream = (0..1_000_usize)
                .into_par_iter()
                .map(|n| if n == 700 { panic!("element {n}") } else { n })
                .into_stream(capacity);
            runtime.block_on(async {
                for n in 0..700 {
                    assert_eq!(stream.next().await, Some(n));
                }
            });
            assert_eq!(panic_message(|| runtime.block_on(stream.next())), "element 700");
            assert_eq!(runtime.block_on(stream.next()), None, "it is over");
        }
    });
}

#[test]
fn a_panic_out_of_order_reaches_the_reader_too() {
    at_each_size(|runtime| {
        let stream = (0..1_000_usize).into_par_iter().map(|n| assert_ne!(n, 5, "the fifth"));
        let message = panic_message(|| runtime.block_on(stream.into_stream_unordered(16).count()));
        assert!(message.contains("the fifth"));
    });
}

#[test]
fn a_reader_outside_hears_of_the_runtimes_end() {
    let runtime = runtime(2);
    let entered = runtime.enter();
    let mut stream = (0..usize::MAX).into_par_iter().into_stream(2);
    let mut results = stream::pending::<()>().par_map(1, |()| ());
    assert!(poll_once(&mut results).is_pending());
    assert_eq!(futures::executor::block_on(stream.next()), Some(0));
    drop(entered);
    runtime.shutdown_background();
    let message = panic_message(|| futures::executor::block_on(stream.count()));
    assert!(message.contains("the runtime has been shut down"), "{message}");
}

#[test]
fn results_come_in_the_order_of_the_items() {
    at_each_size(|runtime| {
        for most in [1, 2, 50] {
            let got: Vec<u64> =
                runtime.block_on(stream::iter(0..300_u64).par_map(most, |n| n + common::fib(5)).collect());
            assert_eq!(got, (5..305).collect::<Vec<_>>());
            let mut got: Vec<u64> =
                runtime.block_on(stream::iter(0..300_u64).par_map_unordered(most, |n| n).collect());
            got.sort_unstable();
            assert_eq!(got, (0..300).collect::<Vec<_>>());
        }
    });
}

#[test]
fn no_more_closures_are_under_way_than_are_allowed() {
    at_each_size(|runtime| {
        for most in [1, 3] {
            let read = Arc::new(AtomicUsize::new(0));
            let taken = Arc::new(AtomicUsize::new(0));
            let items = stream::iter(0..200).inspect({
                let (read, taken) = (Arc::clone(&read), Arc::clone(&taken));
                move |_| assert!(read.fetch_add(1, SeqCst) < taken.load(SeqCst) + most)
            });
            let (running, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let mut results = items.par_map_unordered(most, {
                let runs = Arc::clone(&runs);
                move |_| {
                    assert!(running.fetch_add(1, SeqCst) < most);
                    common::fib(8);
                    running.fetch_sub(1, SeqCst);
                    runs.fetch_add(1, SeqCst);
                }
            });
            runtime.block_on(async {
                while results.next().await.is_some() {
                    taken.fetch_add(1, SeqCst);
                }
            });
            assert_eq!(runs.load(SeqCst), 200);
        }
    });
}

#[test]
fn a_slow_item_holds_up_nobody_out_of_order() {
    at_each_size(|runtime| {
        let gate = Latch::new();
        let waits = Arc::clone(&gate);
        let mut results = stream::iter(0..10).par_map_unordered(2, move |n| {
            if n == 0 {
                beat::block_in_place(|| waits.wait());
            }
            n
        });
        runtime.block_on(async {
            for n in 1..10 {
                assert_eq!(results.next().await, Some(n));
            }
            assert_eq!(results.size_hint(), (1, Some(1)));
            gate.set();
            assert_eq!(results.collect::<Vec<_>>().await, [0]);
        });
    });
}

#[test]
fn a_panic_of_a_call_reaches_the_reader_and_ends_the_others() {
    at_each_size(|runtime| {
        let ended = Latch::new();
        let items = stream::iter(0..10).map({
            let ended = Arc::clone(&ended);
            move |n| (n, (n == 2).then(|| OpensWhenDropped(Arc::clone(&ended))))
        });
        let mut results = items.par_map(4, |(n, _guard)| {
            assert_ne!(n, 1, "the first");
            if n > 1 {
                loop {
                    beat::join(|| (), || ());
                }
            }
            n
        });
        assert_eq!(runtime.block_on(results.next()), Some(0));
        assert!(panic_message(|| runtime.block_on(results.next())).contains("the first"));
        assert_eq!(runtime.block_on(results.next()), None);
        ended.wait();
    });
}

#[test]
fn dropping_the_results_aborts_the_closures() {
    at_each_size(|runtime| {
        let begun = Arc::new(Count::default());
        let ended = Latch::new();
        let guard = OpensWhenDropped(Arc::clone(&ended));
        let begins = Arc::clone(&begun);
        let mut results = stream::repeat(()).par_map(8, move |()| {
            let _guard = &guard;
            begins.add();
            loop {
                beat::join(|| (), || ());
            }
        });
        let _entered = runtime.enter();
        assert!(matches!(poll_once::<_>(&mut results), Poll::<Option<()>>::Pending));
        begun.wait_for(1);
        drop(results);
        ended.wait();
    });
}

#[test]
fn for_each_ends_when_all_calls_have_returned() {
    at_each_size(|runtime| {
        let sum = Arc::new(AtomicUsize::new(0));
        let total = Arc::clone(&sum);
        let all = stream::iter(1..=1_000).par_for_each(3, move |n| _ = total.fetch_add(n, SeqCst));
        runtime.block_on(all);
        assert_eq!(sum.load(SeqCst), 500_500);
    });
}

#[test]
fn a_source_that_has_nothing_yet_is_waited_for() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let (mut send, receive) = mpsc::channel(1);
            let gate = Gate::new();
            let opens = Arc::clone(&gate);
            let reader = beat::spawn(async move {
                let mut results = receive.par_map(4, |n: u32| n * 2);
                let first = results.next().await;
                opens.open();
                (first, results.collect::<Vec<_>>().await)
            });
            send.send(1).await.unwrap();
            gate.wait().await;
            for n in 2..50 {
                send.send(n).await.unwrap();
            }
            drop(send);
            let (first, others) = reader.await.unwrap();
            assert_eq!(first, Some(2));
            assert_eq!(others, (2..50).map(|n| n * 2).collect::<Vec<_>>());
        });
    });
}

/// A service: one iterator's elements through a channel into work, whose results are a stream again.
#[test]
fn one_feeds_the_other() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let (send, receive) = mpsc::channel(4);
            let source = (0..2_000_u32).into_par_iter().map(|n| u64::from(n) + 1).into_stream(16);
            let feeds = beat::spawn(source.map(Ok).forward(send));
            let sum = receive.par_map(4, |n| n * 2).fold(0, async |sum, n| sum + n).await;
            feeds.await.unwrap().unwrap();
            assert_eq!(sum, 2_000 * 2_001);
        });
    });
}

#[test]
fn an_iterator_that_forks_and_blocks_inside_its_elements() {
    at_each_size(|runtime| {
        let sums = (0..50_u32).into_par_iter().map(|n| {
            let inner: Vec<u64> = beat::block_in_place(|| {
                futures::executor::block_on(async move { vec![u64::from(n), common::fib(8)] })
            });
            inner.iter().sum::<u64>()
        });
        let got: Vec<u64> = runtime.block_on(sums.into_stream(4).collect());
        assert_eq!(got, (21..71).collect::<Vec<_>>());
    });
}

/// The reader blocks a closure, on as many workers as there are.
#[test]
fn closures_may_read_too() {
    at_each_size(|runtime| {
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let handle = runtime.handle().clone();
                runtime.spawn_blocking_parallel(move || {
                    handle.block_on((0..300_usize).into_par_iter().into_stream(3).count())
                })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 300);
        }
    });
}

#[test]
fn no_room_is_refused() {
    let refused = [
        panic_message(|| [1].into_par_iter().into_stream(0)),
        panic_message(|| stream::empty::<()>().par_map(0, |()| ())),
    ];
    assert!(refused[0].contains("room for one element"));
    assert!(refused[1].contains("one closure"));
}

/// The first `next` is polled once and dropped.
async fn polled_and_then_awaited<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    match poll_once(stream) {
        Poll::Ready(item) => item,
        Poll::Pending => stream.next().await,
    }
}

#[test]
fn a_reader_that_is_put_aside_loses_nothing() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let mut elements = (0..200_u32).into_par_iter().into_stream(4);
            let mut results = stream::iter(0..200_u32).par_map(4, |n| n);
            for n in 0..200 {
                assert_eq!(polled_and_then_awaited(&mut elements).await, Some(n));
                assert_eq!(polled_and_then_awaited(&mut results).await, Some(n));
            }
        });
    });
}

/// A stream that somebody keeps and does not read keeps no runtime from ending.
#[test]
fn a_kept_stream_does_not_hold_up_a_shutdown() {
    common::within(std::time::Duration::from_secs(60), || {
        let runtime = runtime(1);
        let begun = Arc::new(Count::default());
        let begins = Arc::clone(&begun);
        let elements = (0..usize::MAX).into_par_iter().inspect(move |_| _ = begins.add());
        let mut stream = elements.into_stream(2);
        assert_eq!(runtime.block_on(stream.next()), Some(0));
        // The only processor is free for elements because the producer waits for room.
        begun.wait_for(3);
        drop(runtime);
        assert_eq!(futures::executor::block_on(stream.next()), Some(1));
        let message = panic_message(|| futures::executor::block_on(stream.count()));
        assert!(message.contains("the runtime has been shut down"), "{message}");
    });
}
