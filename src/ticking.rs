//! Whether the watchdog ticks, and how it falls asleep.
//!
//! *Falling asleep*: 1. lower the flag; 2. a sequentially consistent fence; 3. look once more whether there is
//! something to guard; 4. if so raise the flag and go on, else park until it is raised.
//!
//! *Ensure* (whoever leaves work queued without sending for anybody): 1. the push, or the pop of the task before it;
//! 2. read the flag; 3. if it is lowered raise it, and whoever raises it unparks the watchdog.
//!
//! **Nothing is left unguarded.** Between Ensure 1 and 2 lies a full barrier: the swap of the LIFO slot and the pop
//! of a deque are SeqCst, and the injectors' pushes are followed by a fence. If it comes before the fence of Falling
//! asleep, step 3 sees the work; else Ensure 2 sees the lowered flag. A push behind other tasks has no such barrier,
//! hence the call after the pop. The unpark leaves a token, so it is not lost between the look at the flag and the
//! park.

use crate::processors::fence;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::SeqCst;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Ticking(AtomicBool);

impl Ticking {
    /// Ensure, step 2.
    pub(crate) fn is_raised(&self) -> bool {
        // SeqCst: after the barrier of step 1, which may be a SeqCst access and no fence, in the one order of these.
        self.0.load(SeqCst)
    }

    /// Ensure, step 3: `true` if the caller is the one who raised it, and must unpark the watchdog.
    #[must_use = "nobody else will unpark the watchdog"]
    pub(crate) fn raise(&self) -> bool {
        // SeqCst: as above; who finds the flag raised relies on the look before it is lowered the next time.
        !self.0.swap(true, SeqCst)
    }

    /// There is no watchdog after all: the next one who needs it tries again.
    pub(crate) fn lower(&self) {
        // SeqCst: as above.
        self.0.store(false, SeqCst);
    }

    /// Falling asleep; `false` if there is something to guard, else returns when the flag has been raised or when
    /// `is_over`. `park` returns when the thread is unparked, at once if it has been since the last time.
    pub(crate) fn fall_asleep(
        &self,
        needs_guard: impl FnOnce() -> bool,
        is_over: impl Fn() -> bool,
        park: impl Fn(),
    ) -> bool {
        self.lower();
        fence();
        if needs_guard() {
            // Whether somebody else has raised it meanwhile, and leaves a token, makes no difference.
            let _ = self.raise();
            return false;
        }
        while !self.is_raised() && !is_over() {
            park();
        }
        true
    }
}
