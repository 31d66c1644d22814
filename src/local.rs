//! A thread's own state, and the part of it that others see.
//!
//! [`Local`] belongs to one thread and is `!Sync`: its deques, the list of its latent jobs, its heartbeat.
//! [`Remote`] is what thieves, wakers and the watchdog see of it. Three kinds of threads have one: workers, the
//! duty thread (a worker for the time being, see [`Role`]), and *guests*, foreign threads that fork.
//!
//! | field of `Remote` | written by | read by |
//! |---|---|---|
//! | `seat` | see [`Seat`] | anyone |
//! | `latent` | see [`LatentJobs`] | owner; anyone asks |
//! | `tickets`, `tasks` | owner pushes and pops; anyone steals | anyone |
//! | `lifo` | owner swaps in and out; anyone swaps out | anyone |
//! | `epoch` | owner: odd while an item of work runs | watchdog, searching threads |
//! | `role` | at the start; whoever takes the duty away | anyone |
//! | `clock` | owner, once | watchdog |
//! | `slice_was_changed` | watchdog sets, owner clears | owner |
//! | `pinned` | owner; while it sleeps, whoever wakes it | the same |
//! | `is_unpinned` | owner | metrics; whoever wakes it |
//! | `counters` | owner (load, store) | metrics |
//! | `cpu` | owner, at each beat, look around, and when it begins to compute | joiners, searching threads, who looks at limits |

use std::cell::{Cell, OnceCell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64};

use crossbeam_deque::{Steal, Stealer, Worker as Deque};

use crate::crowding::{self, Binding, Crowding, Share};
use crate::gathering::Follower;
use crate::heartbeat::{FIRST, Heartbeat, Lengths, WorkClock};
use crate::latent::{LatentJobs, Owner};
use crate::metrics::Counters;
use crate::os::{self, Affinity, Schedstat, Slice, ThreadClock};
use crate::peers::{FAR_TASKS, FAR_TICKETS, Peer, Peers, Reach};
use crate::processors::{Census, ProcessorId, Seat};
use crate::scheduler::{self, Shared};
use crate::task::Runnable;
use crate::task::budget::Budgets;
use crate::ticket::{Claim, Ticket};
use crate::topology::Ring;

/// What a thread with a [`Local`] is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Role {
    /// Runs everything, while it holds a processor.
    Worker,
    /// Sits in the driver while all processors compute, and runs ready tasks; never closures or halves.
    Duty,
    /// A foreign thread inside a `join` or a `scope`: forks, and runs its own halves and jobs.
    Guest,
    /// A user's thread that counts as one of the pool for good and never comes to a loop: forks, and keeps its processor.
    Resident,
}

/// Where a thread is with respect to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Outside,
    /// Taking a turn without blocking.
    Passing,
    /// Parked inside, until notified.
    Parked,
}

/// What others see of a thread.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) seat: Arc<Seat>,
    latent: LatentJobs,
    tickets: Stealer<Arc<Ticket>>,
    tasks: Stealer<Runnable>,
    lifo: AtomicPtr<()>,
    epoch: AtomicU64,
    role: AtomicU8,
    clock: OnceLock<Option<ThreadClock>>,
    slice_was_changed: AtomicBool,
    /// The processor whose core the thread is pinned to, plus one; zero before it is. Relaxed: written by the thread
    /// itself, and while it sleeps by whoever gives it a processor, under the lock of these.
    pinned: AtomicU32,
    is_unpinned: AtomicBool,
    /// The CPU that the thread was on when it last looked, plus one; zero before. Relaxed: a hint.
    cpu: AtomicU32,
    pub(crate) counters: Counters,
}

impl Remote {
    /// Asks the owner to be heard at its next fork.
    pub(crate) fn ask(&self) {
        self.latent.ask();
    }

    /// The CPU that the owner was on when it last looked.
    pub(crate) fn last_cpu(&self) -> Option<usize> {
        // Relaxed: a hint.
        (self.cpu.load(Relaxed) as usize).checked_sub(1)
    }

    /// Whether the owner was on this CPU when it last looked. If the caller is there now, the owner is likely to wait for the
    /// core; it may also sleep, or have moved since.
    pub(crate) fn was_on(&self, cpu: Option<usize>) -> bool {
        cpu.is_some() && self.last_cpu() == cpu
    }

    pub(crate) fn role(&self) -> Role {
        // Relaxed: the watchdog moves the duty under the lock of `Duty`, and a late look is harmless.
        match self.role.load(Relaxed) {
            0 => Role::Worker,
            1 => Role::Duty,
            2 => Role::Guest,
            _ => Role::Resident,
        }
    }

    pub(crate) fn set_role(&self, role: Role) {
        self.role.store(role as u8, Relaxed);
    }

