//! Who may run: processors, the threads that hold them, and how both go to sleep and get up.
//!
//! A *processor* is the right to run work on one core: a token, of which there are as many as workers. A
//! thread holds at most one, written on its [`Seat`]. The right shares out CPU and never memory: a thread that
//! has lost its processor a moment ago may finish what it is doing, so a stale look at a seat is harmless.
//!
//! A processor that is not withheld is in one of three states, and its holder moves it between them:
//!
//! ```text
//!                 sleep, release                begin_computing
//!        IDLE ◀──────────────────── SERVING ──────────────────────▶ COMPUTING
//!          │ ────────────────────▶           ◀──────────────────────    │
//!          │  wake_one, acquire, wake_self       end_computing          │
//!          ◀────────────────────────────────────────────────────────────┘
//!                       release (a wait; or the watchdog takes it)
//! ```
//!
//! *Serving*: the holder is at the scheduler loop or in a poll that is expected to be short, so ready tasks
//! and events will be seen to. *Computing*: the holder is in a closure, or in a poll that has turned out long.
//! *Searching* is an attribute of a few serving threads: out of work and looking for it.
//!
//! All transitions happen under one lock, so they are a sequence and the [`Census`], which mirrors them in one
//! word, never contradicts itself. Only the count of searchers is changed without the lock.
//!
//! # Sleep and submit
//!
//! *Submit* (any thread that publishes work):
//! 1. push the work into a queue that others can see;
//! 2. a sequentially consistent fence;
//! 3. read the census: if nobody searches and a processor is idle, `wake_one`.
//!
//! *Sleep* (a thread that found nothing):
//! 1. `sleep`: its processor becomes idle and it stops searching, in one step of the census;
//! 2. a sequentially consistent fence;
//! 3. look through all queues once more; if there is work, `wake_self` and go on, else park. A thread that was
//!    searching goes on searching.
//!
//! **No wake-up is lost.** The fences of Submit 2 and Sleep 2 are ordered one way or the other. If the
//! submitter's is first, Sleep 3 sees the work. If the sleeper's is first, Submit 3 sees an idle processor, or
//! a searcher. A searcher that finds *other* work does Submit 2–3 again for what it leaves behind if it was
//! the last one searching (`stop_searching`), and one that finds none goes through Sleep, which looks again, and
//! searches on if there was something: there may be more of it than it takes.
//!
//! # Handing over
//!
//! A thread about to wait inside a closure or a poll (`join`, `block_on`):
//! 1. `release`: the processor becomes idle; the thread keeps its deques and its stack;
//! 2. fence, and look through all queues: work, or a driver nobody sits in, is reason to `wake_one`: the
//!    processor goes to a sleeping thread, or to a new one where none sleeps ([`Wake::Spawn`]);
//! 3. wait; 4. `acquire`: take an idle processor if there is one, and go on at once in either case.
//!
//! The watchdog does 1–2 on behalf of a thread that sleeps in the kernel. Step 4 never waits, so a hand-over
//! adds no edge to any waits-for graph: a thread whose wait is over can always run.
//!
//! # Numbers
//!
//! Programs written for a fixed set of threads index arrays by the number of the thread they run on. Here the number
//! is that of the processor, which is below the number of workers and held by one thread at a time. So that a slot is
//! not shared while somebody uses it:
//! 1. `claim`: a thread that asks is told the processor it holds; without one it takes an idle one, or that of a
//!    thread in a closure which has not asked (`take_over`): that one goes on without, as after a wait;
//! 2. from then on nobody takes the processor from it, not even the watchdog (`take_away`), until
//! 3. the thread waits or its item of work ends (`release`, `end_computing`), or it is heard at a fork
//!    (`forget_number`): points at which a slot could be used by another part of the program anyway.
//!
//! **Two threads are never told the same number at a time**: 1 to 3 happen under the lock.
//!
//! Rejected: the number last held (a joiner that goes on without a processor would share the slot of the thread that
//! took its place), and numbers of threads (there are more threads than processors).
//!
//! # Withholding
//!
//! The kernel may take CPUs from the process, or CPU time, and give them back later. As many processors as there is
//! no room for are *withheld*: nobody runs on them, and for the census they are not there.
//!
//! *Limit* (`limit_to`, by whoever has looked at what the process is given; at least one):
//! 1. down: idle processors are withheld, first those that nobody in the driver guards, until enough are. What is
//!    lacking then is the *surplus*, and every processor that is not withheld is held, or on its way to a thread;
//! 2. up: withheld processors become idle, and the caller looks for work that waits, as in Hand-over 2.
//!
//! *Hand in* (a thread with a processor, while there is a surplus):
//! 1. at its loop (`hand_in`), when it goes to sleep (Sleep 1) or waits (Hand-over 1) its processor is withheld
//!    instead of becoming idle;
//! 2. what it has queued goes to where others look; fence; if nobody serves any more, it covers the driver and the
//!    injector; 3. it sleeps, or waits, as a thread without a processor.
//!
//! *While there is a surplus, nobody is idle* (1 of either; whatever becomes idle comes by `let_go`). So a thread that
//! hands in leaves others behind it that hold processors: as many as the limit says, and that is one or more. They come
//! to their loops, where they look into every queue, or sleep, and look again. **No work is lost**: queues belong to
//! threads, which stay, and can be stolen from; who relied on the thread that hands in, since it served, finds the
//! others, and if all of these compute, Hand in 2 sends for the duty thread; who relied on it as one that searches is seen
//! to by what a thread without a processor does before it sleeps (`stay_down`).
//!
//! A closure addressed to a withheld processor is run on it all the same: an idle one is withheld in its place (`wake_on`),
//! or its holder exchanges it at the loop (`exchange`).
//!
//! # Rejected
//!
//! One atomic word per transition without a lock (the pair "seat and census" has to change as one,
//! or a watchdog that takes a processor while its thread begins a closure counts it twice); parked threads that
//! keep their processors (a resumed thread could not get one); one condition variable for all (wakes the wrong
//! thread: the one on the right core has the warm cache and the pinned mask).

