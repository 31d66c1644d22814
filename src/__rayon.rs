//! What the `rayon-core` in `crates/rayon-core` needs, and nobody else: its own package is the documentation. Not for
//! other use: it changes without notice.
#![allow(missing_docs)]

use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::panic::Location;
use std::sync::Arc;
use std::thread;

use crate::cancel::Cancelled;
use crate::injectors::FirstAt;
use crate::join::join_here;
use crate::lifecycle::Alive;
use crate::local::{self, Local, Owned, Role};
use crate::os::{self, Slice};
use crate::processors::ProcessorId;
use crate::rest::{Counted, Unit};
use crate::runtime::{Builder, Handle, PoolSettings, Runtime, Starting, context, global};
use crate::scheduler::Shared;
use crate::scope::{self, Scope, ScopeFifo};
use crate::task;
use crate::user_code;
use crate::worker;

fn with_worker<R>(f: impl FnOnce(&Local) -> R) -> Option<R> {
    local::with(|local| local.filter(|local| local.is_of_pool()).map(f))
}

// ----- where the caller is -----

/// Whether the caller runs on a worker of its current runtime.
#[inline]
pub fn is_worker() -> bool {
    with_worker(|_| ()).is_some()
}

/// Whether the caller runs on a worker of this runtime.
#[inline]
pub fn is_worker_of(handle: &Handle) -> bool {
    with_worker(|local| handle.shared.owns(local)).unwrap_or(false)
}

/// The runtime of the thread, as [`Handle::try_current`].
pub fn current() -> Option<Handle> {
    Handle::try_current().ok()
}

/// How many workers the runtime has whose worker the caller is.
#[inline]
pub fn workers_here() -> Option<usize> {
    with_worker(|local| local.shared.config.workers as usize)
}

/// Whose pool the runtime is.
pub fn owner(handle: &Handle) -> Option<Arc<dyn Any + Send + Sync>> {
    handle.shared.config.pool.owner.clone()
}

/// Whether work lies about that this worker, or one that it gives way to, could begin.
pub fn has_pending() -> Option<bool> {
    with_worker(|local| {
        !local.latent().is_empty() || local.has_open_ticket() || !local.shared.closures.is_empty()
    })
}

/// Lets another thread go on with this one's processor, if there is something to do; says whether there is.
pub fn yield_now() -> Option<bool> {
    with_worker(|local| {
        let shared = &*local.shared;
        if local.is_in_turn() {
            return false;
        }
        if local.remote.role() == Role::Resident || !shared.config.pool.may_grow() {
            // There may be no other thread: what the caller asks for is that it happen here.
            let next = shared
                .addressed_to(local.seat())
                .or_else(|| shared.take_closure(FirstAt::home(local.home())));
            return next.map(|next| user_code::run_here(local, next)).is_some();
        }
        let work = shared.has_work(local) || !shared.addressed.is_empty();
        if work {
            user_code::hand_over(local);
        }
        thread::yield_now();
        if work && local.lent.get() == 0 {
            shared.processors.acquire(local.seat());
        }
        work
    })
}

/// Whether a panic's payload is a cancellation of Beat's.
pub fn is_cancellation(payload: &(dyn Any + Send)) -> bool {
    Cancelled::is(payload)
}

// ----- work -----

/// [`join`](crate::join()) on a worker, for closures of which `b` runs also if `a` panics; gives them back elsewhere.
#[inline]
pub fn join_both<A, B, RA, RB>(a: A, b: B) -> Result<(RA, RB), (A, B)>
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    // SAFETY: used within this call only; whatever `a` or `b` install steps aside before they return.
    match unsafe { local::latent() } {
        Some(latent) if latent.local().is_of_pool() => Ok(join_here::<true, _, _, _, _>(latent, a, b)),
        _ => Err((a, b)),
    }
}

/// [`Handle::install`], which for a worker of the runtime is a call, wherever it is.
pub fn install<F, R>(handle: &Handle, f: F) -> R
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    if is_worker_of(handle) { f() } else { handle.install(f) }
}

/// Spawns a closure. Nobody waits for it.
pub fn spawn<F: FnOnce() + Send + 'static>(handle: &Handle, f: F) {
    drop(task::spawn_closure(&handle.shared, user_code::placed(f), Location::caller()));
}

/// Spawns a closure that runs on processor `p`.
pub fn spawn_on<F: FnOnce() + Send + 'static>(handle: &Handle, p: usize, f: F) {
    drop(task::spawn_closure_on(&handle.shared, p as ProcessorId, user_code::placed(f), Location::caller()));
}

pub fn in_place_scope<'scope, R>(handle: &Handle, op: impl FnOnce(&Scope<'scope>) -> R) -> R {
    scope::in_place_scope_of(&handle.shared, op)
}

