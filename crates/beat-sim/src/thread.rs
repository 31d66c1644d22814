//! One simulated thread: what it runs, and what lies on its queues.

use std::collections::VecDeque;
use std::time::Duration;

use beat::__sim::{Heartbeat, Peers, Reach, Seat};

/// A number of [`World`](crate::world::World)'s threads, and of its tickets.
pub(crate) type ThreadId = usize;
pub(crate) type TicketId = usize;

/// A ready task; it spawns so many others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) spawns: u64,
}

/// One `join` on a thread's stack, or the item at the bottom of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Frame {
    /// Its first half runs, its second is latent: so many nodes.
    Latent(u64),
    /// Its first half runs, its second was put on offer.
    Promoted(TicketId),
    /// Its second half runs.
    Second,
    /// A claimed half of somebody else's `join`.
    Half {
        ticket: TicketId,
        outer_claim: Option<TicketId>,
        outer_extra: f64,
        /// It runs on top of a `join` that waits for this.
        leap: Option<TicketId>,
    },
    /// A closure.
    Closure,
}

/// What comes next on a thread's stack.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// A tree of so many nodes.
    Down(u64),
    /// What is on top has ended.
    Up,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// At its loop.
    Loop,
    Search {
        start: u64,
        round: u32,
        reach: Reach,
    },
    Run,
    /// In a `join` that waits, and runs parts of what it waits for.
    Leap {
        ticket: TicketId,
        since: u64,
        round: u32,
    },
    /// In a `join` that waits.
    Waits(TicketId),
    Asleep,
    Gone,
}

#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) seat: Seat,
    pub(crate) is_duty: bool,
    pub(crate) mode: Mode,
    pub(crate) searching: bool,
    pub(crate) frames: Vec<Frame>,
    pub(crate) next: Next,
    pub(crate) claim: Option<TicketId>,
    /// What a node costs here, beyond what it costs where its data are.
    pub(crate) extra: f64,
    pub(crate) heartbeat: Heartbeat,
    /// Oldest first.
    pub(crate) tickets: VecDeque<TicketId>,
    pub(crate) tasks: VecDeque<Task>,
    pub(crate) peers: Peers,
    /// How many threads the list of peers knows of.
    pub(crate) peers_known: u64,
    /// By thread: the lengths of its queues at the last look.
    pub(crate) seen: Vec<(usize, usize)>,
    pub(crate) random: u64,
    /// Time that the duty thread took from its core.
    pub(crate) lost: u64,
}

impl Thread {
    /// `wake`: what a wake-up takes the waker, in nanoseconds.
    pub(crate) fn new(seat: Seat, seed: u64, is_duty: bool, wake: u64) -> Self {
        Self {
            seat,
            is_duty,
            mode: if is_duty { Mode::Asleep } else { Mode::Loop },
            searching: !is_duty,
            frames: Vec::new(),
            next: Next::Up,
            claim: None,
            extra: 0.0,
            heartbeat: Heartbeat::new(Duration::from_micros(100), wake),
            tickets: VecDeque::new(),
            tasks: VecDeque::new(),
            peers: Peers::default(),
            peers_known: 0,
            seen: Vec::new(),
            random: seed | 1,
            lost: 0,
        }
    }

    /// Takes the oldest latent job off the list, and marks it as promoted.
    pub(crate) fn promote_oldest(&mut self, ticket: TicketId) -> Option<u64> {
        let (frame, nodes) = self.frames.iter_mut().find_map(|frame| match *frame {
            Frame::Latent(nodes) => Some((frame, nodes)),
            _ => None,
        })?;
        *frame = Frame::Promoted(ticket);
        Some(nodes)
    }

    pub(crate) fn has_latent(&self) -> bool {
        self.frames.iter().any(|frame| matches!(frame, Frame::Latent(_)))
    }
}

/// xorshift64, as in the scheduler.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
