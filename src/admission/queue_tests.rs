use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Wake;

use super::*;
use Class::{Background, Critical, Normal};

#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn waits(place: Place) -> u64 {
    match place {
        Place::Waits(number, _) => number,
        Place::Admitted => panic!("it was to wait"),
    }
}

fn terms(room: u64) -> Terms {
    Terms { room, plenty: false, ..Terms::PLENTY }
}

/// A queue that has room for `room` bytes, and no minimum left.
fn queue(room: u64) -> Queue {
    let queue = Queue::new(0);
    queue.set_terms(terms(room)).wake();
    queue
}

fn enqueue(queue: &Queue, class: Class, bytes: u64) -> u64 {
    waits(queue.enqueue(class, bytes, false, Waker::noop()))
}

/// Whom a single byte of room admits, again and again.
fn order(queue: &Queue, numbers: &[(Class, u64)]) -> Vec<usize> {
    let mut left: Vec<_> = (0..numbers.len()).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let place = left.iter().position(|i| queue.poll_wait(numbers[*i].0, numbers[*i].1, Waker::noop()));
        order.push(left.remove(place.expect("somebody is admitted")));
        queue.release(1).wake();
    }
    order
}

#[test]
fn the_classes_share_nine_to_three_to_one_and_each_is_first_in_first_out() {
    let queue = queue(1);
    assert_eq!(queue.enter(Normal, 1, false), Entered::Admitted);
    let classes = [Background, Normal, Critical];
    let numbers: Vec<_> =
        (0..3000).map(|i| classes[i % 3]).map(|class| (class, enqueue(&queue, class, 1))).collect();
    queue.release(1).wake();
    let order = order(&queue, &numbers);
    // While all three have somebody waiting: up to the last of the critical ones, 1000 of 13/9 turns.
    let turns = 1000 * 13 / 9;
    for (class, weight) in classes.into_iter().zip([1.0, 3.0, 9.0]) {
        let of_class: Vec<_> = order.iter().filter(|i| numbers[**i].0 == class).collect();
        assert!(of_class.is_sorted(), "{class:?} is first in, first out");
        let share = order[..turns].iter().filter(|i| numbers[**i].0 == class).count() as f64 / turns as f64;
        let due = weight / 13.0;
        assert!((share - due).abs() <= 0.1 * due, "{class:?} got {share}, and {due} was due");
    }
}

#[test]
fn nobody_is_overtaken_more_often_than_stated() {
    for class in [Critical, Normal, Background] {
        for before in [0_usize, 1, 5, 20] {
            let queue = queue(1);
            assert_eq!(queue.enter(Normal, 1, false), Entered::Admitted);
            let others = [Critical, Normal, Background].into_iter().filter(|other| *other != class);
            let mut numbers: Vec<_> = others
                .flat_map(|c| std::iter::repeat_n(c, 400))
                .map(|c| (c, enqueue(&queue, c, 1)))
                .collect();
            let own: Vec<_> = (0..=before).map(|_| (class, enqueue(&queue, class, 1))).collect();
            numbers.extend(own);
            queue.release(1).wake();
            let order = order(&queue, &numbers);
            let place = order.iter().position(|i| *i == numbers.len() - 1).unwrap();
            let overtaken = (place - before) as u64;
            let most = most_overtakes(class as usize, before as u64 + 1);
            assert!(overtaken <= most, "{class:?} behind {before}: overtaken {overtaken} times of {most}");
        }
    }
}

#[test]
fn a_large_request_is_not_passed_by_small_ones() {
    let queue = queue(10);
    assert_eq!(queue.enter(Normal, 8, false), Entered::Admitted);
    let large = enqueue(&queue, Normal, 9);
    let small = enqueue(&queue, Normal, 1);
    assert_eq!(queue.enter(Critical, 0, false), Entered::Behind(2));
    // Another class that has the turn does not wait for it.
    assert!(matches!(queue.enqueue(Critical, 1, false, Waker::noop()), Place::Admitted));
    queue.release(1).wake();
    assert!(!queue.poll_wait(Normal, small, Waker::noop()));
    queue.resize(8, 1).wake();
    assert!(queue.poll_wait(Normal, large, Waker::noop()));
    assert!(!queue.poll_wait(Normal, small, Waker::noop()));
    queue.release(1).wake();
    assert!(queue.poll_wait(Normal, small, Waker::noop()));
}

