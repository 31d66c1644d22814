//! tokio as the parking place: one current-thread runtime, and whoever parks does so in its `block_on`.
//!
//! Every thread of Beat has the runtime's handle entered, so `tokio::net`, `tokio::time` and all that is built
//! on them find "their" runtime. The thread that holds the token turns its epoll and timers; a readiness event
//! calls the waker of a Beat task right there, which puts the task on that thread's own queue and notifies the
//! thread's parker, so that it leaves `block_on` and runs the task on a clean stack.
//!
//! *Park.* 1. the owner publishes `DRIVER` in its parker; 2. inside `block_on` a small future registers its
//! waker and 3. looks whether the parker is notified. *Nudge.* 1. the caller has swapped `NOTIFIED` into the
//! parker; 2. wakes the registered waker. Either step 3 sees the notification or step 2 finds the waker.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

use super::coop;
use super::escaped::Escaped;
#[cfg(feature = "test-util")]
use super::paused::Keeper;
use super::{Driver, Entered, Foreign};
use crate::parker::Parker;
use crate::rest::Rest;
use crate::scheduler::Config;
use crate::worker::run_hook;

/// Nanoseconds from one to the next time at which timers fall due.
const EDGES: u32 = 1_000_000;
/// By then they have.
const BEHIND_EDGE: Duration = Duration::from_micros(20);

pub(crate) struct TokioDriver {
    /// `None` after shutdown. Only the token holder enters, so the lock is uncontended; it is held for a turn.
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    waker: Arc<AtomicWaker>,
    /// When its clock began, or a little later.
    began: Instant,
    escaped: Arc<Escaped>,
    /// Of a clock that can be paused.
    #[cfg(feature = "test-util")]
    keeper: Option<Keeper>,
}

/// What a user may set of tokio's own runtime alone.
pub(crate) struct Settings {
    /// Whether the clock begins paused. Needs the feature `test-util`.
    pub(crate) start_paused: bool,
    /// How long an idle thread for tokio's own blocking calls waits for the next one, if not tokio's 10 s.
    pub(crate) keep_alive: Option<Duration>,
    /// Whether tasks that are given to tokio's own runtime are worth a word.
    pub(crate) warnings: bool,
}

impl TokioDriver {
    /// The threads that tokio makes for its own blocking calls are made as those of Beat's blocking pool.
    ///
    /// # Errors
    ///
    /// Those of tokio: the system has no descriptor left for epoll, say.
    pub(crate) fn new(config: &Config, settings: Settings) -> std::io::Result<Self> {
        // A paused clock is held by a closure in tokio's pool, which must not take a thread from the user's.
        let most = config.max_blocking_threads.saturating_add(usize::from(settings.start_paused));
        let mut builder = Builder::new_current_thread();
        let (name, hooks) = (config.thread_name.clone(), config.hooks.clone());
        let (gathered, on_thread_stop) = (Arc::clone(&config.gathered), hooks.on_thread_stop.clone());
        builder
            .enable_all()
            .max_blocking_threads(most)
            .thread_name_fn(move || name.of("tokio-blocking"))
            .on_thread_start(move || {
                // As for the blocking pool.
                gathered.leave();
                run_hook(hooks.on_thread_start.as_ref());
            })
            .on_thread_stop(move || run_hook(on_thread_stop.as_ref()));
        if let Some(time) = settings.keep_alive {
            builder.thread_keep_alive(time);
        }
        if let Some(bytes) = config.stack_size {
            builder.thread_stack_size(bytes);
        }
        #[cfg(feature = "test-util")]
        builder.start_paused(settings.start_paused);
        let escaped = Arc::new(Escaped::new(config.heartbeat, settings.warnings));
        // Weak: what `escaped` watches holds tokio's handle, and that these hooks.
        let (parks, unparks) = (Arc::downgrade(&escaped), Arc::downgrade(&escaped));
        // Between the two it waits for events.
        builder
            .on_thread_park(move || parks.upgrade().iter().for_each(|escaped| escaped.end_stretch()))
            .on_thread_unpark(move || unparks.upgrade().iter().for_each(|escaped| escaped.begin_stretch()));
        let runtime = builder.build()?;
        let began = Instant::now();
        let handle = runtime.handle().clone();
        escaped.watch(handle.metrics());
        let waker = Arc::new(AtomicWaker::new());
        Ok(Self {
            handle,
            began,
            escaped,
            runtime: Mutex::new(Some(runtime)),
            #[cfg(feature = "test-util")]
            keeper: settings.start_paused.then(|| Keeper::new(Arc::clone(&waker))),
            waker,
        })
    }