use crate::parker::Parker;
use crate::rest::Rest;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use crate::sync::{Arc, Mutex};

/// A processor's number: from 0 up to the number of workers.
pub(crate) type ProcessorId = u32;

/// The seat word: a processor's number plus one (zero for none), and two bits above.
const COMPUTING: u32 = 1 << 31;
/// The thread has been told which processor it holds: see [*Numbers*](self#numbers). Never without a processor.
const NUMBERED: u32 = 1 << 30;

/// The home of a thread that never held a processor.
const NOWHERE: ProcessorId = ProcessorId::MAX;

/// A thread's place at the table: where it sleeps, and which processor it holds.
///
/// | field | who | when |
/// |---|---|---|
/// | `parker` | owner parks, anyone unparks | any time |
/// | `word` | written under the lock of [`Processors`]; read by anyone, relaxed | a stale read is harmless |
/// | `home` | written under that lock; read by anyone, relaxed | the last processor held, or [`NOWHERE`] |
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) parker: Arc<Parker>,
    word: AtomicU32,
    home: AtomicU32,
}

impl Seat {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self::counted(None)
    }

    /// For a thread that counts as awake there, unless it is parked.
    pub(crate) fn counted(rest: Option<Arc<Rest>>) -> Self {
        let parker = Arc::new(Parker::counted(rest));
        Self { parker, word: AtomicU32::new(0), home: AtomicU32::new(NOWHERE) }
    }

    /// The processor the thread holds.
    pub(crate) fn processor(&self) -> Option<ProcessorId> {
        // Relaxed: the right to run protects no memory.
        (self.word.load(Relaxed) & !(COMPUTING | NUMBERED)).checked_sub(1)
    }

    /// The processor the thread holds, if it has been told and will keep it.
    pub(crate) fn number(&self) -> Option<ProcessorId> {
        // Relaxed: as above. The thread itself is exact: only it takes the bit back.
        let word = self.word.load(Relaxed);
        if word & NUMBERED == 0 { None } else { self.processor() }
    }

    /// Whether the thread is in a closure, or in a poll that has turned out long.
    pub(crate) fn is_computing(&self) -> bool {
        // Relaxed: as above.
        self.word.load(Relaxed) & COMPUTING != 0
    }

    fn set(&self, processor: Option<ProcessorId>, computing: bool) {
        let number = processor.map_or(0, |p| p + 1);
        // Relaxed: writers are ordered by the lock.
        self.word.store(number | if computing { COMPUTING } else { 0 }, Relaxed);
        if let Some(p) = processor {
            self.set_home(p);
        }
    }

    fn set_home(&self, p: ProcessorId) {
        // Relaxed: as above.
        self.home.store(p, Relaxed);
    }

    /// Only under the lock.
    fn set_numbered(&self, numbered: bool) {
        // Relaxed: as in `set`.
        let word = self.word.load(Relaxed) & !NUMBERED;
        self.word.store(word | if numbered { NUMBERED } else { 0 }, Relaxed);
    }

    /// The processor that the thread holds, or held last.
    pub(crate) fn home(&self) -> Option<ProcessorId> {
        // Relaxed: read under the lock that orders its writers, or as a hint where its data are.
        Some(self.home.load(Relaxed)).filter(|&p| p != NOWHERE)
    }
}