    /// Changes with each item of work; odd while user code runs.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// The owner is in for a long stretch: whoever serves now must be able to preempt it.
    pub(crate) fn lengthen_slice(&self, slice: Slice) {
        if let Some(clock) = self.clock() {
            clock.set_slice(slice);
            // Relaxed: see `Local::set_slice`.
            self.slice_was_changed.store(true, Relaxed);
        }
    }

    /// The processor whose core the thread is pinned to, unless it is let go.
    fn pinned(&self) -> Option<ProcessorId> {
        self.pinned.load(Relaxed).checked_sub(1)
    }

    /// Notes that the thread will be pinned to the core of `p`; `false` if it is.
    fn note_pin(&self, p: ProcessorId) -> bool {
        // No read-modify-write: see `pinned`.
        let changes = self.pinned.load(Relaxed) != p + 1;
        if changes {
            self.pinned.store(p + 1, Relaxed);
        }
        changes
    }

    /// The thread, which sleeps and is about to be woken, wakes on the core that `mask` has, which is that of `p`.
    pub(crate) fn pin_asleep(&self, p: ProcessorId, mask: &Affinity) {
        if self.note_pin(p)
            && !self.is_unpinned()
            && let Some(clock) = self.clock()
        {
            clock.pin(mask);
        }
    }

    /// Whether the owner is let go from its core for the time being.
    pub(crate) fn is_unpinned(&self) -> bool {
        // Relaxed: for metrics, and whoever binds it too early binds it to where it will be bound again.
        self.is_unpinned.load(Relaxed)
    }

    pub(crate) fn clock(&self) -> Option<&ThreadClock> {
        self.clock.get()?.as_ref()
    }

    /// Whether the owner forks now, or might: asking it may bring work.
    pub(crate) fn may_fork(&self) -> bool {
        match self.role() {
            Role::Guest => self.epoch() % 2 == 1,
            Role::Resident => self.has_tickets(),
            _ => self.seat.is_computing(),
        }
    }

    /// Whether the owner will not come back to its own queue soon.
    pub(crate) fn will_be_long(&self) -> bool {
        self.seat.is_computing() || self.seat.processor().is_none() && self.role() == Role::Worker
    }

    pub(crate) fn has_tickets(&self) -> bool {
        !self.tickets.is_empty()
    }

