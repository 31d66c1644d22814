//! How many bytes and allocations there were, while somebody wants to know: of the process, or of one thread.
//!
//! A file of its own beside the other common ones, for it replaces the allocator of the whole program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator. While nobody counts, a relaxed load is all that it adds.
#[derive(Debug)]
struct Counting;

/// How many are counting.
static COUNTERS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);
static CALLS: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Without a destructor, so that it is there as long as the thread allocates.
    static OWN_CALLS: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, and nothing else decides what is returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64, 1);
        // SAFETY: the caller's promises, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64), 0);
        // SAFETY: the caller's promises, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64, 1);
        // SAFETY: the caller's promises, passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

fn count(bytes: i64, calls: i64) {
    // Relaxed, here and below: figures, that nothing depends on.
    if COUNTERS.load(Relaxed) > 0 {
        BYTES.fetch_add(bytes, Relaxed);
        CALLS.fetch_add(calls, Relaxed);
        OWN_CALLS.set(OWN_CALLS.get() + calls);
    }
}

/// Bytes that a call has left allocated, and how often was allocated meanwhile, by all threads together.
pub(crate) fn of_all_threads(run: impl FnOnce()) -> (i64, i64) {
    let (bytes, calls) = (BYTES.load(Relaxed), CALLS.load(Relaxed));
    COUNTERS.fetch_add(1, Relaxed);
    run();
    COUNTERS.fetch_sub(1, Relaxed);
    (BYTES.load(Relaxed) - bytes, CALLS.load(Relaxed) - calls)
}

/// How often a call has allocated on the calling thread, and what it returned.
pub(crate) fn of_this_thread<R>(run: impl FnOnce() -> R) -> (i64, R) {
    let calls = OWN_CALLS.get();
    COUNTERS.fetch_add(1, Relaxed);
    let result = run();
    COUNTERS.fetch_sub(1, Relaxed);
    (OWN_CALLS.get() - calls, result)
}