/// How many processors are idle, computing, and how many threads search: one consistent look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    /// Processors that are not withheld.
    pub(crate) total: u32,
    pub(crate) idle: u32,
    pub(crate) computing: u32,
    pub(crate) searching: u32,
}

impl Census {
    /// Processors whose holders have something to do.
    pub(crate) fn working(&self) -> u32 {
        self.total - self.idle
    }

    /// Processors whose holders will see to ready tasks and events.
    pub(crate) fn serving(&self) -> u32 {
        self.working() - self.computing
    }
}

const IDLE: u64 = 1;
const COMPUTE: u64 = 1 << 16;
const SEARCH: u64 = 1 << 32;
const WITHHOLD: u64 = 1 << 48;

/// What a waker still has to do.
#[must_use = "the processor has been taken from the idle list for somebody"]
#[derive(Debug)]
pub(crate) enum Wake {
    /// Unpark this thread: it has the processor.
    Unpark(Arc<Seat>),
    /// No thread sleeps: start one that holds this processor.
    Spawn(ProcessorId),
}

/// How a thread came out of its sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A waker gave it a processor, and counted it as searching.
    Assigned,
    /// It took a processor itself.
    Itself,
    /// There is none to be had: it still counts as asleep.
    Without,
}

/// How a thread's rest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rested {
    /// It has a processor, and counts as searching.
    Searching,
    /// It has a processor.
    Serving,
    /// The runtime is closed: it has none, and sleeps no more.
    Closed,
    /// It did not sleep: enough others do.
    Spare,
}

/// A thread that goes to sleep: what Sleep asks of it.
pub(crate) trait Sleeper {
    /// Sleep 3: whether there is anything that it should run.
    fn has_work(&self) -> bool;

    /// Whether the runtime is being closed. A thread that is closing it unparks all sleepers after that.
    fn is_closed(&self) -> bool;

    /// Parks until the thread's parker has a token. `may_drive`: nobody else is serving, so it should be in the driver.
    fn park(&self, may_drive: bool);

    /// It stays down, since there is no processor to be had: what it has been given to run, and what others relied on
    /// its finding, goes to others. (A thread that is dismissed from the duty inside the driver is given tasks there.)
    fn stay_down(&self);
}

#[derive(Debug)]
struct Asleep {
    seat: Arc<Seat>,
    in_driver: bool,
}

#[derive(Debug, Default)]
struct Lists {
    idle: Vec<ProcessorId>,
    /// Newest last.
    sleepers: Vec<Asleep>,
    withheld: Vec<ProcessorId>,
    /// How many processors are still to be withheld.
    surplus: u32,
}

/// The processors of one runtime. See the [module](self).
#[derive(Debug)]
pub(crate) struct Processors {
    total: u32,
    /// Read and written relaxed: it protects no memory, writers but for searchers are ordered by the lock, and where
    /// it must be ordered with the queues the fences of Submit and Sleep do it. All other looks are for policy.
    census: AtomicU64,
    /// Whether there is a surplus: a copy for those who come by. Relaxed: they look again under the lock.
    has_surplus: AtomicBool,
    lists: Mutex<Lists>,
}

impl Processors {
    /// `total` processors, for each of which the caller starts a thread that sits down with it.
    pub(crate) fn new(total: u32) -> Self {
        Self {
            total,
            // As after a `Wake::Spawn` for each.
            census: AtomicU64::new(SEARCH * u64::from(total)),
            has_surplus: AtomicBool::new(false),
            lists: Mutex::new(Lists::default()),
        }
    }

