//! Sorting numbers, in place: each turn sorts a fresh copy of the same ones, which is made and checked off the
//! clock.

use std::sync::Mutex;

use super::forks::{Fork, Forking};
use super::searches::mix;

/// Below this length a sort is a plain insertion.
const CUT_OFF: usize = 32;

/// The numbers, and the room to sort them in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    original: &'static [u64],
    sum: u64,
    /// What is sorted, and as much again for merging.
    room: &'static Mutex<(Vec<u64>, Vec<u64>)>,
}

impl Numbers {
    pub(super) fn new(count: u64) -> Self {
        let original: Vec<u64> = (0..count).map(mix).collect();
        let sum = sum(&original);
        let room = (original.clone(), original.clone());
        Self { original: original.leak(), sum, room: Box::leak(Box::new(Mutex::new(room))) }
    }

    /// Before a turn.
    pub(super) fn shuffle(self) {
        self.room.lock().expect("no sort panics").0.copy_from_slice(self.original);
    }

    /// After a turn.
    ///
    /// # Panics
    ///
    /// If what was sorted is not.
    pub(super) fn check(self) {
        let room = self.room.lock().expect("no sort panics");
        assert!(room.0.is_sorted(), "what was sorted is in order");
        assert_eq!(sum(&room.0), self.sum, "what was sorted is the same numbers");
    }
}

fn sum(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |sum: u64, number| sum.wrapping_add(*number))
}

/// Hoare's, with the median of three as the pivot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quicksort(pub(super) Numbers);

impl Forking for Quicksort {
    fn run<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64 {
        quicksort::<F>(scope, &mut self.0.room.lock().expect("no sort panics").0);
        0
    }

    /// The numbers are the result, and are checked apart.
    fn result(self) -> u64 {
        0
    }
}

fn quicksort<F: Fork>(scope: &mut F::Scope<'_>, numbers: &mut [u64]) {
    if numbers.len() <= CUT_OFF {
        return insert_each(numbers);
    }
    let middle = partition(numbers);
    let (left, right) = numbers.split_at_mut(middle);
    F::join(scope, move |scope| quicksort::<F>(scope, left), move |scope| quicksort::<F>(scope, right));
}

/// The numbers before the returned place are at most those from there on; neither part is empty.
fn partition(numbers: &mut [u64]) -> usize {
    let last = numbers.len() - 1;
    let mut three = [numbers[0], numbers[last / 2], numbers[last]];
    three.sort_unstable();
    let pivot = three[1];
    let (mut low, mut high) = (0, last);
    loop {
        while numbers[low] < pivot {
            low += 1;
        }
        while numbers[high] > pivot {
            high -= 1;
        }
        if low >= high {
            return low.max(1);
        }
        numbers.swap(low, high);
        low += 1;
        high -= 1;
    }
}

fn insert_each(numbers: &mut [u64]) {
    for end in 1..numbers.len() {
        let number = numbers[end];
        let mut place = end;
        while place > 0 && numbers[place - 1] > number {
            numbers[place] = numbers[place - 1];
            place -= 1;
        }
        numbers[place] = number;
    }
}

/// From the bottom up, merged by one thread each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mergesort(pub(super) Numbers);

impl Forking for Mergesort {
    fn run<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64 {
        let mut room = self.0.room.lock().expect("no sort panics");
        let (numbers, scratch) = &mut *room;
        mergesort::<F>(scope, numbers, scratch);
        0
    }

    /// The numbers are the result, and are checked apart.
    fn result(self) -> u64 {
        0
    }
}

fn mergesort<F: Fork>(scope: &mut F::Scope<'_>, numbers: &mut [u64], scratch: &mut [u64]) {
    if numbers.len() <= CUT_OFF {
        return insert_each(numbers);
    }
    let middle = numbers.len() / 2;
    let (left, right) = numbers.split_at_mut(middle);
    let (left_scratch, right_scratch) = scratch.split_at_mut(middle);
    F::join(
        scope,
        |scope| mergesort::<F>(scope, left, left_scratch),
        |scope| mergesort::<F>(scope, right, right_scratch),
    );
    merge(left, right, scratch);
    numbers.copy_from_slice(scratch);
}

fn merge(left: &[u64], right: &[u64], into: &mut [u64]) {
    let (mut l, mut r) = (0, 0);
    while let (Some(a), Some(b)) = (left.get(l), right.get(r)) {
        // Without a branch on the numbers, which nothing could predict.
        let from_left = a <= b;
        into[l + r] = if from_left { *a } else { *b };
        l += usize::from(from_left);
        r += usize::from(!from_left);
    }
    let end = l + r;
    let rest = if l < left.len() { &left[l..] } else { &right[r..] };
    into[end..].copy_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::super::forks::Sequential;
    use super::*;

    #[test]
    fn both_sort() {
        let numbers = Numbers::new(10_000);
        for _ in 0..2 {
            numbers.shuffle();
            Quicksort(numbers).run::<Sequential>(&mut ());
            numbers.check();
            numbers.shuffle();
            Mergesort(numbers).run::<Sequential>(&mut ());
            numbers.check();
        }
    }

    #[test]
    fn equal_numbers_are_divided_too() {
        for len in [33, 64, 1000] {
            let mut numbers = vec![7; len];
            let middle = partition(&mut numbers);
            assert!(middle > 0 && middle < len);
            quicksort::<Sequential>(&mut (), &mut numbers);
            let mut descending: Vec<u64> = (0..len as u64).rev().collect();
            quicksort::<Sequential>(&mut (), &mut descending);
            assert!(descending.is_sorted());
        }
    }
}