#[test]
fn an_abandoned_waiter_lets_the_next_one_in() {
    let queue = queue(10);
    assert_eq!(queue.enter(Normal, 8, false), Entered::Admitted);
    let counted = Arc::new(Counted::default());
    let large = enqueue(&queue, Normal, 9);
    let small = waits(queue.enqueue(Normal, 2, false, &Waker::from(Arc::clone(&counted))));
    queue.abandon(Normal, large).wake();
    assert_eq!(counted.0.load(SeqCst), 1);
    assert!(queue.poll_wait(Normal, small, Waker::noop()));
    assert_eq!(queue.load(), (10, 2, 0));
}

#[test]
fn a_grant_that_is_not_taken_goes_back() {
    let queue = queue(1);
    assert_eq!(queue.enter(Normal, 1, false), Entered::Admitted);
    let (first, second) = (enqueue(&queue, Normal, 1), enqueue(&queue, Normal, 1));
    queue.release(1).wake();
    queue.abandon(Normal, first).wake();
    assert!(queue.poll_wait(Normal, second, Waker::noop()));
    queue.release(1).wake();
    assert_eq!(queue.load(), (0, 0, 0));
}

#[test]
fn the_minimum_is_admitted_without_any_room() {
    let queue = Queue::new(2);
    queue.set_terms(Terms { room: 0, refused: 1, accepts: false, plenty: false }).wake();
    assert_eq!(queue.enter(Background, 1 << 40, false), Entered::Admitted);
    assert_eq!(queue.enter(Normal, 0, false), Entered::Admitted);
    assert_eq!(queue.enter(Normal, 0, false), Entered::Shed);
    assert_eq!(queue.enter(Critical, 0, false), Entered::Full);
    let waiting = enqueue(&queue, Normal, 1 << 41);
    queue.release(1 << 40).wake();
    assert!(queue.poll_wait(Normal, waiting, Waker::noop()));
    // What an admitted task starts passes in any case.
    assert_eq!(queue.enter(Normal, 5, true), Entered::Admitted);
}

#[test]
fn the_gate_is_open_only_with_plenty_a_sampler_and_nobody_waiting() {
    let queue = Queue::new(0);
    assert!(!queue.is_open(), "the sampler sleeps");
    assert!(queue.use_it(), "and must be rung, once");
    assert!(!queue.use_it());
    assert!(queue.is_open());
    queue.set_terms(terms(5)).wake();
    assert!(!queue.is_open());
    let waiting = enqueue(&queue, Normal, 6);
    queue.set_terms(Terms { room: 5, ..Terms::PLENTY }).wake();
    assert!(!queue.is_open(), "somebody waits");
    queue.abandon(Normal, waiting).wake();
    assert!(queue.is_open());
    // Each look watches for one more user; after so many without the sampler may sleep.
    assert!(!queue.may_sleep(1, || false));
    assert!(!queue.is_open());
    for _ in 1..QUIET_LOOKS {
        assert!(!queue.may_sleep(1, || false));
    }
    assert!(queue.may_sleep(1, || false));
    assert!(queue.use_it());
    for _ in 0..100 {
        assert!(!queue.may_sleep(1, || true), "somebody watches");
    }
}

#[test]
fn the_close_lets_everybody_pass() {
    let queue = queue(0);
    let waiting = enqueue(&queue, Background, 1);
    queue.close().wake();
    assert!(queue.poll_wait(Background, waiting, Waker::noop()));
    assert_eq!(queue.enter(Background, 1, false), Entered::Admitted);
    assert!(matches!(queue.enqueue(Background, 1, false, Waker::noop()), Place::Admitted));
}

#[test]
fn connections_are_accepted_again_at_a_lower_level_or_below_the_minimum() {
    let queue = Queue::new(1);
    let counted = Arc::new(Counted::default());
    let waker = Waker::from(Arc::clone(&counted));
    let high = Terms { room: 5, refused: 2, accepts: false, plenty: false };
    queue.set_terms(high).wake();
    let mut number = None;
    assert_eq!(queue.poll_accept(&mut number, &waker), None, "nothing runs");
    for open in [|queue: &Queue| queue.release(0), |queue: &Queue| queue.set_terms(Terms::PLENTY)] {
        queue.set_terms(high).wake();
        assert_eq!(queue.enter(Normal, 0, true), Entered::Admitted);
        assert!(queue.poll_accept(&mut number, &waker).is_some());
        let before = counted.0.load(SeqCst);
        open(&queue).wake();
        assert_eq!(counted.0.load(SeqCst), before + 1);
        assert_eq!(queue.poll_accept(&mut number, &waker), None);
    }
}