    pub(crate) fn census(&self) -> Census {
        // Relaxed: see `Processors::census`.
        let word = self.census.load(Relaxed);
        Census {
            total: self.total - (word >> 48) as u32,
            idle: (word & 0xffff) as u32,
            computing: (word >> 16 & 0xffff) as u32,
            searching: (word >> 32 & 0xffff) as u32,
        }
    }

    /// Begins to search, unless half of the processors' threads do already.
    pub(crate) fn start_searching(&self) -> bool {
        let census = self.census();
        if census.searching * 2 >= census.total.max(2) {
            return false;
        }
        self.census.fetch_add(SEARCH, Relaxed);
        true
    }

    /// Ends a search that has found work. If no one searches any more, `look_again` sees to what is left behind: it
    /// does Submit 3 for what it finds in the queues.
    pub(crate) fn stop_searching(&self, look_again: impl FnOnce()) {
        let before = self.census.fetch_sub(SEARCH, Relaxed);
        if before >> 32 & 0xffff == 1 {
            // Submit 2.
            fence();
            look_again();
        }
    }

    /// Submit 2 and the look of 3.
    pub(crate) fn published(&self) -> Census {
        fence();
        self.census()
    }

    /// Sleep, and what comes after it: returns when the thread has a processor or should end, or at once if `most`
    /// threads sleep already.
    pub(crate) fn rest(
        &self,
        seat: &Arc<Seat>,
        searching: bool,
        most: usize,
        sleeper: &impl Sleeper,
    ) -> Rested {
        // Sleep 1.
        let Some((census, mut with_processor)) = self.sleep(seat, searching, most) else {
            return Rested::Spare;
        };
        if !with_processor {
            sleeper.stay_down();
        }
        // Sleep 2 and 3. A thread without a processor has nothing to run work on.
        fence();
        let mut stay_up = sleeper.is_closed() || with_processor && sleeper.has_work();
        loop {
            if !stay_up {
                sleeper.park(with_processor && census.serving() == 0);
            }
            let searching = searching && stay_up;
            match self.wake_self(seat, searching) {
                Woken::Assigned => return Rested::Searching,
                Woken::Itself if searching => return Rested::Searching,
                Woken::Itself => return Rested::Serving,
                Woken::Without if sleeper.is_closed() => {
                    self.remove(seat);
                    return Rested::Closed;
                }
                Woken::Without => {
                    sleeper.stay_down();
                    stay_up = false;
                    // What it would take out of the driver it could not run.
                    with_processor = false;
                }
            }
        }
    }

    /// Sleep 1. The thread stands in the list of sleepers until it is woken. Returns the census after it and whether it
    /// leaves a processor idle, or `None`, with nothing changed, if `most` threads sleep already.
    pub(crate) fn sleep(&self, seat: &Arc<Seat>, searching: bool, most: usize) -> Option<(Census, bool)> {
        let mut lists = self.lists.lock();
        if lists.sleepers.len() >= most {
            return None;
        }
        let mut change = if searching { 0u64.wrapping_sub(SEARCH) } else { 0 };
        let mut becomes_idle = false;
        if let Some(p) = seat.processor() {
            if seat.is_computing() {
                // The watchdog found the thread's last item long just when it ended.
                change = change.wrapping_sub(COMPUTE);
            }
            let left = self.let_go(&mut lists, p);
            becomes_idle = left == IDLE;
            change = change.wrapping_add(left);
        }
        seat.set(None, false);
        lists.sleepers.push(Asleep { seat: Arc::clone(seat), in_driver: false });
        self.census.fetch_add(change, Relaxed);
        Some((self.census(), becomes_idle))
    }

    /// The sleeper will park in the driver, and its processor is kept for it. If it has been woken meanwhile there is,
    /// or will be, a token with its parker.
    pub(crate) fn guard_driver(&self, seat: &Arc<Seat>) {
        let mut lists = self.lists.lock();
        // Not if it has been withheld meanwhile.
        let is_idle = seat.home().is_some_and(|home| lists.idle.contains(&home));
        if let Some(sleeper) = lists.sleepers.iter_mut().find(|s| Arc::ptr_eq(&s.seat, seat)) {
            sleeper.in_driver = is_idle;
        }
    }