    pub(crate) fn tickets_len(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn has_tasks(&self) -> bool {
        // SeqCst: pairs with the swap of `Local::push_task`; see `ticking`, Falling asleep.
        !self.lifo.load(SeqCst).is_null() || !self.tasks.is_empty()
    }

    pub(crate) fn tasks_len(&self) -> usize {
        // Relaxed: a count for policy and metrics.
        self.tasks.len() + usize::from(!self.lifo.load(Relaxed).is_null())
    }

    pub(crate) fn steal_ticket(&self) -> Option<Arc<Ticket>> {
        steal(|| self.tickets.steal())
    }

    /// Some of the tickets, into `into`, which has come a long way for them; returns one of them.
    pub(crate) fn steal_tickets(&self, into: &Deque<Arc<Ticket>>) -> Option<Arc<Ticket>> {
        steal(|| self.tickets.steal_batch_with_limit_and_pop(into, FAR_TICKETS))
    }

    /// The oldest task, the LIFO slot last.
    pub(crate) fn steal_task(&self) -> Option<Runnable> {
        steal(|| self.tasks.steal()).or_else(|| take(&self.lifo))
    }

    /// Half of the tasks, into `into`, more of them if that has come a long way; returns one of them.
    pub(crate) fn steal_tasks(&self, into: &Deque<Runnable>, far: bool) -> Option<Runnable> {
        let batch = || match far {
            false => self.tasks.steal_batch_and_pop(into),
            true => self.tasks.steal_batch_with_limit_and_pop(into, FAR_TASKS),
        };
        steal(batch).or_else(|| take(&self.lifo))
    }
}

impl Peer for Arc<Remote> {
    fn place(&self) -> Option<ProcessorId> {
        self.seat.home()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(take(&self.lifo));
    }
}

/// Repeats a steal that lost a race.
pub(crate) fn steal<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// Empties a LIFO slot.
fn take(slot: &AtomicPtr<()>) -> Option<Runnable> {
    // Relaxed: only saves the swap when there is nothing.
    if slot.load(Relaxed).is_null() {
        return None;
    }
    // Acquire pairs with the release half of `Local::push_task`.
    let raw = ptr::NonNull::new(slot.swap(ptr::null_mut(), AcqRel))?;
    // SAFETY: the slot holds what `Runnable::into_raw` gave, and the swap took it out for this caller alone.
    Some(unsafe { Runnable::from_raw(raw) })
}

/// How often in a row the LIFO slot may go first. Source: tokio's `MAX_LIFO_POLLS_PER_TICK`.
const LIFO_STREAK: u32 = 3;
/// How many forks and loops of an item of work with nothing to put on offer are passed over for its first look.
const MOST_PUT_OFF: u32 = 64;

/// A thread's own state.
pub(crate) struct Local {
    heartbeat: Cell<Heartbeat>,
    /// The heartbeat has not been told of the item of work at hand.
    item_is_new: Cell<bool>,
    /// How often the first look at it was put off.
    put_off: Cell<u32>,
    /// It has not been told that a part of the awaited half has begun on top of the item.
    part_is_new: Cell<bool>,
    /// Where that item comes from.
    place: Cell<usize>,
    work: WorkClock,
    /// What it read when the item was looked at first.
    item_began: Cell<u64>,
    lengths: Lengths,
    #[cfg(feature = "rayon")]
    pub(crate) loops: crate::iter::Loops,
    pub(crate) remote: Arc<Remote>,
    pub(crate) shared: Arc<Shared>,
    tickets: Deque<Arc<Ticket>>,
    tasks: Deque<Runnable>,
    lifo_streak: Cell<u32>,
    /// The task that runs has ended: whom it wakes now is whoever awaits it.
    pub(crate) ended: Cell<bool>,
    /// Calls of `block_in_place` on this thread's stack.
    pub(crate) lent: Cell<u32>,
    /// A guest's regions on this thread's stack.
    regions: Cell<u32>,
    /// Whether the guest counts among those that take a core, see [`Shared::idle_cores`].
    pub(crate) takes_core: Cell<bool>,
    /// The ticket of the claimed half that runs here; null if none does.
    claim: Cell<*const Ticket>,
    /// Leaps on this thread's stack.
    leaps: Cell<u32>,
    turn: Cell<Turn>,
    slice: Cell<Option<Slice>>,
    /// The duty thread's count of wake-ups in a row at which no worker computed.
    pub(crate) quiet: Cell<u32>,
    random: Cell<u64>,
    /// The other threads, and of which version of their table.
    peers: RefCell<(u64, Peers<Arc<Remote>>)>,
    tick: Cell<u32>,
    /// When the batch of polls at hand began, after how many the task had to wait or had ended, and how many there were.
    batch: Cell<(u64, u32, u32)>,
    /// Batches of which nobody was told yet: how long they took, and the same two numbers.
    untold: Cell<(u64, u32, u32)>,
    pub(crate) budgets: Budgets,
    crowding: RefCell<Crowding>,
    follower: RefCell<Follower>,
    schedstat: OnceCell<Option<Schedstat>>,
}

thread_local! {
    /// The latent jobs of this thread, if it has a state now. No destructor and no initialiser: a join looks here
    /// first, and needs no more.
    static LATENT: Cell<*const LatentJobs> = const { Cell::new(ptr::null()) };
    /// The latent jobs of the guest whose region this thread is in.
    static REGION: Cell<*const LatentJobs> = const { Cell::new(ptr::null()) };
    /// The state of a thread of the pool, also while another runtime is entered on it.
    static OWN: Cell<*const Local> = const { Cell::new(ptr::null()) };
}

/// Calls `f` with `value` in the cell, which has its own again after that, also if `f` unwinds.
pub(crate) fn with_value<T: Copy, R>(cell: &Cell<T>, value: T, f: impl FnOnce() -> R) -> R {
    struct Restore<'a, T: Copy>(&'a Cell<T>, T);
    impl<T: Copy> Drop for Restore<'_, T> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(cell, cell.replace(value));
    f()
}

/// Calls `f` with this thread's state.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Local>) -> R) -> R {
    // SAFETY: the result is gone when `f` ends.
    f(unsafe { latent() }.map(Owner::local))
}

/// This thread's latent jobs.
///
/// # Safety
///
/// The result is not used after the state that is installed now has stepped aside for good: the caller gives it
/// to nothing that outlives its own call.
#[inline]
pub(crate) unsafe fn latent<'a>() -> Option<Owner<'a>> {
    // SAFETY: `Installed` sets the pointer for the time in which the state is alive and stays put.
    let latent = unsafe { LATENT.get().as_ref() };
    // SAFETY: what is installed was settled by this thread.
    latent.map(|latent| unsafe { latent.owner() })
}

/// Calls `f` with the state of this thread of the pool, whatever runtime is entered on it.
pub(crate) fn with_own<R>(f: impl FnOnce(Option<&Local>) -> R) -> R {
    // SAFETY: `Installed` sets the pointer for the time in which the state is alive and stays put.
    f(unsafe { OWN.get().as_ref() })
}

/// Makes a state the one that this thread forks and wakes with, until dropped.
#[derive(Debug)]
pub(crate) struct Installed(*const LatentJobs);

