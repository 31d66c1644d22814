//! Who is awake: what a paused clock must know before time may jump.
//!
//! A runtime that was started with a paused clock ([`Builder::start_paused`](crate::Builder::start_paused)) moves its
//! time by itself, to the next timer, when nothing can run. tokio knows only of the thread that sits in its driver;
//! here another worker, a blocking closure or the thread in `block_on` may still be busy. So all of them are counted.
//!
//! *Units*. Each of these holds one unit of [`Rest`]:
//! - a thread of the scheduler, from before it is started until it ends, but not while it is parked;
//! - a blocking closure, from its submission until it has ended, but not while it is parked in a `block_on`;
//! - a foreign thread in a `block_on` or a region of `join` or `scope`, but not while it is parked;
//! - the *outside*, while nobody outside waits in a `block_on`: nothing drives tokio's own runtime then either.
//!
//! *Handing over the unit.* 1. The owner publishes `PARKED` or `DRIVER` in its [parker](crate::parker); 2. gives up its
//! unit; 3. whoever unparks it takes a unit for it, and 4. swaps the token in; if the owner was not down, it gives that
//! unit up again. So the unit of a thread that can run is never missing: an owner that has not come to step 1 has not
//! given its own up, and one that goes on after step 4 has been given another. Step 3 comes before step 4: the owner
//! could otherwise run, come to rest again and give a unit up that nobody has taken yet, the unparker's.
//!
//! Queued work needs no unit: whoever publishes it either sends for a thread (step 3), or relies on one that is awake
//! and looks through the queues after it has parked no more than in name (Sleep 3 of [`processors`](crate::processors)).
//!
//! **Time stands while a unit is held**: the first and the last unit are told to the [`Observer`], the driver, which
//! lets time jump only between the two. **Time moves when nothing else can**: with no unit left everybody is parked,
//! somebody of them in the driver (see [`driver`](crate::driver)).
//!
//! Rejected: counting tasks and closures instead of threads (a `join` whose stolen half waits for a timer would hold
//! time up for ever); a look through all threads (they change while one looks); tokio's own rule, for one worker only
//! (the thread in `block_on` is a second one in any case).

use std::fmt;

use crate::sync::Arc;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::SeqCst;

/// Who is told when everything has come to rest, and when something stirs.
pub(crate) trait Observer: Send + Sync {
    /// The first unit: something can run.
    fn stirred(&self);
    /// The last unit is gone.
    fn settled(&self);
}

/// How many can run. See the [module](self).
pub(crate) struct Rest {
    awake: AtomicUsize,
    /// Outside threads in `block_on`.
    waiting: AtomicUsize,
    observer: Box<dyn Observer>,
}

impl Rest {
    /// The outside is awake.
    #[cfg_attr(not(any(feature = "test-util", loom)), expect(dead_code, reason = "no clock asks"))]
    pub(crate) fn new(observer: Box<dyn Observer>) -> Self {
        Self { awake: AtomicUsize::new(1), waiting: AtomicUsize::new(0), observer }
    }

    /// Takes a unit.
    pub(crate) fn begin(&self) {
        // SeqCst: pairs with `is_awake`, which the driver asks after it has said where it can be reached.
        if self.awake.fetch_add(1, SeqCst) == 0 {
            self.observer.stirred();
        }
    }

    /// Gives a unit up.
    pub(crate) fn end(&self) {
        if self.awake.fetch_sub(1, SeqCst) == 1 {
            self.observer.settled();
        }
    }

    #[cfg_attr(not(any(feature = "test-util", loom)), expect(dead_code, reason = "no clock asks"))]
    pub(crate) fn is_awake(&self) -> bool {
        self.awake.load(SeqCst) > 0
    }

    /// Somebody outside begins to wait. It holds a unit of its own meanwhile.
    fn outside_waits(&self) {
        if self.waiting.fetch_add(1, SeqCst) == 0 {
            self.end();
        }
    }

    /// Before the unit of its own is given up.
    fn outside_waited(&self) {
        if self.waiting.fetch_sub(1, SeqCst) == 1 {
            self.begin();
        }
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest")
            .field("awake", &self.awake)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// A unit that has been taken for a thread which is yet to be started, or for a closure in a queue.
#[derive(Debug)]
pub(crate) struct Unit(Option<Arc<Rest>>);

impl Unit {
    pub(crate) fn take(rest: Option<&Arc<Rest>>) -> Self {
        if let Some(rest) = rest {
            rest.begin();
        }
        Self(rest.map(Arc::clone))
    }

    /// No runtime's.
    pub(crate) fn none() -> Self {
        Self(None)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if let Some(rest) = &self.0 {
            rest.end();
        }
    }
}

#[cfg(not(loom))]
pub(crate) use threads::Counted;

#[cfg(not(loom))]
mod threads {
    use std::cell::RefCell;

    use super::{Rest, Unit};
    use crate::sync::Arc;

    thread_local! {
        /// Whose units this thread holds or has given up: compared, never dereferenced.
        static COUNTED: RefCell<Vec<*const Rest>> = const { RefCell::new(Vec::new()) };
    }

    /// The thread counts for a runtime until this is dropped: one unit, however often it is entered.
    #[derive(Debug)]
    pub(crate) struct Counted {
        /// Where it was this that made the thread count.
        entered: Option<Arc<Rest>>,
        waits: bool,
        _unit: Option<Unit>,
    }

    impl Counted {
        /// A thread that the runtime itself has made; its unit has been taken for it, or comes with each closure.
        pub(crate) fn own_thread(rest: Option<&Arc<Rest>>, unit: Option<Unit>) -> Self {
            let entered = rest.filter(|rest| mark(rest)).map(Arc::clone);
            Self { entered, waits: false, _unit: unit }
        }

        /// Any thread. `waits`: in a `block_on`, so that the outside rests while the thread does.
        pub(crate) fn enter(rest: Option<&Arc<Rest>>, waits: bool) -> Self {
            let entered = rest.filter(|rest| mark(rest));
            let unit = entered.map(|rest| Unit::take(Some(rest)));
            if waits && let Some(rest) = entered {
                rest.outside_waits();
            }
            Self { entered: entered.map(Arc::clone), waits, _unit: unit }
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            if let Some(rest) = &self.entered {
                if self.waits {
                    rest.outside_waited();
                }
                unmark(rest);
            }
        }
    }

    /// `false` if the thread counts already, or is ending.
    fn mark(rest: &Arc<Rest>) -> bool {
        let rest = Arc::as_ptr(rest);
        let mark = |counted: &RefCell<Vec<_>>| {
            let mut counted = counted.borrow_mut();
            let is_new = !counted.contains(&rest);
            if is_new {
                counted.push(rest);
            }
            is_new
        };
        COUNTED.try_with(mark).unwrap_or(false)
    }

    fn unmark(rest: &Arc<Rest>) {
        let rest = Arc::as_ptr(rest);
        let _ = COUNTED.try_with(|counted| counted.borrow_mut().retain(|&other| other != rest));
    }
}
