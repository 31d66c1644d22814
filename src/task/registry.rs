//! All tasks of the process whose futures exist: how shutdown finds them, and how an abort wakes them.
//!
//! The registry belongs to the process and not to a runtime, so that a handle which outlives its runtime stays
//! valid: `abort` looks here, finds nothing, and is done. It is sharded by the spawning thread; a key is the
//! shard's number and the place in its slab. The tasks of a [`LocalSet`](super::LocalSet) have a shard of their own,
//! in the set's inbox.
//!
//! While a shard is locked and holds an entry, the entry's future exists, and with it the runtime it belongs to
//! (*Runtime* in the [module above](super)): removing the entry needs the same lock.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;

use crossbeam_utils::CachePadded;
use slab::Slab;

use super::Meta;
use crate::scheduler::Shared;
use crate::sync::{Mutex, MutexGuard};

#[derive(Debug)]
pub(super) struct Entry {
    /// Keeps the task object allocated.
    waker: Waker,
    /// Lies in that object.
    meta: NonNull<Meta>,
}

// SAFETY: `meta` points to a `Sync` header, alive as long as the waker.
unsafe impl Send for Entry {}

impl Entry {
    fn meta(&self) -> &Meta {
        // SAFETY: see the field.
        unsafe { self.meta.as_ref() }
    }

    fn belongs_to(&self, runtime: &Shared) -> bool {
        std::ptr::eq(self.meta().home.as_ptr(), std::ptr::from_ref(runtime).cast())
    }
}

const SHARD_BITS: u32 = 5;
const SHARDS: usize = 1 << SHARD_BITS;
/// The key of a task that is in the registry no more.
const STRUCK_OUT: u32 = u32::MAX;

/// Some of the tasks.
pub(super) type Shard = Mutex<Slab<Entry>>;

static REGISTRY: [CachePadded<Shard>; SHARDS] = [const { CachePadded::new(Mutex::new(Slab::new())) }; SHARDS];

/// Locks the shard in which a task stands.
fn lock(meta: &Meta, key: u32) -> MutexGuard<'_, Slab<Entry>> {
    match meta.inbox() {
        Some(inbox) => inbox.tasks.lock(),
        None => REGISTRY[shard_of(key)].lock(),
    }
}

/// Each thread has a shard, given out in turn.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let mut shard = SHARD.get();
    if shard == usize::MAX {
        // Relaxed: any number will do.
        shard = NEXT.fetch_add(1, Relaxed) % SHARDS;
        SHARD.set(shard);
    }
    shard
}

/// Enters a task, before anybody else can see it.
pub(crate) fn insert(meta: &Meta, waker: Waker) {
    // A set's tasks are in one shard, which needs no number.
    let shard = if meta.inbox().is_some() { 0 } else { own_shard() };
    let entry = Entry { waker, meta: NonNull::from(meta) };
    let place = lock(meta, shard as u32).insert(entry);
    let key = u32::try_from(place << SHARD_BITS | shard).expect("fewer than 134 million tasks a shard");
    // Relaxed: whoever reads the key has got the task from this thread.
    meta.key.store(key, Relaxed);
}

/// Strikes out a task whose future has been dropped.
pub(super) fn remove(meta: &Meta) {
    // Relaxed: as in `insert`.
    let key = meta.key.load(Relaxed);
    let mut shard = lock(meta, key);
    // Relaxed: `with` reads it under the same lock.
    meta.key.store(STRUCK_OUT, Relaxed);
    let entry = shard.remove(place_of(key));
    drop(shard);
    // Outside the lock: the last reference to the task may go with it.
    drop(entry);
}

/// Looks at the waker of a task whose future still exists, with its shard locked. `f` runs no user code.
pub(super) fn with<R>(meta: &Meta, f: impl FnOnce(&Waker) -> R) -> Option<R> {
    // Relaxed: only which lock to take hangs on it.
    let key = meta.key.load(Relaxed);
    if key == STRUCK_OUT {
        return None;
    }
    let shard = lock(meta, key);
    // Relaxed: under the lock of `remove`. The place may be another task's by now.
    if meta.key.load(Relaxed) == STRUCK_OUT {
        return None;
    }
    shard.get(place_of(key)).map(|entry| f(&entry.waker))
}

fn shard_of(key: u32) -> usize {
    key as usize & (SHARDS - 1)
}

fn place_of(key: u32) -> usize {
    key as usize >> SHARD_BITS
}

/// The wakers of all tasks of a runtime.
pub(crate) fn wakers(runtime: &Shared) -> Vec<Waker> {
    let mut wakers = Vec::new();
    for shard in &REGISTRY {
        let shard = shard.lock();
        let entries = shard.iter().map(|(_, entry)| entry);
        let own = entries.filter(|entry| entry.belongs_to(runtime));
        wakers.extend(own.map(|entry| entry.waker.clone()));
    }
    wakers
}

/// The wakers of all tasks in a shard.
pub(super) fn wakers_in(shard: &Shard) -> Vec<Waker> {
    shard.lock().iter().map(|(_, entry)| entry.waker.clone()).collect()
}

/// Asks all closures of a runtime to end: those that run unwind at their next fork.
pub(crate) fn abort_closures(runtime: &Shared) {
    for shard in &REGISTRY {
        for (_, entry) in shard.lock().iter() {
            if entry.belongs_to(runtime) && !entry.meta().kind.is_future() {
                entry.meta().mark_aborted();
            }
        }
    }
    runtime.ask_all();
}