impl Installed {
    /// # Safety
    ///
    /// `local` is null, or outlives the guard, does not move and is this thread's.
    pub(crate) unsafe fn new(local: *const Local) -> Self {
        // SAFETY: null, or alive, says the caller.
        let latent = unsafe { local.as_ref() }.map_or(ptr::null(), |local| &raw const local.remote.latent);
        Self(LATENT.replace(latent))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        LATENT.set(self.0);
    }
}

/// No state, until dropped: forks and wakes go to whatever runtime is entered.
///
/// Unlike [`Installed`] it may be dropped anywhere, for users hold it: it takes back only what is still there.
#[derive(Debug)]
pub(crate) struct Aside(*const LatentJobs);

impl Aside {
    pub(crate) fn new() -> Self {
        Self(LATENT.replace(ptr::null()))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let own = with_own(|own| own.map_or(ptr::null(), |own| &raw const own.remote.latent));
        let is_there = self.0 == own || self.0 == REGION.get();
        LATENT.set(if is_there { self.0 } else { ptr::null() });
    }
}

/// Makes a guest's state the installed one until dropped: a region.
pub(crate) struct InRegion<'a> {
    local: &'a Local,
    outer: *const LatentJobs,
    _installed: Installed,
}

impl<'a> InRegion<'a> {
    /// `place`: where the region is entered, as far as that is known.
    pub(crate) fn enter(local: &'a Local, place: usize) -> Self {
        local.regions.set(local.regions.get() + 1);
        local.begin_item(place);
        Self {
            local,
            outer: REGION.replace(&raw const local.remote.latent),
            // SAFETY: borrowed for longer than the guard lives; a `Local` is this thread's.
            _installed: unsafe { Installed::new(local) },
        }
    }
}

impl Drop for InRegion<'_> {
    fn drop(&mut self) {
        REGION.set(self.outer);
        self.local.end_item();
        self.local.regions.set(self.local.regions.get() - 1);
    }
}

/// Makes a state that of this thread of the pool, until dropped.
#[derive(Debug)]
pub(crate) struct Owned {
    _installed: Installed,
}

impl Owned {
    /// # Safety
    ///
    /// As [`Installed::new`].
    pub(crate) unsafe fn new(local: *const Local) -> Self {
        OWN.set(local);
        Self {
            // SAFETY: the caller's promise.
            _installed: unsafe { Installed::new(local) },
        }
    }

    /// For good: the state must never be freed.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        OWN.set(ptr::null());
    }
}