    /// A sleeper gets up of its own accord, counting as `searching`: events came, or it must look again.
    pub(crate) fn wake_self(&self, seat: &Arc<Seat>, searching: bool) -> Woken {
        let mut lists = self.lists.lock();
        let Some(place) = lists.sleepers.iter().position(|s| Arc::ptr_eq(&s.seat, seat)) else {
            return Woken::Assigned;
        };
        // Out of the list first: a thread in the driver does not guard its processor against itself.
        let mut sleeper = lists.sleepers.remove(place);
        sleeper.in_driver = false;
        let Some(index) = lists.unguarded(seat.home()) else {
            lists.sleepers.push(sleeper);
            return Woken::Without;
        };
        let p = lists.idle.remove(index);
        seat.set(Some(p), false);
        let change = if searching { SEARCH.wrapping_sub(IDLE) } else { 0u64.wrapping_sub(IDLE) };
        self.census.fetch_add(change, Relaxed);
        Woken::Itself
    }

    /// A sleeper leaves for good.
    fn remove(&self, seat: &Arc<Seat>) {
        let mut lists = self.lists.lock();
        lists.sleepers.retain(|s| !Arc::ptr_eq(&s.seat, seat));
    }

    /// Gives an idle processor to a sleeping thread, which counts as searching from here on. `None` if no
    /// processor is idle.
    #[cfg(loom)]
    pub(crate) fn wake_one(&self) -> Option<Wake> {
        self.wake_near(|_| None::<()>)
    }

    /// The same, one that is near: `near` says how far a processor is, `None` that none can be nearer.
    pub(crate) fn wake_near<N: Ord>(&self, near: impl Fn(ProcessorId) -> Option<N>) -> Option<Wake> {
        self.wake_where(near, |_| true, |_, _| {})
    }

    /// The same, with a processor that `suits` if there is one. `prepare` is told of a thread that gets another processor
    /// than it had last, before it can wake.
    pub(crate) fn wake_where<N: Ord>(
        &self,
        near: impl Fn(ProcessorId) -> Option<N>,
        suits: impl Fn(ProcessorId) -> bool,
        prepare: impl FnOnce(&Seat, ProcessorId),
    ) -> Option<Wake> {
        let mut lists = self.lists.lock();
        let (place, index) = lists.choose(near)?;
        let Some(sleeper) = place.map(|place| &lists.sleepers[place]).filter(|sleeper| !sleeper.in_driver)
        else {
            return Some(self.give(&mut lists, place, index));
        };
        let index = lists.exchange_chosen(index, suits);
        if sleeper.seat.home() != Some(lists.idle[index]) {
            prepare(&sleeper.seat, lists.idle[index]);
        }
        Some(self.give(&mut lists, place, index))
    }

    /// The same for processor `p`; `None` if it is not idle. If it is withheld, an idle one is in its place.
    pub(crate) fn wake_on(&self, p: ProcessorId) -> Option<Wake> {
        let mut lists = self.lists.lock();
        if let Some(place) = lists.withheld.iter().position(|&q| q == p) {
            let index = lists.least_needed()?;
            let Lists { idle, withheld, .. } = &mut *lists;
            std::mem::swap(&mut idle[index], &mut withheld[place]);
        }
        let index = lists.idle.iter().position(|&q| q == p)?;
        // Its own thread, or the one in the driver that guards it, or anybody.
        let own = lists.sleepers.iter().rposition(|s| s.seat.home() == Some(p));
        let place = own.or_else(|| lists.sleepers.iter().rposition(|s| !s.in_driver));
        Some(self.give(&mut lists, place, index))
    }

    /// Gives the idle processor at `index` to the sleeper at `place`, or to a new thread.
    fn give(&self, lists: &mut Lists, place: Option<usize>, index: usize) -> Wake {
        let p = lists.idle.remove(index);
        lists.unguard(p);
        // One step, so that no submitter sees neither an idle processor nor a searcher.
        self.census.fetch_add(SEARCH.wrapping_sub(IDLE), Relaxed);
        match place {
            Some(place) => {
                let seat = lists.sleepers.remove(place).seat;
                seat.set(Some(p), false);
                Wake::Unpark(seat)
            }
            None => Wake::Spawn(p),
        }
    }