    fn block_on(&self, future: impl Future<Output = ()>) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            let _stretch = Stretch::begin(&self.escaped);
            runtime.block_on(future);
        }
    }
}

impl fmt::Debug for TokioDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioDriver").finish_non_exhaustive()
    }
}

impl Driver for TokioDriver {
    fn has_events(&self) -> bool {
        true
    }

    fn park(&self, parker: &Parker) {
        #[cfg(feature = "test-util")]
        if let Some(keeper) = &self.keeper {
            keeper.park(parker, &self.handle, &self.waker, |poll| self.block_on(poll_fn(poll)));
            return;
        }
        self.block_on(poll_fn(|cx| {
            self.waker.register(cx.waker());
            if parker.is_notified() { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    fn nudge(&self) {
        self.waker.wake();
    }

    fn until_edge(&self) -> Option<Duration> {
        let into = self.began.elapsed().subsec_nanos() % EDGES;
        let until = Duration::from_nanos(u64::from(EDGES - into));
        // Not on a clock that can be paused, whose time is not the system's.
        self.rest().is_none().then_some(until + BEHIND_EDGE)
    }

    fn turn(&self) {
        self.block_on(tokio::task::yield_now());
    }

    fn enter(&self) -> Entered {
        if coop::is_too_late() {
            // A destructor at the end of a thread: there is nowhere to enter it any more.
            return None;
        }
        let handle = Box::new(self.handle.clone());
        let guard = handle.enter();
        // SAFETY: only the lifetime changes. The guard borrows the boxed handle, which stands still on the heap
        // and is dropped after the guard: fields drop in the order they are declared.
        let guard = unsafe { mem::transmute::<EnterGuard<'_>, EnterGuard<'static>>(guard) };
        Some(Box::new(EnteredTokio { _guard: guard, _handle: handle }))
    }

    fn foreign_tasks(&self) -> Foreign {
        self.escaped.counts()
    }

    fn rest(&self) -> Option<Arc<Rest>> {
        #[cfg(feature = "test-util")]
        return self.keeper.as_ref().map(|keeper| Arc::clone(keeper.rest()));
        #[cfg(not(feature = "test-util"))]
        None
    }

    fn shutdown(&self, timeout: Option<Duration>) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (runtime, timeout) {
            (None, _) => {}
            (Some(runtime), Some(timeout)) => runtime.shutdown_timeout(timeout),
            // A plain drop waits for blocking calls that have begun, which tokio forbids inside a task.
            (Some(runtime), None) if Handle::try_current().is_ok() => runtime.shutdown_background(),
            (Some(runtime), None) => drop(runtime),
        }
    }
}

impl Drop for TokioDriver {
    /// Wherever the last reference goes, also inside a task: tokio must not wait there.
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A time inside tokio, also if it unwinds.
struct Stretch<'a>(&'a Escaped);

impl<'a> Stretch<'a> {
    fn begin(escaped: &'a Escaped) -> Self {
        escaped.begin_stretch();
        Self(escaped)
    }
}

impl Drop for Stretch<'_> {
    fn drop(&mut self) {
        self.0.end_stretch();
    }
}

struct EnteredTokio {
    _guard: EnterGuard<'static>,
    _handle: Box<Handle>,
}
