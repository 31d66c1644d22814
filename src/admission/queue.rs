//! Who is admitted, and who waits: the protocol of admission.
//!
//! # Roles
//!
//! All state but one word lies under one lock, and user code (wakers) runs after it.
//!
//! *Gate*: a word that says [`OPEN`] if whoever names no estimate may pass without the lock. It is written under the
//! lock only.
//!
//! *Enter* (`enter`, `enqueue`): 1. read the gate; if it is open and no bytes are named, go. 2. Else take the lock and
//! note that there is something to do; if the sampler sleeps, ring. 3. If nobody waits and there is room, reserve; else
//! refuse, or take the next number and leave a waker; if the sampler has fallen asleep since step 2, ring.
//! *Release* (`release`, `set_terms`, `resize`, `abandon`, `close`): 1. take the lock; give back, or change the terms.
//! 2. *Dispatch*: while somebody waits and there is room for the one whose turn it is, reserve for him and mark his
//! number as granted. 3. Leave the lock and wake those. Whoever takes a number in Enter 3 dispatches too.
//! *Wait* (`poll_wait`): take the lock; if the number is granted take it, else leave the waker of this poll.
//! *Abandon* (a waiter is dropped): 1. take the lock; strike out the number. If it was granted, give the reservation
//! back. 2. Dispatch, for the next one may fit where this one did not. 3. Wake.
//! *Falling asleep* (`may_sleep`): under the lock: nobody waits, nobody has come in for so many looks.
//!
//! There is room for a request if fewer tasks run than the guaranteed minimum, or if what is reserved and the request
//! fit into the bytes that the last look found. After the close there is always room.
//!
//! # Why it is right
//!
//! **Nobody waits beside room.** Whatever makes room happens under the lock and dispatches before leaving it; whoever
//! begins to wait has found, under the same lock, that there was none or that others were first.
//! **No wake-up is lost.** A grant is a mark under the lock, not a message: it lies there until the waiter polls or is
//! dropped. The waker called is that of the last poll, and a poll that comes after the mark takes it.
//! **Nothing leaks.** A reservation has one owner at a time: the mark, then the [`Permit`](super::permit::Permit), and
//! each gives back what it holds. An abandoned waiter passes on the turn it may have been holding up.
//! **The sampler does not sleep beside waiters**, for it falls asleep under the lock, seeing none, and whoever takes a
//! number looks under the same lock whether it has. (To ring in step 2 alone is not enough: a thread may be held up for
//! so many looks between the steps. The model found that.)
//! **The minimum keeps it going.** While fewer than the minimum run, the first in turn is admitted, however large and
//! whatever the level: so the queue moves as long as admitted tasks end.
//!
//! # Who goes first
//!
//! Within a class the numbers go up: nobody overtakes. Between classes the turn goes by stride scheduling
//! (Waldspurger and Weihl, 1995): each class has a pass, the class of the least pass is next, and its pass grows by
//! 9 / weight. A class that had nobody waiting starts at the pass of the last turn. So while a waiter and the `k`
//! before him in his class of weight `w` are admitted, at most [`most_overtakes`] of other classes are. A request that
//! does not fit holds up those behind it, of every class: smaller ones passing by would starve it.
//! Nobody barges in: as long as somebody waits, those who cannot wait are refused.
//!
//! # Rejected
//!
//! A semaphore of tokio's kind counts permits of one size and has neither classes nor terms that change. Lock-free
//! queues: the lock is taken only while memory is short or bytes are named, both far rarer than a spawn.

use std::collections::BTreeMap;
use std::task::Waker;

use super::class::Class;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicU8;
use crate::sync::atomic::Ordering::Relaxed;

/// Whoever names no bytes may pass.
const OPEN: u8 = 0;
/// The same, but the first one is to be noted.
const WATCHED: u8 = 1;
/// Everybody is counted.
const HELD: u8 = 2;
/// Nobody looks at the memory.
const ASLEEP: u8 = 3;