impl Local {
    /// A state for the calling thread, entered in the table of threads.
    pub(crate) fn new(shared: Arc<Shared>, role: Role) -> Box<Self> {
        let tickets = Deque::new_lifo();
        let tasks = Deque::new_fifo();
        let remote = Arc::new(Remote {
            seat: Arc::new(Seat::counted(shared.rest.clone())),
            latent: LatentJobs::new(),
            tickets: tickets.stealer(),
            tasks: tasks.stealer(),
            lifo: AtomicPtr::new(ptr::null_mut()),
            epoch: AtomicU64::new(0),
            role: AtomicU8::new(role as u8),
            clock: OnceLock::new(),
            slice_was_changed: AtomicBool::new(false),
            pinned: AtomicU32::new(0),
            is_unpinned: AtomicBool::new(false),
            cpu: AtomicU32::new(0),
            counters: Counters::default(),
        });
        // The slot is empty: this is the first write.
        let _ = remote.clock.set(ThreadClock::current());
        let local = Box::new(Self {
            heartbeat: Cell::new(Heartbeat::new(shared.config.heartbeat)),
            item_is_new: Cell::new(true),
            put_off: Cell::new(0),
            part_is_new: Cell::new(false),
            place: Cell::new(0),
            work: WorkClock::default(),
            item_began: Cell::new(0),
            lengths: Lengths::default(),
            #[cfg(feature = "rayon")]
            loops: crate::iter::Loops::default(),
            tickets,
            tasks,
            lifo_streak: Cell::new(0),
            ended: Cell::new(false),
            lent: Cell::new(0),
            regions: Cell::new(0),
            takes_core: Cell::new(false),
            claim: Cell::new(ptr::null()),
            leaps: Cell::new(0),
            turn: Cell::new(Turn::Outside),
            slice: Cell::new(None),
            quiet: Cell::new(0),
            random: Cell::new(ptr::from_ref(&*remote) as u64 | 1),
            peers: RefCell::new((u64::MAX, Peers::default())),
            tick: Cell::new(0),
            batch: Cell::new((0, 0, 0)),
            untold: Cell::new((0, 0, 0)),
            budgets: Budgets::default(),
            crowding: RefCell::new(Crowding::new()),
            follower: RefCell::default(),
            schedstat: OnceCell::new(),
            remote,
            shared,
        });
        // SAFETY: the first and only time, before the thread is in the table; the list lies in an `Arc`.
        unsafe { local.remote.latent.settle(&raw const *local) };
        local.shared.threads.insert(Arc::clone(&local.remote));
        local
    }

    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.remote.seat
    }

    /// Says on which CPU this thread is.
    pub(crate) fn note_cpu(&self) {
        let cpu = os::current_cpu().and_then(|cpu| u32::try_from(cpu + 1).ok());
        // Relaxed: a hint.
        self.remote.cpu.store(cpu.unwrap_or(0), Relaxed);
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.remote.counters
    }

    /// In which home the thread is, if there are several and it has had a place.
    pub(crate) fn home(&self) -> Option<usize> {
        self.shared.config.distances.home_of(|| self.seat().home())
    }

    // ----- latent jobs -----

    pub(crate) fn latent(&self) -> Owner<'_> {
        // SAFETY: a `Local` is this thread's, and has settled its list.
        unsafe { self.remote.latent.owner() }
    }

    /// A look at the clock: sets the countdown anew, then lets `decide` use the heartbeat.
    pub(crate) fn look<R>(
        &self,
        now: u64,
        census: Census,
        publish: bool,
        decide: impl FnOnce(&mut Heartbeat) -> R,
    ) -> R {
        let mut heartbeat = self.heartbeat.get();
        if self.item_is_new.replace(false) {
            let expected = self.lengths.expected(self.place.get());
            heartbeat.begin_item(expected, self.shared.mean_wake(), census, publish);
            self.item_began.set(self.work.read(now));
        }
        let latent = self.latent();
        let part_is_new = self.part_is_new.replace(false);
        if part_is_new {
            heartbeat.begin_part();
        }
        latent.set_countdown(heartbeat.look(now, part_is_new || latent.is_asked()));
        let decision = decide(&mut heartbeat);
        self.heartbeat.set(heartbeat);
        decision
    }

    /// What its clock of work reads now.
    pub(crate) fn work(&self) -> u64 {
        self.work.read(os::now())
    }

    /// How much work was done since its clock read `start`.
    pub(crate) fn worked_since(&self, start: u64) -> u64 {
        self.work().saturating_sub(start)
    }

    /// It has put something on offer since `since`, and may have woken somebody: that is no work of the item's, and may
    /// take longer than all there is.
    pub(crate) fn has_offered(&self, since: u64) {
        self.work.waited(os::now(), self.work.read(since), 0);
    }

    /// A wait is over that began when its clock of work read `start`, for a half with so much work.
    pub(crate) fn waited(&self, start: u64, work: u64) {
        self.work.waited(os::now(), start, work);
    }

    // ----- tickets -----

    pub(crate) fn push_ticket(&self, ticket: Arc<Ticket>) {
        self.tickets.push(ticket);
    }

    /// Whether a ticket of this thread still waits for a taker.
    pub(crate) fn has_open_ticket(&self) -> bool {
        !self.tickets.is_empty()
    }

    /// Drops the newest ticket if it is `ticket`, which has been reclaimed.
    pub(crate) fn discard_ticket(&self, ticket: *const Ticket) {
        if let Some(newest) = self.tickets.pop()
            && Arc::as_ptr(&newest) != ticket
        {
            self.tickets.push(newest);
        }
    }

    /// Where tickets that are stolen in a batch go.
    pub(crate) fn ticket_deque(&self) -> &Deque<Arc<Ticket>> {
        &self.tickets
    }

    /// At the loop: a half that lies on this thread's own queue. It came along with others from afar, or was put back by a
    /// leap; those that the thread promoted itself have ended.
    pub(crate) fn claim_own(&self) -> Option<Claim> {
        while self.has_open_ticket() {
            // Between the look and this somebody may take it.
            if let Some(claim) = self.tickets.pop().and_then(Ticket::claim) {
                return Some(claim);
            }
        }
        None
    }

    /// The ticket of the claimed half that runs here; null if none does.
    pub(crate) fn claim(&self) -> *const Ticket {
        self.claim.get()
    }

    /// Runs `f`, which is code of the half of `claim`, or, if that is null, of none.
    pub(crate) fn with_claim<R>(&self, claim: *const Ticket, f: impl FnOnce() -> R) -> R {
        with_value(&self.claim, claim, f)
    }

    /// Whether the joiner of the half that runs here looks for a part of it.
    pub(crate) fn is_wanted(&self) -> bool {
        // SAFETY: null, or that of a claim which is being run: it is counted there.
        unsafe { self.claim.get().as_ref() }.is_some_and(Ticket::is_wanted)
    }

    /// Leaps on this thread's stack.
    pub(crate) fn leaps(&self) -> u32 {
        self.leaps.get()
    }

    /// Runs `f`, a leap: if its forks are to be published, it is heard at the first of them.
    pub(crate) fn leaping<R>(&self, f: impl FnOnce() -> R) -> R {
        if self.heartbeat.get().publishes() {
            self.part_is_new.set(true);
            self.put_off.set(0);
            self.latent().set_countdown(FIRST);
        }
        let result = with_value(&self.leaps, self.leaps.get() + 1, f);
        // One that has not forked was not looked at; the next fork is the thread's own.
        self.part_is_new.set(false);
        result
    }

    // ----- tasks -----

    /// Queues a ready task: in the LIFO slot, or behind the others.
    pub(crate) fn push_task(&self, task: Runnable, behind: bool) {
        if behind {
            self.tasks.push(task);
            return;
        }
        // SeqCst: the full barrier that the watchdog's falling asleep relies on; its release half pairs with `take`.
        let displaced = self.remote.lifo.swap(task.into_raw().as_ptr(), SeqCst);
        if let Some(raw) = ptr::NonNull::new(displaced) {
            // SAFETY: as in `take`.
            self.tasks.push(unsafe { Runnable::from_raw(raw) });
        }
    }

    /// The next task of this thread's own.
    #[inline]
    pub(crate) fn pop_task(&self) -> Option<Runnable> {
        let task = self.pop_next_task();
        if task.is_some() && self.tasks_len() > 0 {
            // What is left behind this one may be stranded by it.
            self.shared.watchdog.ensure(&self.shared);
        }
        task
    }

    fn pop_next_task(&self) -> Option<Runnable> {
        let streak = self.lifo_streak.get();
        if streak < LIFO_STREAK
            && let Some(task) = take(&self.remote.lifo)
        {
            self.lifo_streak.set(streak + 1);
            return Some(task);
        }
        self.lifo_streak.set(0);
        self.tasks.pop().or_else(|| take(&self.remote.lifo))
    }

    /// How many tasks wait on this thread. The owner's look, without the fence that a thief's needs.
    pub(crate) fn tasks_len(&self) -> usize {
        // Relaxed: the slot is the owner's to fill.
        self.tasks.len() + usize::from(!self.remote.lifo.load(Relaxed).is_null())
    }

    pub(crate) fn task_deque(&self) -> &Deque<Runnable> {
        &self.tasks
    }

    /// Moves all tasks to the injector: this thread will not see to them soon. `true` if there were any.
    pub(crate) fn flush_tasks(&self) -> bool {
        let mut any = false;
        while let Some(task) = self.tasks.pop().or_else(|| take(&self.remote.lifo)) {
            self.shared.injector.push(self.home(), task);
            any = true;
        }
        any
    }

    // ----- others -----

    /// Calls `f` with each other thread of the runtime, the near ones first, until it returns `Some`.
    pub(crate) fn find_peer<T>(&self, mut f: impl FnMut(&Arc<Remote>) -> Option<T>) -> Option<T> {
        self.find_peer_within(Reach::Everywhere, |peer, _| f(peer))
    }

    /// The same with those in reach, each with the ring that it is in.
    pub(crate) fn find_peer_within<T>(
        &self,
        reach: Reach,
        f: impl FnMut(&Arc<Remote>, Ring) -> Option<T>,
    ) -> Option<T> {
        let mut peers = self.peers.borrow_mut();
        let (version, peers) = &mut *peers;
        self.shared.threads.refresh(version, peers, &self.remote);
        peers.find(self.seat().home(), &self.shared.config.distances, reach, || self.next_random(), f)
    }

    /// xorshift64: which victim goes first.
    fn next_random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// Whether tasks woken here should be queued here: the thread will come back to its queue soon.
    pub(crate) fn takes_tasks(&self) -> bool {
        match self.remote.role() {
            // Asleep in the driver it has no processor, but takes the events.
            Role::Worker => self.is_parked_in_turn() || !self.remote.will_be_long(),
            Role::Duty => true,
            Role::Guest | Role::Resident => false,
        }
    }

    /// Whether this is a thread of the pool, and no guest.
    pub(crate) fn is_of_pool(&self) -> bool {
        self.remote.role() != Role::Guest
    }

    /// Whether this is a guest that has no processor: most of them.
    pub(crate) fn is_bare_guest(&self) -> bool {
        self.remote.role() == Role::Guest && self.seat().processor().is_none()
    }

    /// Whether this thread is inside the driver: wakers and third-party code run on it now.
    pub(crate) fn is_in_turn(&self) -> bool {
        self.turn.get() != Turn::Outside
    }

    /// Whether a task woken here has to end the turn.
    pub(crate) fn is_parked_in_turn(&self) -> bool {
        self.turn.get() == Turn::Parked
    }

    pub(crate) fn set_turn(&self, turn: Turn) {
        self.turn.set(turn);
    }

    // ----- the thread as the kernel sees it -----

    /// Whether the thread holds a processor, or could get one; pins it to that processor's core.
    #[inline]
    pub(crate) fn take_up_processor(&self) -> bool {
        let seat = self.seat();
        if self.shared.processors.has_surplus() && self.hand_in_processor() {
            return false;
        }
        let Some(p) = seat.processor().or_else(|| {
            self.shared.processors.acquire(seat);
            seat.processor()
        }) else {
            return false;
        };
        if self.remote.note_pin(p) {
            self.pin_to(p);
        }
        true
    }

    #[cold]
    fn hand_in_processor(&self) -> bool {
        let is_handed_in = self.shared.processors.hand_in(self.seat());
        if is_handed_in {
            // Hand in 2.
            self.flush_tasks();
            self.shared.cover();
        }
        is_handed_in
    }

    /// Whether a yield is likely to give the core to who this thread works with, a joiner, and not to a stranger, for a slice:
    /// the kernel puts strangers where the thread is bound, and joiners where it is not.
    pub(crate) fn yields_to_joiners(&self) -> bool {
        let is_bound = || !self.shared.config.pins.is_empty() && !self.crowding.borrow().is_let_go();
        !self.shared.room.has_others() || !is_bound()
    }

    #[cold]
    fn pin_to(&self, p: ProcessorId) {
        if let Some(mask) = self.shared.config.pins.get(p as usize)
            && !self.crowding.borrow().is_let_go()
        {
            // The masks were tried when the runtime was built; if the set of CPUs has changed since, the
            // thread runs where it may.
            let _ = mask.apply();
        }
    }

    /// Looks, now and then, at what is given to the process, and whether this thread's core is crowded: a thread that has
    /// work anyway.
    pub(crate) fn look_around(&self, now: u64) {
        self.note_cpu();
        self.shared.room.look(now);
        self.shared.follow_limits(now);
        self.follow_gathering();
        if !self.shared.config.pins.is_empty()
            && let Some(p) = self.remote.pinned()
            && self.crowding.borrow().is_due(now)
        {
            self.look_at_core(now, p);
        }
    }

    /// Runs where the runtime's threads are to run; a thread that is the user's runs where it may.
    pub(crate) fn follow_gathering(&self) {
        if matches!(self.remote.role(), Role::Worker | Role::Duty) {
            self.follower.borrow_mut().follow(&self.shared.config.gathered);
        }
    }

    #[cold]
    fn look_at_core(&self, now: u64, p: ProcessorId) {
        let mut crowding = self.crowding.borrow_mut();
        let stat = self.schedstat.get_or_init(Schedstat::of_this_thread).as_ref();
        let Some(times) = stat.and_then(Schedstat::read) else {
            return crowding.look_no_more();
        };
        let cpus = self.shared.config.free.as_ref().map_or(0, Affinity::count);
        let share = Share::on(cpus, self.shared.taken_cores());
        let computes = self.seat().is_computing() || self.shared.mean_stretch() >= crowding::LONG_TASKS;
        let binding = crowding.look(now, times, share, computes);
        drop(crowding);
        self.bind(binding, p);
    }

    /// The thread begins to compute, or has been found to: from here on it stays on its core.
    pub(crate) fn computes(&self) {
        if let Some(p) = self.remote.pinned() {
            let binding = self.crowding.borrow_mut().computes();
            self.bind(binding, p);
        }
    }

    fn bind(&self, binding: Binding, p: ProcessorId) {
        let config = &self.shared.config;
        let mask = match binding {
            Binding::Stay => return,
            Binding::LetGo => {
                self.counters().unpins.add(1);
                config.free.as_ref()
            }
            Binding::Bind => config.pins.get(p as usize),
        };
        // A refusal leaves the mask as it is: slower, nothing lost.
        let _ = mask.map(Affinity::apply);
        // Relaxed: for metrics.
        self.remote.is_unpinned.store(binding == Binding::LetGo, Relaxed);
    }

    /// Sets the thread's scheduling slice, if that changes it.
    pub(crate) fn set_slice(&self, slice: Slice) {
        if !self.shared.config.slices {
            return;
        }
        // Relaxed: a late look leaves the slice that the watchdog gave until the next time.
        if self.remote.slice_was_changed.load(Relaxed) {
            self.remote.slice_was_changed.store(false, Relaxed);
            self.slice.set(None);
        }
        if self.slice.replace(Some(slice)) != Some(slice) {
            os::set_slice(slice);
        }
    }

    /// Counts the times that the thread has looked for work.
    pub(crate) fn next_tick(&self) -> u32 {
        let tick = self.tick.get().wrapping_add(1);
        self.tick.set(tick);
        tick
    }

    // ----- how long tasks run -----

    /// The thread has slept, and its core was anybody's.
    pub(crate) fn awoke(&self) {
        let mut heartbeat = self.heartbeat.get();
        heartbeat.slept_until(os::now());
        self.heartbeat.set(heartbeat);
    }

    pub(crate) fn start_batch(&self, now: u64) {
        self.batch.set((now, 0, 0));
    }

    /// A task has been polled; `goes_on`: it is queued again already.
    pub(crate) fn count_poll(&self, goes_on: bool) {
        let (start, stretches, polls) = self.batch.get();
        self.batch.set((start, stretches + u32::from(!goes_on), polls + 1));
    }

    /// The batch is over, and the next one begins unless a pause or other work does. Few polls weigh too little for others to
    /// be told of them: they add up.
    pub(crate) fn end_batch(&self, now: u64) {
        let (start, stretches, polls) = self.batch.get();
        self.start_batch(now);
        if polls == 0 {
            return;
        }
        let (time, before, polls_before) = self.untold.get();
        let (time, stretches) = (time + now.saturating_sub(start), before + stretches);
        let polls = polls_before + polls;
        let is_told = polls >= scheduler::FULL_WEIGHT;
        if is_told {
            self.shared.measured_stretches(time, stretches, polls);
        }
        self.untold.set(if is_told { (0, 0, 0) } else { (time, stretches, polls) });
    }

    /// Whether a guest is in no region: its state may go.
    pub(crate) fn is_unused(&self) -> bool {
        self.regions.get() == 0
    }

    /// Makes the state of this thread of the pool the installed one, whatever was left behind.
    pub(crate) fn reinstall(&self) {
        LATENT.set(&raw const self.remote.latent);
    }

    /// What is known better about where the item at hand comes from.
    pub(crate) fn set_place(&self, place: usize) {
        self.place.set(place);
    }

    /// Whether the first look at the item of work at hand, or at the part on top of it, is put off: not for ever, since who has
    /// nothing to put on offer for long must be heard too.
    pub(crate) fn puts_first_look_off(&self) -> bool {
        let is_new = self.item_is_new.get() || self.part_is_new.get();
        let times = self.put_off.get();
        let puts_off = is_new && times < MOST_PUT_OFF;
        if puts_off {
            self.put_off.set(times + 1);
        }
        puts_off
    }

    /// User code begins on this thread, which comes from `place`.
    pub(crate) fn begin_item(&self, place: usize) {
        self.place.set(place);
        self.item_is_new.set(true);
        self.put_off.set(0);
        self.latent().set_countdown(FIRST);
        self.advance_epoch();
    }

    /// User code has ended.
    pub(crate) fn end_item(&self) {
        self.ended.set(false);
        self.measure_item();
        self.advance_epoch();
    }

    /// The work of the item at hand is done.
    pub(crate) fn measure_item(&self) {
        // Of one that has not forked nothing is known, and need not be.
        if !self.item_is_new.replace(true) {
            self.lengths.measured(self.place.get(), self.worked_since(self.item_began.get()));
        }
    }

    fn advance_epoch(&self) {
        // Owner-only writer: load and store. Relaxed: the watchdog compares values a tick apart.
        let epoch = &self.remote.epoch;
        epoch.store(epoch.load(Relaxed) + 1, Relaxed);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.shared.is_forked() {
            // Whoever held the lock of the table at the fork is not here to give it back.
            return;
        }
        self.shared.threads.remove(&self.remote);
        self.shared.retired.absorb(&self.remote.counters);
        self.flush_tasks();
    }
}

