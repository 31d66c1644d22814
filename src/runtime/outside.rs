//! `join` and `scope` on threads that are not the scheduler's.
//!
//! Such a thread forks as a *guest*: it has a state of its own, with a latent list and a deque of tickets that
//! workers steal from, and it runs nothing but its own halves and jobs. It begins without a processor; after it has
//! waited for a thief it takes one if one is idle, until the end of the region. The state is made at its first
//! `join` or `scope` on a runtime and kept for the next.

use std::cell::RefCell;
use std::sync::Arc;

use super::context;
use crate::join::join_here;
use crate::local::{self, InRegion, Local, Role};
use crate::rest::Counted;
use crate::runtime::global;
use crate::scheduler::Shared;
use crate::user_code;

thread_local! {
    /// The guest states of this thread. Boxed: a `Local` must not move.
    #[expect(clippy::vec_box, reason = "a `Local` must not move when the vector grows")]
    static GUESTS: RefCell<Vec<Box<Local>>> = const { RefCell::new(Vec::new()) };
}

/// `join` on a thread without a state: takes one up for the time of the region.
#[inline(never)]
pub(crate) fn join<A, B, RA, RB>((a, b): (A, B)) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let place = user_code::place_of::<(A, B)>();
    in_region(place, |_, local| match local {
        Some(local) => join_here::<false, _, _, _, _>(local.latent(), a, b),
        None => {
            let ra = a();
            (ra, b())
        }
    })
}

/// Calls `f` with the runtime entered here, or the global one, and with this thread's state as a guest of it;
/// without one if the thread is ending and its thread-locals are gone: then nobody could steal from it.
///
/// `place`: a number for the code that calls this.
pub(crate) fn in_region<R>(place: usize, f: impl FnOnce(&Arc<Shared>, Option<&Local>) -> R) -> R {
    let shared = context::current().unwrap_or_else(global::get_or_start);
    shared.assert_not_forked();
    let Some(local) = guest_of(&shared) else {
        return f(&shared, None);
    };
    // SAFETY: boxed, and dropped only by `drop_closed`, which spares states in a region, or at the thread's end.
    let local = unsafe { &*local };
    let _counted = Counted::enter(shared.rest.as_ref(), false);
    let _processor = GiveUp(local);
    let _region = InRegion::enter(local, place);
    f(&shared, Some(local))
}

/// Gives up, after the region, the processor that a guest may have got after a wait.
struct GiveUp<'a>(&'a Local);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.shared.end_taking_core(self.0);
        crate::user_code::hand_over(self.0);
    }
}

/// Lets go of states of runtimes that have ended. They go outside the borrow: the last reference to a runtime
/// drops its tasks.
#[expect(clippy::vec_box, reason = "a `Local` must not move when the vector grows")]
fn drop_closed(guests: &RefCell<Vec<Box<Local>>>) {
    if guests.borrow().iter().any(|local| local.shared.is_closed()) {
        let all = guests.take();
        let (closed, open) =
            all.into_iter().partition::<Vec<_>, _>(|local| local.shared.is_closed() && local.is_unused());
        guests.replace(open);
        drop(closed);
    }
}

fn guest_of(shared: &Arc<Shared>) -> Option<*const Local> {
    GUESTS
        .try_with(|guests| {
            drop_closed(guests);
            let mut guests = guests.borrow_mut();
            if let Some(local) = guests.iter().find(|local| shared.owns(local)) {
                return &raw const **local;
            }
            let local = Local::new(Arc::clone(shared), Role::Guest);
            // For good: a guest never sees to tasks or events.
            shared.processors.begin_computing(local.seat());
            let pointer = &raw const *local;
            guests.push(local);
            pointer
        })
        .ok()
}

/// Runs `f`, which blocks. A guest that has got a processor gives it up for the time.
pub(crate) fn lend<R>(f: impl FnOnce() -> R) -> R {
    local::with(|local| match local {
        Some(local) => user_code::lend(local, f),
        None => f(),
    })
}
