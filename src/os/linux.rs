//! Linux: affinity masks, scheduling slices, and what another thread is doing.

use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Once, OnceLock};

use super::watched::Watched;
use super::{RunTimes, parse};

/// A set of CPUs that a thread may run on.
#[derive(Clone)]
pub(crate) struct Affinity(libc::cpu_set_t);

impl PartialEq for Affinity {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: both are whole sets.
        unsafe { libc::CPU_EQUAL(&self.0, &other.0) }
    }
}

impl std::fmt::Debug for Affinity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.cpus()).finish()
    }
}

impl Affinity {
    /// The calling thread's mask.
    pub(crate) fn current() -> io::Result<Self> {
        Self::of_thread(SELF)
    }

    fn of_thread(tid: libc::pid_t) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
        // SAFETY: the pointer is to a cpu_set_t and the size is that type's; a thread that there is not is an error.
        let rc = unsafe { libc::sched_getaffinity(tid, mem::size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all zeroes is a valid cpu_set_t, and the kernel has filled it in.
        Ok(Self(unsafe { set.assume_init() }))
    }

    /// The mask with these CPUs.
    pub(crate) fn of(cpus: impl Iterator<Item = usize>) -> io::Result<Self> {
        // SAFETY: all zeroes is the empty cpu_set_t.
        let mut set = unsafe { mem::zeroed::<libc::cpu_set_t>() };
        for cpu in cpus {
            if cpu >= libc::CPU_SETSIZE as usize {
                let message = format!("CPU {cpu} has a number above those that masks are made of here");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            // SAFETY: the index is below the set's size.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        Ok(Self(set))
    }

    /// The CPUs in the mask, ascending.
    pub(crate) fn cpus(&self) -> Vec<usize> {
        (0..libc::CPU_SETSIZE as usize)
            // SAFETY: the index is below the set's size.
            .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &self.0) })
            .collect()
    }

    /// How many CPUs there are in it.
    pub(crate) fn count(&self) -> usize {
        // SAFETY: it reads the set and nothing else.
        unsafe { libc::CPU_COUNT(&self.0) as usize }
    }

    /// Binds the calling thread to this mask, and reads back that it is so.
    pub(crate) fn apply(&self) -> io::Result<()> {
        // SAFETY: the pointer is to a cpu_set_t and the size is that type's; 0 is the calling thread.
        let rc = unsafe { libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &self.0) };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        let got = Self::current()?;
        if got != *self {
            return Err(io::Error::other(format!("asked for CPUs {self:?}, got {got:?}")));
        }
        Ok(())
    }

    pub(crate) fn contains(&self, cpu: usize) -> bool {
        // SAFETY: the index is below the set's size.
        cpu < libc::CPU_SETSIZE as usize && unsafe { libc::CPU_ISSET(cpu, &self.0) }
    }
}

/// The CPU that the calling thread is on, unless it is moved.
pub(crate) fn current_cpu() -> Option<usize> {
    // SAFETY: takes nothing; -1 if the kernel does not know.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// How long the kernel lets a thread run before another of the same weight may have the core. On wake-up a
/// thread with a short slice preempts one with a longer slice (EEVDF: the earlier virtual deadline), unless less than a
/// short slice is left of the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    /// 0.1 ms, the least there is: a thread that serves futures, but where CPUs are scarce ([`room`](crate::room)).
    Short,
    /// 20 ms: a thread in a closure. With one of 1.4 ms, say, one wake-up in fourteen would find less than a short slice left
    /// of it, and wait for a tick (decision 18). One of 100 ms would be better there, but a closure that waits and wakes
    /// beside other programs may come behind them for its length.
    Long,
    /// The system's own.
    Default,
}

impl Slice {
    fn nanoseconds(self) -> u64 {
        match self {
            Self::Short => 100_000,
            Self::Long => 20_000_000,
            // Zero asks for the default.
            Self::Default => 0,
        }
    }
}