/// The table of a runtime's threads: changed rarely, copied by each thread when it has changed.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    version: AtomicU64,
    list: crate::sync::Mutex<Vec<Arc<Remote>>>,
}

impl Threads {
    fn insert(&self, remote: Arc<Remote>) {
        let mut list = self.list.lock();
        list.push(remote);
        self.version.fetch_add(1, SeqCst);
    }

    fn remove(&self, remote: &Arc<Remote>) {
        let mut list = self.list.lock();
        list.retain(|r| !Arc::ptr_eq(r, remote));
        self.version.fetch_add(1, SeqCst);
    }

    /// Brings the copy of a thread up to date, which has all others.
    fn refresh(&self, version: &mut u64, others: &mut Peers<Arc<Remote>>, me: &Arc<Remote>) {
        // Acquire pairs with `insert`: a thread that is seen to exist is in the list.
        if *version != self.version.load(Acquire) {
            let list = self.list.lock();
            others.replace(list.iter().filter(|thread| !Arc::ptr_eq(thread, me)).map(Arc::clone));
            *version = self.version.load(Acquire);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.lock().len()
    }

    /// The thread of a seat.
    pub(crate) fn of(&self, seat: &Seat) -> Option<Arc<Remote>> {
        self.list.lock().iter().find(|thread| ptr::eq(&*thread.seat, seat)).cloned()
    }

    /// A copy.
    pub(crate) fn all(&self) -> Vec<Arc<Remote>> {
        self.list.lock().clone()
    }
}
