//! What the simulator in `crates/beat-sim` needs: the scheduler's own policy, without its threads. Not for other use: it
//! changes without notice.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use crate::distances;
use crate::heartbeat::{self, Lengths, WorkClock};
use crate::peers;
use crate::processors::{self, Wake};
use crate::topology::{Placement, Ring, Topology};
use crate::worker;

pub use crate::leap::{LOOKS_PER_REQUEST as LEAP_LOOKS_PER_REQUEST, PATIENCE as LEAP_PATIENCE};
pub use crate::scheduler::{is_worth_a_core, is_worth_waking};
pub use peers::{FAR_TASKS, FAR_TICKETS, PATIENCE};
pub use worker::{PAUSES, ROUNDS_PER_REQUEST, SEARCH, SPARE_THREADS, TICK};

/// Where a thread sits: which processor it holds.
#[derive(Clone, Debug)]
pub struct Seat(Arc<processors::Seat>);

impl Seat {
    #[expect(clippy::new_without_default, reason = "a thread is made, and none is like another")]
    pub fn new() -> Self {
        Self(Arc::new(processors::Seat::counted(None)))
    }

    pub fn processor(&self) -> Option<u32> {
        self.0.processor()
    }

    pub fn home(&self) -> Option<u32> {
        self.0.home()
    }

    pub fn is_computing(&self) -> bool {
        self.0.is_computing()
    }

    /// Who it is: no two that are alive are the same.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

/// One look at the processors.
#[derive(Clone, Copy, Debug)]
pub struct Census(processors::Census);

impl Census {
    pub fn idle(self) -> u32 {
        self.0.idle
    }

    pub fn computing(self) -> u32 {
        self.0.computing
    }

    pub fn searching(self) -> u32 {
        self.0.searching
    }

    pub fn serving(self) -> u32 {
        self.0.serving()
    }
}

/// Who has been woken.
#[derive(Clone, Debug)]
pub enum Woken {
    /// This one, who sleeps.
    Sleeper(Seat),
    /// A new thread, which begins on this processor.
    New(u32),
}

/// The processors, without anybody's sleep.
#[derive(Debug)]
pub struct Processors(processors::Processors);

impl Processors {
    pub fn new(total: u32) -> Self {
        Self(processors::Processors::new(total))
    }

    pub fn census(&self) -> Census {
        Census(self.0.census())
    }

    pub fn sit_down(&self, seat: &Seat, p: u32) {
        self.0.sit_down(&seat.0, p);
    }

    pub fn start_searching(&self) -> bool {
        self.0.start_searching()
    }

    /// Whether the caller was the last one: then it looks again.
    pub fn stop_searching(&self) -> bool {
        let mut was_last = false;
        self.0.stop_searching(|| was_last = true);
        was_last
    }

    /// `false` if enough sleep already.
    pub fn sleep(&self, seat: &Seat, searching: bool, most: usize) -> bool {
        self.0.sleep(&seat.0, searching, most).is_some()
    }

    /// A sleeper gets up of its own accord; `false` if somebody has woken it, or there is no processor for it.
    pub fn wake_self(&self, seat: &Seat, searching: bool) -> bool {
        self.0.wake_self(&seat.0, searching) == processors::Woken::Itself
    }

    /// Whom the scheduler wakes on behalf of a thread at `place`.
    pub fn wake(&self, distances: &Distances, place: Option<u32>) -> Option<Woken> {
        Some(match self.0.wake_near(distances.0.near(place))? {
            Wake::Unpark(seat) => Woken::Sleeper(Seat(seat)),
            Wake::Spawn(p) => Woken::New(p),
        })
    }

    pub fn release(&self, seat: &Seat) -> bool {
        self.0.release(&seat.0)
    }

    pub fn acquire(&self, seat: &Seat) -> bool {
        self.0.acquire(&seat.0)
    }

    pub fn begin_computing(&self, seat: &Seat) -> bool {
        self.0.begin_computing(&seat.0)
    }

    pub fn end_computing(&self, seat: &Seat) {
        self.0.end_computing(&seat.0);
    }
}

/// Who is near whom.
#[derive(Clone, Debug)]
pub struct Distances(distances::Distances);

impl Distances {
    pub fn unknown() -> Self {
        Self(distances::Distances::unknown())
    }

    pub fn new(machine: &Topology, placement: &Placement) -> Self {
        Self(distances::Distances::new(machine, placement))
    }

    pub fn ring(&self, from: Option<u32>, to: Option<u32>) -> Ring {
        self.0.nearness(from, to).ring
    }

