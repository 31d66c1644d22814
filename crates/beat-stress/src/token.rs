//! What every future, closure, half and value of a round carries, to be counted.
//!
//! ```text
//!   FRESH ──begin──▶ BEGUN ──finish──▶ FINISHED        each ──drop──▶ DROPPED
//! ```
//!
//! No edge is taken twice, or the process is aborted. A token that is dropped before it has finished must be
//! excused: somebody may have aborted its item, the item unwinds, or its runtime is shutting down. Any other has
//! been lost.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::SeqCst,
};
use std::sync::{Condvar, Mutex};

use crate::guard;

const FRESH: u8 = 0x51;
const BEGUN: u8 = 0x52;
const FINISHED: u8 = 0x53;
const DROPPED: u8 = 0x54;

/// What the items of one round share.
#[derive(Debug)]
pub(crate) struct Round {
    seed: u64,
    number: u64,
    stay: bool,
    /// Shutdown may have begun: from here on anything may be cancelled.
    closing: AtomicBool,
    /// After so many tokens have begun the round is to end.
    last: u64,
    ending: Mutex<bool>,
    ended: Condvar,
    pub(crate) created: AtomicU64,
    pub(crate) begun: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) values: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

impl Round {
    pub(crate) fn new(seed: u64, number: u64, stay: bool, last: u64) -> Self {
        Self {
            seed,
            number,
            stay,
            last,
            closing: AtomicBool::new(false),
            ending: Mutex::new(false),
            ended: Condvar::new(),
            created: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            values: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        }
    }

    /// Says what is wrong, and ends the process.
    pub(crate) fn fail(&self, what: &str) -> ! {
        guard::fail(self.seed, self.number, what, self.stay)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, SeqCst);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// The moment to end the round has come.
    pub(crate) fn end(&self) {
        *self.ending.lock().unwrap() = true;
        self.ended.notify_all();
    }

    pub(crate) fn wait_for_end(&self) {
        drop(self.ended.wait_while(self.ending.lock().unwrap(), |ending| !*ending).unwrap());
    }

    /// Whether every token is gone.
    pub(crate) fn is_over(&self) -> bool {
        // In this order: a token is created before it is dropped.
        let dropped = self.dropped.load(SeqCst);
        self.created.load(SeqCst) == dropped
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Token {
    round: Arc<Round>,
    state: AtomicU8,
    /// May be dropped before it has finished.
    excused: bool,
}

impl Token {
    pub(crate) fn round(&self) -> &Round {
        &self.round
    }

    pub(crate) fn new(round: &Arc<Round>, excused: bool) -> Self {
        round.created.fetch_add(1, SeqCst);
        Self { round: Arc::clone(round), state: AtomicU8::new(FRESH), excused }
    }

    pub(crate) fn begin(&self) {
        self.pass(FRESH, BEGUN);
        if self.round.begun.fetch_add(1, SeqCst) + 1 == self.round.last {
            self.round.end();
        }
    }

    pub(crate) fn finish(&self) {
        self.pass(BEGUN, FINISHED);
        self.round.finished.fetch_add(1, SeqCst);
    }

    fn pass(&self, from: u8, to: u8) {
        if let Err(state) = self.state.compare_exchange(from, to, AcqRel, Acquire) {
            self.round.fail(&format!("an item went from {from:#x} to {to:#x} in the state {state:#x}"));
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        match self.state.swap(DROPPED, AcqRel) {
            FINISHED => {}
            state @ (FRESH | BEGUN) => {
                if !self.excused && !std::thread::panicking() && !self.round.is_closing() {
                    self.round.fail(&format!("an item was lost in the state {state:#x}"));
                }
            }
            state => self.round.fail(&format!("an item was dropped in the state {state:#x}")),
        }
        self.round.dropped.fetch_add(1, SeqCst);
    }
}

/// The counts of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    created: u64,
    begun: u64,
    finished: u64,
    dropped: u64,
    values: u64,
    panics: u64,
    cancelled: u64,
}

impl Totals {
    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    pub(crate) fn add(&mut self, round: &Round) {
        self.created += round.created.load(SeqCst);
        self.begun += round.begun.load(SeqCst);
        self.finished += round.finished.load(SeqCst);
        self.dropped += round.dropped.load(SeqCst);
        self.values += round.values.load(SeqCst);
        self.panics += round.panics.load(SeqCst);
        self.cancelled += round.cancelled.load(SeqCst);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { created, begun, finished, dropped, values, panics, cancelled } = self;
        write!(
            f,
            "items: {created} created, {begun} begun, {finished} finished, {dropped} dropped; \
             handles: {values} values, {panics} panics, {cancelled} cancelled"
        )
    }
}