    /// A [`Wake::Spawn`] that could not be carried out: nobody has the processor.
    pub(crate) fn undo_spawn(&self, p: ProcessorId) {
        let mut lists = self.lists.lock();
        let change = self.let_go(&mut lists, p).wrapping_sub(SEARCH);
        self.census.fetch_add(change, Relaxed);
    }

    /// A new thread sits down with the processor it was started for, searching.
    pub(crate) fn sit_down(&self, seat: &Seat, p: ProcessorId) {
        let _lists = self.lists.lock();
        seat.set(Some(p), false);
    }

    /// Hand-over 1, by the thread itself or, if it sleeps in the kernel, by the watchdog. `false` if it holds no
    /// processor.
    pub(crate) fn release(&self, seat: &Seat) -> bool {
        self.release_if(seat, |_, _| true)
    }

    fn release_if(&self, seat: &Seat, may: impl FnOnce(&Seat, &Lists) -> bool) -> bool {
        let mut lists = self.lists.lock();
        let Some(p) = seat.processor().filter(|_| may(seat, &lists)) else {
            return false;
        };
        let computing = seat.is_computing();
        seat.set(None, computing);
        let left = self.let_go(&mut lists, p);
        let change = if computing { left.wrapping_sub(COMPUTE) } else { left };
        self.census.fetch_add(change, Relaxed);
        true
    }

    /// Hand-over 1 by the watchdog. `false` also if the thread has been told its number.
    pub(crate) fn take_away(&self, seat: &Seat) -> bool {
        self.release_if(seat, |seat, _| seat.number().is_none())
    }

    /// Hand-over 4: takes an idle processor, its last one if it can be had, and says whether there was one.
    pub(crate) fn acquire(&self, seat: &Seat) -> bool {
        self.acquire_in(&mut self.lists.lock(), seat)
    }

    fn acquire_in(&self, lists: &mut Lists, seat: &Seat) -> bool {
        if seat.processor().is_some() {
            return true;
        }
        let Some(index) = lists.unguarded(seat.home()) else {
            return false;
        };
        let p = lists.idle.remove(index);
        let computing = seat.is_computing();
        seat.set(Some(p), computing);
        let change = if computing { COMPUTE.wrapping_sub(IDLE) } else { 0u64.wrapping_sub(IDLE) };
        self.census.fetch_add(change, Relaxed);
        true
    }

    /// The processor `p` is nobody's any more: idle, or withheld if there is a surplus. Returns the change of the census.
    fn let_go(&self, lists: &mut Lists, p: ProcessorId) -> u64 {
        if lists.surplus == 0 {
            lists.idle.push(p);
            return IDLE;
        }
        self.set_surplus(lists, lists.surplus - 1);
        lists.withheld.push(p);
        WITHHOLD
    }

    fn set_surplus(&self, lists: &mut Lists, surplus: u32) {
        lists.surplus = surplus;
        self.has_surplus.store(surplus > 0, Relaxed);
    }

    /// Limit: as many processors as `limit` says are not withheld, or, while there is a surplus, not yet. Returns whether
    /// some have become idle, and the caller looks for work that waits.
    pub(crate) fn limit_to(&self, limit: u32) -> bool {
        let mut lists = self.lists.lock();
        let goal = self.total - limit.clamp(1, self.total);
        let mut change = 0u64;
        // 1.
        while (lists.withheld.len() as u32) < goal
            && let Some(index) = lists.least_needed()
        {
            let p = lists.idle.remove(index);
            lists.withheld.push(p);
            change = change.wrapping_add(WITHHOLD.wrapping_sub(IDLE));
        }
        // 2.
        let mut any = false;
        while lists.withheld.len() as u32 > goal
            && let Some(p) = lists.withheld.pop()
        {
            lists.idle.push(p);
            change = change.wrapping_add(IDLE.wrapping_sub(WITHHOLD));
            any = true;
        }
        let surplus = goal - lists.withheld.len() as u32;
        self.set_surplus(&mut lists, surplus);
        self.census.fetch_add(change, Relaxed);
        any
    }

