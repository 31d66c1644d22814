//! The values of task-locals on one thread.
//!
//! A stack, the newest last. Carried values lie on top while the piece of work runs that they came with: a thread at
//! its loop has none of its own, and whoever runs a job of its own scope has those that it was opened with.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use super::depth;
use crate::latent::{Depth, Owner};

thread_local! {
    static VALUES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Which task-local: the address of its key.
pub(crate) type Key = usize;

pub(crate) type Value = Arc<dyn Any + Send + Sync>;

/// Values to be carried.
pub(crate) type Values = Vec<(Key, Value)>;

#[derive(Debug)]
struct Entry {
    key: Key,
    value: Value,
    depth: Depth,
}

/// The value that `key` has here.
pub(crate) fn get(key: Key) -> Option<Value> {
    let find = |values: &RefCell<Vec<Entry>>| {
        values.borrow().iter().rev().find(|entry| entry.key == key).map(|entry| Arc::clone(&entry.value))
    };
    VALUES.try_with(find).ok().flatten()
}

/// All that have one here.
pub(crate) fn here() -> Option<Values> {
    select(|_| true)
}

/// Those that had one when the oldest latent job was forked.
pub(crate) fn of_oldest(owner: Owner<'_>) -> Option<Values> {
    // SAFETY: a value is entered and left by one call, so the joins that it is inside of go on.
    select(|entry| !unsafe { owner.is_latent_at(entry.depth) })
}

fn select(is_seen: impl Fn(&Entry) -> bool) -> Option<Values> {
    let select = |values: &RefCell<Vec<Entry>>| {
        let values = values.borrow();
        let seen = values.iter().filter(|entry| is_seen(entry));
        let seen: Values = seen.map(|entry| (entry.key, Arc::clone(&entry.value))).collect();
        (!seen.is_empty()).then_some(seen)
    };
    VALUES.try_with(select).ok().flatten()
}

/// Calls `f` with a value in place.
pub(crate) fn with_one<R>(key: Key, value: Value, f: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let value = VALUES.try_with(|values| values.borrow_mut().pop());
            // Outside the borrow: its destructor is the user's.
            drop(value);
        }
    }
    let depth = depth();
    let entered = VALUES.try_with(|values| values.borrow_mut().push(Entry { key, value, depth }));
    let _leave = entered.is_ok().then_some(Leave);
    f()
}

/// Carried values in place: so many.
pub(crate) struct Entered(usize);

impl Entered {
    pub(crate) fn new(values: &Values) -> Self {
        let depth = depth();
        let entry = |(key, value): &(Key, Value)| Entry { key: *key, value: Arc::clone(value), depth };
        let entered = VALUES.try_with(|stack| stack.borrow_mut().extend(values.iter().map(entry)));
        Self(if entered.is_ok() { values.len() } else { 0 })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = VALUES.try_with(|stack| {
            let mut stack = stack.borrow_mut();
            let below = stack.len() - self.0;
            stack.split_off(below)
        });
        // Outside the borrow: their destructors are the user's.
        drop(left);
    }
}