    /// How far a thread looks that has run out of work.
    pub fn first_reach(&self) -> Reach {
        Reach(peers::Reach::first(&self.0))
    }
}

/// How far a thread looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach(peers::Reach);

impl Reach {
    pub const NEAR: Self = Self(peers::Reach::Near);
    pub const EVERYWHERE: Self = Self(peers::Reach::Everywhere);

    #[must_use]
    pub fn after(self, nanoseconds: u64, near: bool) -> Self {
        Self(self.0.after(nanoseconds, near))
    }
}

pub fn is_far(ring: Ring) -> bool {
    ring.is_far()
}

#[derive(Clone, Debug)]
struct AtSeat {
    seat: Seat,
    thread: usize,
}

impl peers::Peer for AtSeat {
    fn place(&self) -> Option<u32> {
        self.seat.home()
    }
}

/// The other threads, in the order in which one tries them.
#[derive(Debug, Default)]
pub struct Peers(peers::Peers<AtSeat>);

impl Peers {
    pub fn replace(&mut self, threads: impl Iterator<Item = (Seat, usize)>) {
        self.0.replace(threads.map(|(seat, thread)| AtSeat { seat, thread }));
    }

    pub fn find<T>(
        &mut self,
        place: Option<u32>,
        distances: &Distances,
        reach: Reach,
        random: impl FnMut() -> u64,
        mut f: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        self.0.find(place, &distances.0, reach.0, random, |peer, _| f(peer.thread))
    }
}

pub use crate::heartbeat::{ASKED, FIRST};

/// What a look at the clock decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Nothing,
    /// So many jobs are put on offer.
    Promote(u32),
    PromoteAndWake,
    Spread,
}

/// When a thread that forks looks at the clock, and what it does then.
#[derive(Debug)]
pub struct Heartbeat {
    beat: heartbeat::Heartbeat,
    lengths: Lengths,
    item_is_new: bool,
    place: usize,
    work: WorkClock,
    item_began: u64,
    countdown: i32,
    wake: u64,
}

impl Heartbeat {
    /// `wake`: what a wake-up takes the waker, in nanoseconds.
    pub fn new(period: Duration, wake: u64) -> Self {
        let beat = heartbeat::Heartbeat::new(period);
        Self {
            beat,
            lengths: Lengths::default(),
            item_is_new: true,
            place: 0,
            work: WorkClock::default(),
            item_began: 0,
            countdown: FIRST,
            wake,
        }
    }

    /// An item of work from `place` begins.
    pub fn begin_item(&mut self, place: usize) {
        self.place = place;
        self.item_is_new = true;
        self.countdown = FIRST;
    }

    /// It has ended.
    pub fn end_item(&mut self, now: u64) {
        if !self.item_is_new {
            self.lengths.measured(self.place, self.work(now) - self.item_began);
        }
    }

    /// What the thread's clock of work reads.
    pub fn work(&self, now: u64) -> u64 {
        self.work.read(now)
    }

    /// A wait is over that began when that read `start`, for a half with so much work.
    pub fn waited(&mut self, now: u64, start: u64, work: u64) {
        self.work.waited(now, start, work);
    }

    /// It has put something on offer since `since`, and may have woken somebody.
    pub fn has_offered(&mut self, since: u64, now: u64) {
        self.work.waited(now, self.work.read(since), 0);
    }

    /// Forks that leave nothing on the list.
    pub fn count_forks(&mut self, forks: i32) {
        self.countdown = self.countdown.saturating_sub(forks);
    }

    pub fn ask(&mut self) {
        self.countdown = ASKED;
    }

    /// Whether the thread is due to be heard.
    pub fn is_due(&self) -> bool {
        self.countdown < 0
    }

    /// A look at the clock, with something to put on offer or not.
    pub fn look(&mut self, now: u64, census: Census, may_offer: bool, offered: bool, wanted: bool) -> Beat {
        if std::mem::replace(&mut self.item_is_new, false) {
            self.beat.begin_item(self.lengths.expected(self.place), self.wake, census.0, false);
            self.item_began = self.work(now);
        }
        self.countdown = self.beat.look(now, self.countdown < ASKED / 2);
        if !may_offer {
            self.beat.calm();
            return Beat::Nothing;
        }
        match self.beat.decide(now, census.0, offered, wanted) {
            heartbeat::Beat::Nothing | heartbeat::Beat::Publish => Beat::Nothing,
            heartbeat::Beat::Promote(jobs) => Beat::Promote(jobs),
            heartbeat::Beat::PromoteAndWake => Beat::PromoteAndWake,
            heartbeat::Beat::Spread => Beat::Spread,
        }
    }
}