    /// Whether threads that come by are to hand their processors in, as far as the caller knows.
    pub(crate) fn has_surplus(&self) -> bool {
        self.has_surplus.load(Relaxed)
    }

    /// Hand in 1, at the loop. `false` if the thread holds no processor, or may keep it.
    pub(crate) fn hand_in(&self, seat: &Seat) -> bool {
        self.release_if(seat, |_, lists| lists.surplus > 0)
    }

    /// The thread's processor is withheld in the place of one that `wanted` says yes to; whether there is one.
    pub(crate) fn exchange(&self, seat: &Seat, wanted: impl Fn(ProcessorId) -> bool) -> bool {
        // Relaxed: what is addressed to a processor while it is being withheld, whoever withholds it sees.
        if self.census.load(Relaxed) < WITHHOLD {
            return false;
        }
        let mut lists = self.lists.lock();
        let Some(p) = seat.processor() else { return false };
        let Some(place) = lists.withheld.iter().position(|&p| wanted(p)) else {
            return false;
        };
        let computing = seat.is_computing();
        seat.set(Some(lists.withheld[place]), computing);
        lists.withheld[place] = p;
        true
    }

    /// Numbers 1: the number of the processor that the thread holds, or of an idle one, which it takes.
    pub(crate) fn claim(&self, seat: &Seat) -> Option<ProcessorId> {
        let mut lists = self.lists.lock();
        if !self.acquire_in(&mut lists, seat) {
            return None;
        }
        seat.set_numbered(true);
        seat.processor()
    }

    /// Numbers 1: takes the processor of a thread in a closure, which has not been told its number.
    pub(crate) fn take_over(&self, from: &Seat, to: &Seat) -> Option<ProcessorId> {
        let _lists = self.lists.lock();
        let p = from.processor().filter(|_| from.is_computing() && from.number().is_none())?;
        if to.processor().is_some() {
            return None;
        }
        let computing = to.is_computing();
        from.set(None, true);
        to.set(Some(p), computing);
        to.set_numbered(true);
        if !computing {
            self.census.fetch_sub(COMPUTE, Relaxed);
        }
        Some(p)
    }

    /// Numbers 3: the thread is at a fork, or at its loop.
    pub(crate) fn forget_number(&self, seat: &Seat) {
        if seat.number().is_some() {
            let _lists = self.lists.lock();
            seat.set_numbered(false);
        }
    }

    /// A thread is there for good, with this processor and its number: it serves nobody else.
    pub(crate) fn settle(&self, seat: &Seat, p: ProcessorId) {
        let _lists = self.lists.lock();
        seat.set(Some(p), true);
        seat.set_numbered(true);
        // As a thread that was started for it: it is done with its search.
        self.census.fetch_add(COMPUTE.wrapping_sub(SEARCH), Relaxed);
    }

    /// The thread is in for a long stretch: from now on others see to tasks and events. `false` if it counted
    /// as computing already.
    pub(crate) fn begin_computing(&self, seat: &Seat) -> bool {
        self.set_computing(seat, true)
    }

    /// The stretch is over.
    pub(crate) fn end_computing(&self, seat: &Seat) {
        self.set_computing(seat, false);
    }

    fn set_computing(&self, seat: &Seat, computing: bool) -> bool {
        let _lists = self.lists.lock();
        if seat.is_computing() == computing {
            return false;
        }
        let p = seat.processor();
        let numbered = computing && seat.number().is_some();
        seat.set(p, computing);
        seat.set_numbered(numbered);
        if p.is_some() {
            let change = if computing { COMPUTE } else { 0u64.wrapping_sub(COMPUTE) };
            self.census.fetch_add(change, Relaxed);
        }
        true
    }

    /// Every thread that sleeps, to be told of a shutdown.
    pub(crate) fn sleepers(&self) -> Vec<Arc<Seat>> {
        let lists = self.lists.lock();
        lists.sleepers.iter().map(|s| Arc::clone(&s.seat)).collect()
    }
}

impl Lists {
    /// Whether `p` is what the thread in the driver will run on when events come: not for others to take.
    fn is_guarded(&self, p: ProcessorId) -> bool {
        self.sleepers.iter().any(|s| s.in_driver && s.seat.home() == Some(p))
    }

