//! The jobs of one scope: its queue, the count of those that others run, and the latch its owner waits on.
//!
//! The *owner* is the thread inside [`scope`](crate::scope()); *helpers* are threads at their scheduler loop. A
//! helper finds the scope by an *offer*, of which at most one is about: it lies in the scheduler's [`Offers`],
//! or a helper has just taken it out.
//!
//! ```text
//!                 push                      take (helper, with the offer)
//!   body, job ──────────▶ queue ─────────────────────────────────────▶ away ──── finish ───▶ done
//!                           │ pop (owner)                                              last one away:
//!                           └────────────▶ run inline                                  unpark the owner
//! ```
//!
//! *Push* (anyone inside the scope): 1. put the job into the queue; 2. if no offer is about, make one, which the
//! caller submits as it would a closure.
//!
//! *Help*: 1. with the offer in hand, take the oldest job, which counts as away from here on; 2. if there are
//! more, the offer goes back behind the others, and somebody is sent for it as for a new one, else it ends; 3. run the job; 4. finish.
//!
//! *End* (owner, after the body): 1. pop and run jobs until the queue is empty; 2. if no job is away, the scope
//! is over, and takes its offer back; 3. else say that it waits, hand its processor over, and park until no job is away; 4. back to 1, for
//! those jobs may have pushed others.
//!
//! **No wake-up is lost**: the queue, the count and whether the owner waits are under one lock. The finish that
//! brings the count to zero either comes before End 2, which sees it, or after End 3, and unparks the owner.
//! **No job is forgotten**: the owner goes round until the queue is empty and nothing is away, in one look, and
//! does so even when every helper has gone, at a shutdown say. **No frame is freed early**: a job that is not finished is in
//! the queue or away, so the owner has not left. After `finish` a helper touches the parker only, which it holds
//! a count of.
//!
//! **Nothing runs on somebody else's stack**: the owner runs its own scope's jobs when its body has returned,
//! as the sequential program would; it leaves those of outer scopes alone, whoever pushed them. That is why each
//! scope has a queue of its own, and not the thread one for all.
//!
//! Rejected: jobs in the thread's deque (the owner would find jobs of other scopes above its own); jobs as
//! latent halves (a job that never forks would keep all others to its thread); an offer for each job (a stale
//! offer for each job that the owner runs itself); a lock-free queue of offers (one whose jobs the owner has run
//! could not be taken back: a closure that opens scopes in a loop would fill the memory with them).

use std::collections::VecDeque;

use crate::parker::{Parker, Unpark};
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Arc, Mutex};

/// Which of its own jobs the owner runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The newest: depth first, so that jobs that spawn jobs need little memory.
    NewestFirst,
    /// The oldest.
    OldestFirst,
}

#[derive(Debug)]
struct State<J> {
    queue: VecDeque<J>,
    /// Jobs that helpers have taken and not finished.
    away: usize,
    /// An offer is about.
    offered: bool,
    /// The owner parks until nothing is away.
    waiting: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Jobs<J> {
    state: Mutex<State<J>>,
    order: Order,
    owner: Arc<Parker>,
}

/// Scopes that have jobs to give away, those that have waited longest first.
#[derive(Debug)]
pub(crate) struct Offers<S> {
    scopes: Mutex<VecDeque<Arc<S>>>,
    /// A copy of the length, to be read without the lock.
    len: AtomicUsize,
}

impl<S> Offers<S> {
    pub(crate) fn new() -> Self {
        Self { scopes: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        // Relaxed: Submit, Sleep and the watchdog's falling asleep have their fences; any other look is repeated.
        self.len.load(Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&self, scope: Arc<S>) {
        self.change(|scopes| scopes.push_back(scope));
    }

    pub(crate) fn pop(&self) -> Option<Arc<S>> {
        if self.is_empty() {
            return None;
        }
        self.change(VecDeque::pop_front)
    }

    /// End 2: the newest are the likeliest to be taken back.
    pub(crate) fn take_back(&self, scope: &Arc<S>) {
        let mine = self.change(|scopes| {
            let place = scopes.iter().rposition(|other| Arc::ptr_eq(other, scope))?;
            scopes.remove(place)
        });
        drop(mine);
    }

    fn change<R>(&self, f: impl FnOnce(&mut VecDeque<Arc<S>>) -> R) -> R {
        let mut scopes = self.scopes.lock();
        let result = f(&mut scopes);
        // Relaxed: writers are ordered by the lock, readers as said in `len`.
        self.len.store(scopes.len(), Relaxed);
        result
    }
}

/// What to do with an offer after a look at the queue.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an offer that should stay must be put back"]
pub(crate) enum Offer {
    /// There are more jobs: put it back.
    Stays,
    Ends,
}

/// What an owner that has run out of jobs has to do.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a scope is over only when it says so"]
pub(crate) enum End {
    /// Back to End 1.
    MoreJobs,
    /// Park until [`Jobs::is_back`].
    Wait,
    /// The scope is over, and its offer is about, or in the hands of a helper who will find nothing.
    TakeOfferBack,
    Over,
}

impl<J> Jobs<J> {
    pub(crate) fn new(order: Order, owner: Arc<Parker>) -> Self {
        let state = State { queue: VecDeque::new(), away: 0, offered: false, waiting: false };
        Self { state: Mutex::new(state), order, owner }
    }

    /// Push. `true` if the caller must submit the offer; never for a scope that is not `shared` with helpers.
    #[must_use = "an offer that is not submitted is never taken"]
    pub(crate) fn push(&self, job: J, shared: bool) -> bool {
        let mut state = self.state.lock();
        state.queue.push_back(job);
        let offer = shared && !state.offered;
        state.offered |= offer;
        offer
    }

    /// End 1.
    pub(crate) fn pop(&self) -> Option<J> {
        let mut state = self.state.lock();
        match self.order {
            Order::NewestFirst => state.queue.pop_back(),
            Order::OldestFirst => state.queue.pop_front(),
        }
    }

    /// Help 1 and 2: by the helper that has the offer.
    pub(crate) fn take(&self) -> (Option<J>, Offer) {
        let mut state = self.state.lock();
        let job = state.queue.pop_front();
        state.away += usize::from(job.is_some());
        state.offered = !state.queue.is_empty();
        (job, if state.offered { Offer::Stays } else { Offer::Ends })
    }

    /// So many jobs are away that were never queued: addressed to one processor each.
    pub(crate) fn send_away(&self, jobs: usize) {
        self.state.lock().away += jobs;
    }

    /// Help 4.
    pub(crate) fn finish(&self) -> Unpark {
        let mut state = self.state.lock();
        state.away -= 1;
        let last = state.away == 0 && state.waiting;
        // The scope may be gone as soon as the lock is free: what is needed after is taken out before.
        let owner = last.then(|| {
            state.waiting = false;
            Arc::clone(&self.owner)
        });
        drop(state);
        owner.map_or(Unpark::Done, |owner| owner.unpark())
    }

    /// End 2 and 3, when the queue has been found empty. Jobs that were away then may have pushed others since, and
    /// be back.
    pub(crate) fn end(&self) -> End {
        let mut state = self.state.lock();
        if !state.queue.is_empty() {
            return End::MoreJobs;
        }
        state.waiting = state.away > 0;
        match (state.waiting, state.offered) {
            (true, _) => End::Wait,
            (false, true) => End::TakeOfferBack,
            (false, false) => End::Over,
        }
    }

    /// End 3: whether the owner, which has said that it waits, may go on.
    pub(crate) fn is_back(&self) -> bool {
        !self.state.lock().waiting
    }
}
