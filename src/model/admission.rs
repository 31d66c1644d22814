//! Admission: waiters, those who leave, abandoned waiters, the close, and the sampler's falling asleep.

use std::task::{Wake, Waker};

use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

use super::check;
use crate::admission::Class;
use crate::admission::queue::{Entered, Place, Queue, Terms};
use crate::parker::Parker;
use crate::sync::Arc;

/// A waker that unparks.
struct Unparks(Parker);

impl Wake for Unparks {
    fn wake(self: std::sync::Arc<Self>) {
        let _ = self.0.unpark();
    }
}

/// A task that waits on a thread of its own.
struct Waiter {
    parker: std::sync::Arc<Unparks>,
    waker: Waker,
}

impl Waiter {
    fn new() -> Self {
        let parker = std::sync::Arc::new(Unparks(Parker::new()));
        Self { waker: Waker::from(std::sync::Arc::clone(&parker)), parker }
    }

    /// `Wait`, with another waker at each poll, as a task that moves has.
    fn wait(self, queue: &Queue, place: Place) {
        let Place::Waits(number, _) = place else { return };
        let mut this = self;
        while !queue.poll_wait(Class::Normal, number, &this.waker) {
            this.parker.0.park();
            this = Self::new();
        }
    }
}

fn terms(room: u64) -> Terms {
    Terms { room, plenty: false, ..Terms::PLENTY }
}

/// Room for so many bytes, of which some are reserved.
fn queue(room: u64, reserved: u64) -> Arc<Queue> {
    let queue = Arc::new(Queue::new(0));
    queue.set_terms(terms(room)).wake();
    assert_eq!(queue.enter(Class::Normal, reserved, false), Entered::Admitted);
    queue
}

fn spawn(queue: &Arc<Queue>, f: impl FnOnce(&Queue) + 'static) -> thread::JoinHandle<()> {
    let queue = Arc::clone(queue);
    thread::spawn(move || f(&queue))
}

#[test]
fn a_waiter_is_admitted_when_another_one_ends() {
    check(|| {
        let queue = queue(1, 1);
        let ends = spawn(&queue, |queue| queue.release(1).wake());
        let waiter = Waiter::new();
        let place = queue.enqueue(Class::Normal, 1, false, &waiter.waker);
        waiter.wait(&queue, place);
        queue.release(1).wake();
        ends.join().unwrap();
        assert_eq!(queue.load(), (0, 0, 0));
    });
}

#[test]
fn a_waiter_is_admitted_when_there_is_more_room() {
    check(|| {
        let queue = queue(1, 1);
        let looks = spawn(&queue, |queue| queue.set_terms(terms(2)).wake());
        let waiter = Waiter::new();
        let place = queue.enqueue(Class::Normal, 1, false, &waiter.waker);
        waiter.wait(&queue, place);
        looks.join().unwrap();
        assert_eq!(queue.load(), (2, 2, 0));
    });
}

#[test]
fn an_abandoned_waiter_passes_its_turn_on() {
    check(|| {
        let queue = queue(2, 1);
        let Place::Waits(large, _) = queue.enqueue(Class::Normal, 2, false, Waker::noop()) else {
            panic!("there is no room for two")
        };
        let leaves = spawn(&queue, move |queue| queue.abandon(Class::Normal, large).wake());
        let waiter = Waiter::new();
        let place = queue.enqueue(Class::Normal, 1, false, &waiter.waker);
        waiter.wait(&queue, place);
        leaves.join().unwrap();
        assert_eq!(queue.load(), (2, 2, 0));
    });
}

#[test]
fn a_waiter_abandoned_while_it_is_admitted_keeps_nothing() {
    check(|| {
        let queue = queue(1, 1);
        let Place::Waits(first, _) = queue.enqueue(Class::Normal, 1, false, Waker::noop()) else {
            panic!("there is no room")
        };
        let waiter = Waiter::new();
        // Polled anew with a waker of its own, as a future is that has been moved to another task.
        let place = queue.enqueue(Class::Normal, 1, false, Waker::noop());
        let leaves = spawn(&queue, move |queue| queue.abandon(Class::Normal, first).wake());
        let ends = spawn(&queue, |queue| queue.release(1).wake());
        waiter.wait(&queue, place);
        leaves.join().unwrap();
        ends.join().unwrap();
        queue.release(1).wake();
        assert_eq!(queue.load(), (0, 0, 0));
    });
}

#[test]
fn the_sampler_is_awake_for_as_long_as_somebody_waits() {
    check(|| {
        let queue = Queue::new(0);
        queue.set_terms(terms(0)).wake();
        let Place::Waits(number, _) = queue.enqueue(Class::Normal, 1, false, Waker::noop()) else {
            panic!("there is no room")
        };
        let falls_asleep = || (0..10).any(|_| queue.may_sleep(1, || false));
        assert!(!falls_asleep());
        queue.abandon(Class::Normal, number).wake();
        assert!(falls_asleep());
    });
}

#[test]
fn the_close_lets_a_waiter_pass() {
    check(|| {
        let queue = queue(1, 1);
        let closes = spawn(&queue, |queue| queue.close().wake());
        let waiter = Waiter::new();
        let place = queue.enqueue(Class::Normal, 1, false, &waiter.waker);
        waiter.wait(&queue, place);
        closes.join().unwrap();
    });
}

#[test]
fn an_accept_loop_goes_on_when_a_task_ends() {
    check(|| {
        let queue = Arc::new(Queue::new(1));
        queue.set_terms(Terms { accepts: false, ..terms(0) }).wake();
        assert_eq!(queue.enter(Class::Normal, 1, false), Entered::Admitted);
        let ends = spawn(&queue, |queue| queue.release(1).wake());
        let (waiter, mut number) = (Waiter::new(), None);
        while queue.poll_accept(&mut number, &waiter.waker).is_some() {
            waiter.parker.0.park();
        }
        ends.join().unwrap();
    });
}

#[test]
fn the_sampler_does_not_sleep_beside_a_waiter() {
    check(|| {
        let queue = Arc::new(Queue::new(0));
        let room = Arc::new(AtomicUsize::new(0));
        let sampler = std::sync::Arc::new(Parker::new());
        let samples = spawn(&queue, {
            let (room, sampler) = (Arc::clone(&room), std::sync::Arc::clone(&sampler));
            move |queue| {
                // It ends with the look that lets the waiter in.
                loop {
                    let seen = room.load(SeqCst) as u64;
                    queue.set_terms(terms(seen)).wake();
                    if seen > 0 && queue.load().1 > 0 {
                        break;
                    }
                    if queue.may_sleep(1, || false) {
                        sampler.park();
                        let _ = queue.use_it();
                    } else {
                        thread::yield_now();
                    }
                }
            }
        });
        if queue.use_it() {
            let _ = sampler.unpark();
        }
        let waiter = Waiter::new();
        let place = queue.enqueue(Class::Normal, 1, false, &waiter.waker);
        if let Place::Waits(_, true) = place {
            let _ = sampler.unpark();
        }
        room.store(1, SeqCst);
        waiter.wait(&queue, place);
        samples.join().unwrap();
    });
}