    /// An idle processor that may be taken, `home` if possible.
    fn unguarded(&self, home: Option<ProcessorId>) -> Option<usize> {
        let free = |&index: &usize| !self.is_guarded(self.idle[index]);
        let own = self.idle.iter().position(|&p| Some(p) == home).filter(free);
        own.or_else(|| (0..self.idle.len()).rev().find(free))
    }

    /// An idle processor that can best be spared; nobody guards it from then on.
    fn least_needed(&mut self) -> Option<usize> {
        let free = (0..self.idle.len()).rev().find(|&index| !self.is_guarded(self.idle[index]));
        let index = free.or(self.idle.len().checked_sub(1))?;
        self.unguard(self.idle[index]);
        Some(index)
    }

    /// `p` is idle no more: whoever guarded it in the driver is woken like any other from now on.
    fn unguard(&mut self, p: ProcessorId) {
        for sleeper in self.sleepers.iter_mut().filter(|s| s.seat.home() == Some(p)) {
            sleeper.in_driver = false;
        }
    }

    /// Whom to wake, on what (places in `sleepers` and `idle`): the nearest sleeper beside its own processor, of those the
    /// newest; any sleeper on a free processor; last the one in the driver, whose wake-up is dear; else a new thread.
    fn choose<N: Ord>(&self, near: impl Fn(ProcessorId) -> Option<N>) -> Option<(Option<usize>, usize)> {
        let newest_first = || self.sleepers.iter().enumerate().rev();
        let elsewhere = || newest_first().filter(|(_, s)| !s.in_driver);
        // Beside its own processor, and where that is in `idle`.
        let own = |(place, home): (usize, ProcessorId)| Some((Some(place), self.position(home)?));
        let at_home = |(place, home)| own((place, home)).filter(|_| !self.is_guarded(home));
        let homes = elsewhere().filter_map(|(place, s)| Some((place, s.seat.home()?)));

        if let Some(chosen) = nearest(homes, |&(_, home)| near(home), at_home) {
            return Some(chosen);
        }
        if let Some((place, sleeper)) = elsewhere().next()
            && let Some(index) = self.unguarded(sleeper.seat.home())
        {
            return Some((Some(place), index));
        }
        let in_driver = newest_first().filter(|(_, s)| s.in_driver);
        let mut homes = in_driver.filter_map(|(place, s)| Some((place, s.seat.home()?)));
        if let Some(chosen) = homes.find_map(own) {
            return Some(chosen);
        }
        let newest = (0..self.idle.len()).rev();
        Some((None, nearest(newest, |&index| near(self.idle[index]), Some)?))
    }

    /// The place of an idle processor that suits instead of the one at `index`, if that does not. The thread in the driver
    /// may have guarded it: then that guards the other one from now on.
    fn exchange_chosen(&self, index: usize, suits: impl Fn(ProcessorId) -> bool) -> usize {
        let chosen = self.idle[index];
        let better = self.idle.iter().position(|&p| suits(p)).filter(|_| !suits(chosen));
        let Some(better) = better else {
            return index;
        };
        let guard = self.sleepers.iter().find(|s| s.in_driver && s.seat.home() == Some(self.idle[better]));
        if let Some(guard) = guard {
            guard.seat.set_home(chosen);
        }
        better
    }

    fn position(&self, p: ProcessorId) -> Option<usize> {
        self.idle.iter().position(|&q| q == p)
    }
}

/// What `choose` makes of the nearest item of which it makes something, of several the first. It is asked only of those
/// that would be the nearest so far: seldom, for there are few distances.
fn nearest<T, C, N: Ord>(
    items: impl Iterator<Item = T>,
    near: impl Fn(&T) -> Option<N>,
    choose: impl Fn(T) -> Option<C>,
) -> Option<C> {
    let mut best = None;
    for item in items {
        let distance = near(&item);
        if best.as_ref().is_some_and(|(least, _)| distance >= *least) {
            continue;
        }
        let none_is_nearer = distance.is_none();
        best = choose(item).map(|choice| (distance, choice)).or(best);
        if none_is_nearer && best.as_ref().is_some_and(|(least, _)| least.is_none()) {
            break;
        }
    }
    best.map(|(_, choice)| choice)
}

/// Submit 2 and Sleep 2.
pub(crate) fn fence() {
    crate::sync::atomic::fence(SeqCst);
}