/// After how many looks without anybody the sampler may sleep.
const QUIET_LOOKS: u32 = if cfg!(loom) { 1 } else { 10 };
/// The pass of a turn is this divided by the weight of its class.
const STRIDE: u64 = 9;

/// The most admissions of other classes during the next `turns` of a class.
#[cfg(test)]
pub(crate) fn most_overtakes(class: usize, turns: u64) -> u64 {
    let others = (0..Class::COUNT).filter(|other| *other != class);
    // Each class is at most one stride ahead of another, at the beginning and at the end.
    others.map(|other| (turns + 1) * Class::WEIGHTS[other].div_ceil(Class::WEIGHTS[class]) + 1).sum()
}

/// What the last look at the memory allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How many bytes may be reserved in all.
    pub(crate) room: u64,
    /// Classes from this one on are refused where they cannot wait.
    pub(crate) refused: usize,
    /// New connections are accepted although more than the minimum runs.
    pub(crate) accepts: bool,
    /// There is plenty.
    pub(crate) plenty: bool,
}

impl Terms {
    pub(crate) const PLENTY: Self =
        Self { room: u64::MAX, refused: Class::COUNT, accepts: true, plenty: true };
}

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    waker: Waker,
}

#[derive(Debug)]
struct State {
    terms: Terms,
    minimum: usize,
    reserved: u64,
    running: usize,
    /// By number.
    waiting: [BTreeMap<u64, Waiter>; Class::COUNT],
    pass: [u64; Class::COUNT],
    /// The pass of the last turn.
    turn: u64,
    /// Numbers whose reservation has been made and not taken.
    granted: BTreeMap<u64, u64>,
    next: u64,
    /// Those who will accept connections; they take no turn and no place.
    accepting: BTreeMap<u64, Waker>,
    /// Somebody has come in since the last look.
    used: bool,
    quiet: u32,
    closed: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Queue {
    gate: AtomicU8,
    state: Mutex<State>,
}

/// How an attempt to enter went.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// The bytes are reserved.
    Admitted,
    /// The class is refused at this level.
    Shed,
    /// Others wait; so many.
    Behind(usize),
    /// It does not fit.
    Full,
}

/// Where a waiter stands.
#[must_use]
#[derive(Debug)]
pub(crate) enum Place {
    /// The bytes are reserved.
    Admitted,
    /// His number, and whether the sampler must be rung.
    Waits(u64, bool),
}

/// Those to be woken, after the lock.
#[must_use = "they wait for it"]
#[derive(Debug, Default)]
pub(crate) struct Woken(Vec<Waker>);

impl Woken {
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    pub(crate) fn new(minimum: usize) -> Self {
        Self {
            gate: AtomicU8::new(ASLEEP),
            state: Mutex::new(State {
                terms: Terms::PLENTY,
                minimum,
                reserved: 0,
                running: 0,
                waiting: Default::default(),
                pass: [0; Class::COUNT],
                turn: 0,
                granted: BTreeMap::new(),
                next: 0,
                accepting: BTreeMap::new(),
                used: false,
                quiet: 0,
                closed: false,
            }),
        }
    }

