//! Putting one thread to sleep, and getting it up again from anywhere.
//!
//! A [`Parker`] is a token of at most one: [`Parker::unpark`] leaves it, [`Parker::park`] takes it or sleeps
//! until it comes. A thread may sleep in two places, on its own futex or inside the driver, and whoever wakes
//! it need not know where: the word says, and `unpark` returns what is left to do.
//!
//! ```text
//!            park / enter_driver                         unpark
//!  EMPTY ───────────────────────────▶ PARKED or DRIVER ─────────▶ NOTIFIED
//!    ▲ ▲                                      │                     │
//!    │ └────── leave_driver (events came) ────┘                     │
//!    └──────── park returns / leave_driver ─────────────────────────┘
//! ```
//!
//! | word | set by | meaning |
//! |---|---|---|
//! | `EMPTY` | owner | awake, no token |
//! | `PARKED` | owner | asleep on the futex, or about to be |
//! | `DRIVER` | owner | inside the driver's turn, or about to be |
//! | `NOTIFIED` | anyone | the token is there |
//!
//! No wake-up is lost: the owner publishes `PARKED` or `DRIVER` by a compare-and-swap from `EMPTY`, which a
//! token already left makes fail; after it, an unparker's swap sees where the owner sleeps and the futex (or
//! the driver, which looks at [`Parker::is_notified`] after it has registered its waker) cannot miss it.
//!
//! Data passes one way, from unparkers to the owner: each unpark releases, and the owner acquires when it sets the
//! word back to `EMPTY`. Every change of the word is a read-modify-write, so all tokens since the last one taken are
//! in the history of the one that is taken. What the owner publishes is read for its value only.
//!
//! In a runtime whose clock can be paused the owner gives a unit of [`rest`](crate::rest) up while it sleeps, and
//! whoever wakes it takes one for it.

use crate::rest::Rest;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Arc, Futex};

const EMPTY: u32 = 0;
const PARKED: u32 = 1;
const DRIVER: u32 = 2;
const NOTIFIED: u32 = 3;

/// What an unparker still has to do.
#[must_use = "a thread inside the driver sleeps on until the driver is nudged"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unpark {
    /// Nothing: the thread was awake, or has been woken.
    Done,
    /// The thread sits in the driver: nudge it.
    NudgeDriver,
}

/// The place where one thread sleeps. Only its owner parks; anyone unparks.
#[derive(Debug)]
pub(crate) struct Parker {
    futex: Futex,
    /// Where the owner counts as awake.
    rest: Option<Arc<Rest>>,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self::counted(None)
    }

    /// For a thread that holds a unit there.
    pub(crate) fn counted(rest: Option<Arc<Rest>>) -> Self {
        Self { futex: Futex::new(EMPTY), rest }
    }

    /// Sleeps until the token is there, and takes it. Owner only.
    pub(crate) fn park(&self) {
        if !self.publish(PARKED) {
            return;
        }
        self.rest();
        // Relaxed: `take` synchronises.
        while self.futex.word.load(Relaxed) == PARKED {
            self.futex.wait(PARKED);
        }
        self.take();
    }

    /// Announces that the owner is about to sleep in the driver; `false` if the token was there (it is taken,
    /// and the owner must not enter). Owner only.
    pub(crate) fn enter_driver(&self) -> bool {
        let entered = self.publish(DRIVER);
        if entered {
            self.rest();
        }
        entered
    }

    /// Ends what `enter_driver` began, and takes the token if one came.
    pub(crate) fn leave_driver(&self) {
        if self.take() == DRIVER {
            // Nobody has unparked it.
            self.stir();
        }
    }

    /// Whether the token is there: the driver's question after it has registered its waker.
    #[cfg_attr(
        not(any(feature = "tokio", feature = "async-io", loom)),
        expect(dead_code, reason = "asked by drivers that have events")
    )]
    pub(crate) fn is_notified(&self) -> bool {
        // Relaxed: `leave_driver` synchronises. That the driver does not miss the token is up to its waker, whose
        // registration comes before this look in the owner's order, and after the swap in the unparker's.
        self.futex.word.load(Relaxed) == NOTIFIED
    }

    /// Leaves the token, and wakes the owner if it sleeps on its futex.
    pub(crate) fn unpark(&self) -> Unpark {
        // A swap and not a compare-and-swap: even if the token is there already, the owner must see what this
        // caller did before, so this caller's release has to be part of the word's history. Pairs with `take`.
        self.stir();
        match self.futex.word.swap(NOTIFIED, Release) {
            PARKED => {
                self.futex.wake();
                Unpark::Done
            }
            DRIVER => Unpark::NudgeDriver,
            _ => {
                // The owner has not given its unit up, or has been given one.
                self.rest();
                Unpark::Done
            }
        }
    }

    /// Handing over the unit, step 2 and the end of 4, of [`rest`](crate::rest).
    fn rest(&self) {
        if let Some(rest) = &self.rest {
            rest.end();
        }
    }

    /// Step 3.
    fn stir(&self) {
        if let Some(rest) = &self.rest {
            rest.begin();
        }
    }

    /// Moves from `EMPTY` to `place`, or takes the token and returns `false`.
    fn publish(&self, place: u32) -> bool {
        // Relaxed: if the token is there `take` synchronises, and an unparker reads nothing of the owner's.
        match self.futex.word.compare_exchange(EMPTY, place, Relaxed, Relaxed) {
            Ok(_) => true,
            Err(found) => {
                debug_assert_eq!(found, NOTIFIED, "only the owner parks");
                self.take();
                false
            }
        }
    }

    /// Sets the word back, with the token or without; returns what it was.
    fn take(&self) -> u32 {
        // A swap and not a store: a second token may come between the owner's last look and here, and what its
        // unparker did before must be seen after. Acquire pairs with the release of `unpark`.
        self.futex.word.swap(EMPTY, Acquire)
    }
}