pub fn in_place_scope_fifo<'scope, R>(handle: &Handle, op: impl FnOnce(&ScopeFifo<'scope>) -> R) -> R {
    scope::in_place_scope_fifo_of(&handle.shared, op)
}

/// Runs `f` on each processor but `except`, with its number and how many there are.
pub fn scope_broadcast_except<'scope, F>(scope: &Scope<'scope>, except: Option<usize>, f: F)
where
    F: Fn(&Scope<'scope>, usize, usize) + Send + Sync + 'scope,
{
    scope.broadcast(except.map(|p| p as ProcessorId), f);
}

/// Runs `f` on each processor, with its number and how many there are.
pub fn scope_broadcast<'scope, F>(scope: &Scope<'scope>, f: F)
where
    F: Fn(&Scope<'scope>, usize, usize) + Send + Sync + 'scope,
{
    scope.broadcast(None, f);
}

/// Runs `f` on each processor, with its number and how many there are.
pub fn scope_fifo_broadcast<'scope, F>(scope: &ScopeFifo<'scope>, f: F)
where
    F: Fn(&ScopeFifo<'scope>, usize, usize) + Send + Sync + 'scope,
{
    scope.broadcast(None, f);
}

// ----- pools -----

/// What a runtime that stands for a pool is told besides its [`Builder`]'s settings.
#[derive(Default)]
pub struct Settings {
    /// The names of the threads that are started for each processor, where they have one.
    pub names: Vec<Option<String>>,
    pub owner: Option<Arc<dyn Any + Send + Sync>>,
    /// The caller starts the threads ([`Thread`]), and there will be no others.
    pub threads_are_given: bool,
    /// The calling thread is the one of processor 0, for good.
    pub use_current_thread: bool,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("names", &self.names).finish_non_exhaustive()
    }
}

impl From<Settings> for PoolSettings {
    fn from(settings: Settings) -> Self {
        let starting = match (settings.threads_are_given, settings.use_current_thread) {
            (true, _) => Starting::Given,
            (false, true) => Starting::AllButFirst,
            (false, false) => Starting::All,
        };
        Self { names: settings.names, owner: settings.owner, starting }
    }
}

/// Starts a runtime for a pool.
pub fn build(builder: Builder, settings: Settings) -> io::Result<Runtime> {
    let use_current_thread = settings.use_current_thread;
    let runtime = builder.pool(settings.into()).build()?;
    if use_current_thread {
        settle_here(&runtime.handle().shared);
    }
    Ok(runtime)
}

/// The same for the global runtime. `None` if there is one.
pub fn build_global(builder: Builder, settings: Settings) -> Option<io::Result<Handle>> {
    let use_current_thread = settings.use_current_thread;
    let built = global::build_first(builder.pool(settings.into()))?;
    Some(built.map(|shared| {
        if use_current_thread {
            settle_here(&shared);
        }
        Handle { shared }
    }))
}

/// The global runtime.
pub fn global() -> Option<Handle> {
    global::get().map(|shared| Handle { shared })
}

/// Makes the calling thread that of processor 0. Its state is never freed: the thread may fork at any time.
fn settle_here(shared: &Arc<Shared>) {
    let local = Box::leak(Local::new(Arc::clone(shared), Role::Resident));
    shared.processors.settle(local.seat(), 0);
    mem::forget(Counted::enter(shared.rest.as_ref(), false));
    // SAFETY: leaked, and this thread's.
    unsafe { Owned::new(&raw const *local) }.keep();
}

/// A thread of a runtime whose threads are given, before it runs.
pub struct Thread {
    alive: Option<Alive>,
    unit: Unit,
    processor: ProcessorId,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("processor", &self.processor).finish_non_exhaustive()
    }
}

impl Thread {
    /// The thread for a processor of a runtime with [`threads_are_given`](Settings::threads_are_given): once for each.
    pub fn new(handle: &Handle, processor: usize) -> Self {
        let alive = Alive::new(Arc::clone(&handle.shared));
        let unit = Unit::take(handle.shared.rest.as_ref());
        Self { alive: Some(alive), unit, processor: processor as ProcessorId }
    }

    /// The thread's loop: returns when the runtime has been shut down.
    ///
    /// # Panics
    ///
    /// If the thread is one of a pool already.
    pub fn run(mut self) {
        assert!(
            local::with_own(|own| own.is_none()),
            "a thread of a pool cannot be given to another one: start a new thread in the spawn handler"
        );
        let processor = self.processor;
        if let Some(alive) = self.alive.take() {
            let unit = mem::replace(&mut self.unit, Unit::none());
            alive.run(|shared| worker::thread_main(shared, Some(processor), unit));
        }
        // The thread goes on with other things.
        context::disown_thread();
        os::set_slice(Slice::Default);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(alive) = &self.alive {
            alive.shared().processors.undo_spawn(self.processor);
        }
    }
}