/// `struct sched_attr` up to the fields of its first published size, 48 bytes.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct SchedAttr {
    size: u32,
    pub(super) policy: u32,
    flags: u64,
    pub(super) nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const SCHED_ATTR_SIZE: u32 = mem::size_of::<SchedAttr>() as u32;

/// The calling thread, to the kernel.
pub(super) const SELF: libc::pid_t = 0;

pub(super) fn get_attributes(tid: libc::pid_t) -> io::Result<SchedAttr> {
    let mut attributes = SchedAttr::default();
    // SAFETY: the kernel writes at most the given size, which is the struct's.
    let rc = unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut attributes, SCHED_ATTR_SIZE, 0) };
    if rc == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

fn set_attributes(tid: libc::pid_t, attributes: &SchedAttr) -> io::Result<()> {
    // SAFETY: the kernel reads `attributes.size` bytes, which is the struct's size.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const *attributes, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel knows slices for ordinary threads (6.12 and later). Probed once, on a thread of its own.
pub(crate) fn has_slices() -> bool {
    static PROBE: OnceLock<bool> = OnceLock::new();
    *PROBE.get_or_init(|| {
        let probe = || -> io::Result<bool> {
            let mut attributes = get_attributes(SELF)?;
            attributes.runtime = Slice::Short.nanoseconds();
            set_attributes(SELF, &attributes)?;
            Ok(get_attributes(SELF)?.runtime == Slice::Short.nanoseconds())
        };
        std::thread::Builder::new()
            .name("beat-probe".into())
            .spawn(move || probe().unwrap_or(false))
            .is_ok_and(|thread| thread.join().unwrap_or(false))
    })
}

/// Finds out what the kernel can do, before there are threads that would. A child of `fork` could otherwise find one of
/// its parent's in the middle of it, and wait for it for ever.
pub(crate) fn probe() {
    has_slices();
    forks();
}

/// Gives the calling thread a slice. Only ordinary (time-shared) threads have one; others are left alone.
pub(crate) fn set_slice(slice: Slice) {
    set_slice_of(SELF, slice);
}

fn set_slice_of(tid: libc::pid_t, slice: Slice) {
    if !has_slices() {
        return;
    }
    if let Ok(mut attributes) = get_attributes(tid)
        && attributes.policy == libc::SCHED_OTHER as u32
    {
        attributes.size = SCHED_ATTR_SIZE;
        attributes.runtime = slice.nanoseconds();
        // A refusal leaves the default slice: slower wake-ups, nothing lost.
        let _ = set_attributes(tid, &attributes);
    }
}

/// The CPU time of all threads of the process so far, in nanoseconds; zero if that is not known.
pub(crate) fn process_cpu_time() -> u64 {
    clock_time(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// What a clock reads, in nanoseconds. One of a thread that has ended is refused.
fn clock_time(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec; a clock that there is not is refused with an error.
    let rc = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (rc == 0).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Lets the calling thread's sleeps end on time, and not up to 50 µs late.
pub(crate) fn sleep_on_time() {
    // SAFETY: sets a number of the calling thread's; 1 ns is the least. A refusal leaves things as they are.
    let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// How another thread of this process is looked at: its CPU time, and whether it sleeps in the kernel.
#[derive(Debug)]
pub(crate) struct ThreadClock {
    clock: libc::clockid_t,
    tid: libc::pid_t,
}

impl ThreadClock {
    /// The calling thread's. Asked after the thread has ended, it knows nothing.
    pub(crate) fn current() -> Option<Self> {
        let mut clock = 0;
        // SAFETY: takes nothing and returns the calling thread.
        let thread = unsafe { libc::pthread_self() };
        // SAFETY: `thread` is alive, it is this one; the pointer is to a clockid_t.
        let rc = unsafe { libc::pthread_getcpuclockid(thread, &raw mut clock) };
        // SAFETY: takes nothing, always succeeds.
        let tid = unsafe { libc::gettid() };
        (rc == 0).then_some(Self { clock, tid })
    }

    /// CPU time the thread has used, in nanoseconds.
    pub(crate) fn cpu_time(&self) -> Option<u64> {
        clock_time(self.clock)
    }

    /// Gives the thread a slice, as [`set_slice`] does. One that has ended keeps what it had, and a thread that has got
    /// its number since is given the slice: no more than a hint to the kernel.
    pub(crate) fn set_slice(&self, slice: Slice) {
        set_slice_of(self.tid, slice);
    }

    /// Binds the thread to a mask. It is asleep, and will not end meanwhile.
    pub(crate) fn pin(&self, mask: &Affinity) {
        // SAFETY: the pointer is to a cpu_set_t and the size is that type's. A refusal leaves the mask it has.
        let _ = unsafe { libc::sched_setaffinity(self.tid, mem::size_of::<libc::cpu_set_t>(), &mask.0) };
    }

    /// The thread's mask. Of one that has ended: none, or that of a thread that has got its number since.
    pub(crate) fn affinity(&self) -> Option<Affinity> {
        Affinity::of_thread(self.tid).ok()
    }

    /// Whether the thread sleeps in the kernel (on a lock, a pipe, a disk), as against running or waiting for
    /// a core.
    pub(crate) fn is_asleep(&self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/self/task/{}/stat", self.tid)) else {
            return false;
        };
        // The state is the first field after the name, which is in parentheses and may itself hold some.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'D']))
    }
}

/// How long the calling thread has run and waited, by the kernel's account.
#[derive(Debug)]
pub(crate) struct Schedstat(Watched);

impl Schedstat {
    /// `None` if the kernel keeps no account.
    pub(crate) fn of_this_thread() -> Option<Self> {
        let stat = Self(Watched::open("/proc/thread-self/schedstat".into()).ok()?);
        stat.read().is_some().then_some(stat)
    }

    pub(crate) fn read(&self) -> Option<RunTimes> {
        let mut buffer = [0; 96];
        let mut numbers = self.0.read(&mut buffer).ok()?.split_ascii_whitespace().map(str::parse);
        let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(RunTimes { ran, waited })
    }
}

/// For how long CPUs have been busy, by the kernel's account.
#[derive(Debug)]
pub(crate) struct BusyTime {
    stat: Watched,
    cpus: Affinity,
    /// Nanoseconds of one tick of that account.
    tick: u64,
    buffer: Vec<u8>,
}

impl BusyTime {
    /// Of these CPUs. `None` if the kernel keeps no account.
    pub(crate) fn of(cpus: Affinity) -> Option<Self> {
        let stat = Watched::open("/proc/stat".into()).ok()?;
        // SAFETY: takes a number; -1 if the system does not know.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        let tick = 1_000_000_000_u64.checked_div(u64::try_from(ticks).ok()?)?;
        // A line has some ten numbers; those of all CPUs come first, after one of their sums.
        let lines = cpus.cpus().last()? + 2;
        Some(Self { stat, cpus, tick, buffer: vec![0; lines * 160] })
    }

    /// Summed over the CPUs, in nanoseconds, and how many of them there are.
    pub(crate) fn read(&mut self) -> Option<(u64, u32)> {
        let text = self.stat.read(&mut self.buffer).ok()?;
        let (ticks, cpus) = parse::busy_ticks(text, |cpu| self.cpus.contains(cpu))?;
        Some((ticks * self.tick, cpus))
    }
}

/// How many forks lie between this process and the one that called this first. A child of `fork` has none of its
/// parent's threads but the one that forked.
pub(crate) fn forks() -> u32 {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    static WATCH: Once = Once::new();
    extern "C" fn in_child() {
        // Relaxed: the child has one thread.
        FORKS.fetch_add(1, Relaxed);
    }
    WATCH.call_once(|| {
        // SAFETY: the handler does nothing but add to an atomic, which is allowed between fork and exec.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    // Relaxed: changes only in a child, before it goes on.
    FORKS.load(Relaxed)
}