    /// Enter, step 1.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        // Relaxed: the gate guards nothing that is read after it. One who sees it open a moment too long is one more
        // that came before it was closed.
        self.gate.load(Relaxed) == OPEN
    }

    /// Enter, step 2, and whoever else wants the memory looked at: `true` if the sampler must be rung.
    #[must_use = "the sampler sleeps"]
    pub(crate) fn use_it(&self) -> bool {
        let mut state = self.state.lock();
        self.rouse(&mut state)
    }

    /// Notes that there is something to do; whether the sampler must be rung for it.
    fn rouse(&self, state: &mut State) -> bool {
        state.used = true;
        // Relaxed here and below: written under the lock.
        let slept = self.gate.load(Relaxed) == ASLEEP;
        self.settle_gate(state);
        slept
    }

    /// Enter, step 3, for those who do not wait. A task that is `inside` an admitted one is let pass.
    pub(crate) fn enter(&self, class: Class, bytes: u64, inside: bool) -> Entered {
        let mut state = self.state.lock();
        if !(inside || state.closed) {
            if class as usize >= state.terms.refused && state.running >= state.minimum {
                return Entered::Shed;
            }
            match state.waiters() {
                0 if state.fits(bytes) => {}
                0 => return Entered::Full,
                waiters => return Entered::Behind(waiters),
            }
        }
        state.reserve(bytes);
        Entered::Admitted
    }

    /// Enter, step 3, for those who wait.
    pub(crate) fn enqueue(&self, class: Class, bytes: u64, inside: bool, waker: &Waker) -> Place {
        let mut state = self.state.lock();
        if inside || state.closed || state.waiters() == 0 && state.fits(bytes) {
            state.reserve(bytes);
            return Place::Admitted;
        }
        let class = class as usize;
        if state.waiting[class].is_empty() {
            state.pass[class] = state.pass[class].max(state.turn);
        }
        state.next += 1;
        let number = state.next;
        state.waiting[class].insert(number, Waiter { bytes, waker: waker.clone() });
        // It may be the turn of this class, and a large request of another one that holds up the rest.
        let woken = self.dispatch(&mut state);
        let admitted = state.granted.remove(&number).is_some();
        let rings = self.rouse(&mut state);
        drop(state);
        // Its own waker at most: nothing else has changed.
        drop(woken);
        if admitted { Place::Admitted } else { Place::Waits(number, rings) }
    }

    /// Wait: whether the number has been granted, and has been taken by that.
    #[must_use]
    pub(crate) fn poll_wait(&self, class: Class, number: u64, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.granted.remove(&number).is_some() {
            return true;
        }
        let waiter =
            state.waiting[class as usize].get_mut(&number).expect("a number waits until it is granted");
        let before = std::mem::replace(&mut waiter.waker, waker.clone());
        drop(state);
        // A waker's drop is user code.
        drop(before);
        false
    }

    /// Abandon.
    pub(crate) fn abandon(&self, class: Class, number: u64) -> Woken {
        let mut state = self.state.lock();
        let waiter = state.waiting[class as usize].remove(&number);
        if let Some(bytes) = state.granted.remove(&number) {
            state.unreserve(bytes);
        }
        let woken = self.dispatch(&mut state);
        drop(state);
        drop(waiter);
        woken
    }

    /// `None` if connections may be accepted; else leaves a waker, under a number that is to be forgotten, and says
    /// whether the sampler must be rung.
    #[must_use = "the sampler may sleep"]
    pub(crate) fn poll_accept(&self, number: &mut Option<u64>, waker: &Waker) -> Option<bool> {
        let mut state = self.state.lock();
        if state.accepts() {
            return None;
        }
        let number = *number.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let before = state.accepting.insert(number, waker.clone());
        let rings = self.rouse(&mut state);
        drop(state);
        drop(before);
        Some(rings)
    }

    /// The waker of that number is not to be woken.
    pub(crate) fn forget_accept(&self, number: u64) {
        let waker = self.state.lock().accepting.remove(&number);
        drop(waker);
    }

    /// An admitted task has ended.
    pub(crate) fn release(&self, bytes: u64) -> Woken {
        let mut state = self.state.lock();
        state.unreserve(bytes);
        self.dispatch(&mut state)
    }

    /// An admitted task needs more or less than it thought.
    pub(crate) fn resize(&self, before: u64, after: u64) -> Woken {
        let mut state = self.state.lock();
        state.reserved = state.reserved - before + after;
        self.dispatch(&mut state)
    }

    /// The same, if there is room for more.
    pub(crate) fn try_grow(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        let after = state.reserved.saturating_add(bytes);
        let fits = state.closed || state.waiters() == 0 && after <= state.terms.room;
        if fits {
            state.reserved = after;
        }
        fits
    }

    /// The memory has been looked at.
    pub(crate) fn set_terms(&self, terms: Terms) -> Woken {
        let mut state = self.state.lock();
        state.terms = terms;
        self.dispatch(&mut state)
    }

    /// Falling asleep, asked after each look: `true` if the caller may sleep until it is rung.
    pub(crate) fn may_sleep(&self, patience: u32, is_watched: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.lock();
        let waited_for = state.waiters() > 0 || !state.accepting.is_empty();
        let quiet = !state.used && !waited_for && !is_watched();
        state.used = false;
        state.quiet = if quiet { state.quiet + 1 } else { 0 };
        let sleeps = state.quiet >= QUIET_LOOKS * patience;
        self.settle_gate(&state);
        if sleeps {
            state.quiet = 0;
            self.gate.store(ASLEEP, Relaxed);
        }
        sleeps
    }

    /// There is no sampler to be rung.
    pub(crate) fn lose_sampler(&self) {
        let _state = self.state.lock();
        self.gate.store(ASLEEP, Relaxed);
    }

    /// The runtime ends: everybody is let pass, and nobody waits any more.
    pub(crate) fn close(&self) -> Woken {
        let mut state = self.state.lock();
        state.closed = true;
        self.dispatch(&mut state)
    }

    /// Bytes reserved, tasks counted, and tasks that wait.
    pub(crate) fn load(&self) -> (u64, usize, usize) {
        let state = self.state.lock();
        (state.reserved, state.running, state.waiters())
    }

    /// The gate as the state says.
    fn settle_gate(&self, state: &State) {
        let gate = match state {
            _ if !state.terms.plenty || state.waiters() > 0 => HELD,
            _ if state.used => OPEN,
            _ => WATCHED,
        };
        self.gate.store(gate, Relaxed);
    }

    /// Release, step 2. The gate is left to the sampler while it sleeps.
    fn dispatch(&self, state: &mut State) -> Woken {
        let mut woken = Woken::default();
        while let Some(class) = state.next_class() {
            let first = state.waiting[class].first_entry().expect("the class has waiters");
            let (number, bytes) = (*first.key(), first.get().bytes);
            if !(state.closed || state.fits(bytes)) {
                break;
            }
            let waiter = state.waiting[class].remove(&number).expect("it was there");
            state.turn = state.pass[class];
            state.pass[class] += STRIDE / Class::WEIGHTS[class];
            state.reserve(bytes);
            state.granted.insert(number, bytes);
            woken.0.push(waiter.waker);
        }
        if state.accepts() {
            woken.0.extend(std::mem::take(&mut state.accepting).into_values());
        }
        if self.gate.load(Relaxed) != ASLEEP {
            self.settle_gate(state);
        }
        woken
    }
}

impl State {
    fn waiters(&self) -> usize {
        self.waiting.iter().map(BTreeMap::len).sum()
    }

    fn accepts(&self) -> bool {
        self.terms.accepts || self.running < self.minimum || self.closed
    }

    /// Whose turn it is.
    fn next_class(&self) -> Option<usize> {
        let waiting = (0..Class::COUNT).filter(|class| !self.waiting[*class].is_empty());
        // Of equals the first: the higher class.
        waiting.min_by_key(|class| self.pass[*class])
    }

    fn fits(&self, bytes: u64) -> bool {
        self.running < self.minimum
            || self.reserved.saturating_add(bytes) <= self.terms.room && self.terms.room > 0
    }

    fn reserve(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_add(bytes);
        self.running += 1;
    }

    fn unreserve(&mut self, bytes: u64) {
        self.reserved -= bytes;
        self.running -= 1;
    }
}

#[cfg(all(test, not(loom)))]
#[path = "queue_tests.rs"]
mod tests;
