//! How a pool is configured.

use std::any::Any;
use std::cell::Cell;
use std::env;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use beat::__rayon::{self, Settings, Thread};
use beat::{DriverKind, Handle, Runtime};

use crate::error::ErrorKind;
use crate::pool::{Owner, PanicHandler, Use};
use crate::thread::{CustomSpawn, DefaultSpawn, ThreadBuilder, ThreadSpawn};
use crate::{ThreadPool, ThreadPoolBuildError, max_num_threads};

type ThreadHandler = dyn Fn(usize) + Send + Sync;

/// Configures a [`ThreadPool`], or the global one.
///
/// ```
/// let pool = rayon_core::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
/// assert_eq!(pool.current_num_threads(), 4);
/// ```
pub struct ThreadPoolBuilder<S = DefaultSpawn> {
    num_threads: usize,
    use_current_thread: bool,
    panic_handler: Option<Box<PanicHandler>>,
    thread_name: Option<Box<dyn FnMut(usize) -> String>>,
    stack_size: Option<usize>,
    start_handler: Option<Box<ThreadHandler>>,
    exit_handler: Option<Box<ThreadHandler>>,
    spawn_handler: S,
}

impl Default for ThreadPoolBuilder {
    fn default() -> Self {
        Self {
            num_threads: 0,
            use_current_thread: false,
            panic_handler: None,
            thread_name: None,
            stack_size: None,
            start_handler: None,
            exit_handler: None,
            spawn_handler: DefaultSpawn,
        }
    }
}

/// What rayon's environment variables say, if anything.
pub(crate) fn workers_by_default() -> Option<usize> {
    let read = |name| env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    match read("RAYON_NUM_THREADS") {
        Some(0) => None,
        Some(n) => Some(n),
        // The name of old.
        None => read("RAYON_RS_NUM_CPUS").filter(|&n| n > 0),
    }
}

/// The part of a configuration that the threads of the pool use.
struct Handlers {
    start: Option<Box<ThreadHandler>>,
    exit: Option<Box<ThreadHandler>>,
    owner: Arc<Owner>,
}

thread_local! {
    /// The index with which this thread was started.
    static STARTED: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Handlers {
    fn on_start(&self) {
        // Threads of the runtime that never run jobs have no number.
        let index = beat::current_thread_index();
        STARTED.set(index);
        self.call(self.start.as_deref(), index);
    }

    fn on_exit(&self) {
        self.call(self.exit.as_deref(), STARTED.take());
    }

    fn call(&self, handler: Option<&ThreadHandler>, index: Option<usize>) {
        if let (Some(handler), Some(index)) = (handler, index)
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| handler(index)))
        {
            Owner::panicked(Some(&self.owner), payload);
        }
    }
}

impl ThreadPoolBuilder {
    /// The default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a pool of scoped threads, each of which runs `wrapper`, and calls `with_pool` with it.
    ///
    /// `wrapper` is expected to call [`ThreadBuilder::run`]. See [`spawn_handler`](Self::spawn_handler).
    ///
    /// ```
    /// let answer = rayon_core::ThreadPoolBuilder::new()
    ///     .num_threads(2)
    ///     .build_scoped(|thread| thread.run(), |pool| pool.install(|| 42));
    /// assert_eq!(answer.unwrap(), 42);
    /// ```
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_scoped<W, F, R>(self, wrapper: W, with_pool: F) -> Result<R, ThreadPoolBuildError>
    where
        W: Fn(ThreadBuilder) + Sync,
        F: FnOnce(&ThreadPool) -> R,
    {
        let wrapper = &wrapper;
        thread::scope(|scope| {
            let pool = self
                .spawn_handler(|thread| {
                    native(&thread).spawn_scoped(scope, move || wrapper(thread))?;
                    Ok(())
                })
                .build()?;
            Ok(with_pool(&pool))
        })
    }
}

/// A thread of the system's with the name and the stack that were asked for.
fn native(thread: &ThreadBuilder) -> thread::Builder {
    let mut builder = thread::Builder::new();
    if let Some(name) = thread.name() {
        builder = builder.name(name.to_owned());
    }
    if let Some(size) = thread.stack_size() {
        builder = builder.stack_size(size);
    }
    builder
}

impl<S: ThreadSpawn> ThreadPoolBuilder<S> {
    /// Makes a pool.
    ///
    /// # Errors
    ///
    /// The system refused a thread, or the calling thread is to be part of the pool and is part of another.
    pub fn build(self) -> Result<ThreadPool, ThreadPoolBuildError> {
        let (handle, alive) = self.start(|builder, settings, owner| {
            let runtime = __rayon::build(builder.driver(DriverKind::Plain), settings)?;
            let handle = runtime.handle().clone();
            owner.set_runtime(runtime);
            Ok(handle)
        })?;
        Ok(ThreadPool { handle, _alive: alive })
    }

    /// Makes the global pool, which is also Beat's global runtime.
    ///
    /// # Errors
    ///
    /// There is one already: it was made before or was needed before, or the program has a `#[beat::main]`. Otherwise
    /// as [`build`](Self::build).
    pub fn build_global(self) -> Result<(), ThreadPoolBuildError> {
        let (_, alive) = self.start(|builder, settings, _| {
            let built = __rayon::build_global(builder, settings);
            Ok(built.ok_or(ErrorKind::GlobalPoolAlreadyInitialized)??)
        })?;
        // It lives as long as the process.
        std::mem::forget(alive);
        Ok(())
    }

    fn start(
        mut self,
        build: impl FnOnce(beat::Builder, Settings, &Owner) -> Result<Handle, ThreadPoolBuildError>,
    ) -> Result<(Handle, Use), ThreadPoolBuildError> {
        if self.use_current_thread && __rayon::is_worker() {
            return Err(ErrorKind::CurrentThreadAlreadyInPool.into());
        }
        let threads = self.get_num_threads();
        let owner = Owner::new(self.panic_handler.take());
        let names = self.names(threads);
        let settings = Settings {
            names: names.clone(),
            owner: Some(Arc::clone(&owner) as Arc<dyn Any + Send + Sync>),
            threads_are_given: self.spawn_handler.handler().is_some(),
            use_current_thread: self.use_current_thread,
        };
        // The first use: an early return ends the runtime.
        let alive = Use::new(Some(Arc::clone(&owner)));
        let builder = self.runtime(threads, &owner);
        let handle = build(builder, settings, &owner)?;
        let first = usize::from(self.use_current_thread);
        if let Some(spawn) = self.spawn_handler.handler() {
            for (index, name) in names.into_iter().enumerate().skip(first) {
                let thread = Thread::new(&handle, index);
                spawn(ThreadBuilder { name, stack_size: self.stack_size, index, thread })?;
            }
        }
        Ok((handle, alive))
    }

    fn names(&mut self, threads: usize) -> Vec<Option<String>> {
        (0..threads).map(|index| self.thread_name.as_mut().map(|name| name(index))).collect()
    }

    fn runtime(&mut self, threads: usize, owner: &Arc<Owner>) -> beat::Builder {
        let mut builder = Runtime::builder().worker_threads(threads).thread_name("rayon");
        if let Some(size) = self.stack_size {
            builder = builder.thread_stack_size(size);
        }
        let (start, exit) = (self.start_handler.take(), self.exit_handler.take());
        if start.is_some() || exit.is_some() {
            let handlers = Arc::new(Handlers { start, exit, owner: Arc::clone(owner) });
            let also = Arc::clone(&handlers);
            builder =
                builder.on_thread_start(move || handlers.on_start()).on_thread_stop(move || also.on_exit());
        }
        builder
    }
}

impl<S> ThreadPoolBuilder<S> {
    fn get_num_threads(&self) -> usize {
        let by_default =
            || workers_by_default().unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let asked = if self.num_threads > 0 { self.num_threads } else { by_default() };
        asked.min(max_num_threads())
    }

    /// Starts the pool's threads by `spawn`, which has to call [`ThreadBuilder::run`] on a new thread each time.
    ///
    /// The pool has these threads and no others: nobody goes on in place of one that waits. They end when the pool has
    /// been dropped; who needs that must wait for it.
    ///
    /// ```
    /// let pool = rayon_core::ThreadPoolBuilder::new()
    ///     .num_threads(2)
    ///     .spawn_handler(|thread| {
    ///         std::thread::spawn(|| thread.run());
    ///         Ok(())
    ///     })
    ///     .build()
    ///     .unwrap();
    /// assert_eq!(pool.install(|| 42), 42);
    /// ```
    pub fn spawn_handler<F>(self, spawn: F) -> ThreadPoolBuilder<CustomSpawn<F>>
    where
        F: FnMut(ThreadBuilder) -> io::Result<()>,
    {
        ThreadPoolBuilder {
            num_threads: self.num_threads,
            use_current_thread: self.use_current_thread,
            panic_handler: self.panic_handler,
            thread_name: self.thread_name,
            stack_size: self.stack_size,
            start_handler: self.start_handler,
            exit_handler: self.exit_handler,
            spawn_handler: CustomSpawn(spawn),
        }
    }

    /// The names of the threads, by their index. A thread that goes on in place of one that waits has the name of the
    /// index that it is started with.
    pub fn thread_name<F>(mut self, closure: F) -> Self
    where
        F: FnMut(usize) -> String + 'static,
    {
        self.thread_name = Some(Box::new(closure));
        self
    }

    /// How many threads run jobs at a time. Zero, as by default: what `RAYON_NUM_THREADS` says, else as many as the
    /// process has CPUs.
    pub fn num_threads(mut self, num_threads: usize) -> Self {
        self.num_threads = num_threads;
        self
    }

    /// Makes the calling thread the one with index 0.
    ///
    /// It runs jobs only while it is inside [`join`](crate::join()), [`scope`](crate::scope()) or
    /// [`yield_now`](crate::yield_now()), keeps its index for good, and the runtime's memory is never freed.
    pub fn use_current_thread(mut self) -> Self {
        self.use_current_thread = true;
        self
    }

    /// Is called with the panics of jobs that nobody waits for, and of the thread handlers. Without one, and if it
    /// panics itself, the process is aborted.
    pub fn panic_handler<H>(mut self, panic_handler: H) -> Self
    where
        H: Fn(Box<dyn Any + Send>) + Send + Sync + 'static,
    {
        self.panic_handler = Some(Box::new(panic_handler));
        self
    }

    /// The stack size of the threads, in bytes.
    pub fn stack_size(mut self, stack_size: usize) -> Self {
        self.stack_size = Some(stack_size);
        self
    }

    /// Has no effect, as rayon allows: which job comes first is up to the scheduler.
    #[deprecated(note = "use `scope_fifo` and `spawn_fifo` for similar effect")]
    pub fn breadth_first(self) -> Self {
        self
    }

    /// Is called on each thread when it starts, with its index; also on one that goes on in place of one that waits,
    /// with the index that it is started with.
    pub fn start_handler<H>(mut self, start_handler: H) -> Self
    where
        H: Fn(usize) + Send + Sync + 'static,
    {
        self.start_handler = Some(Box::new(start_handler));
        self
    }

    /// Is called on each thread when it ends, with the index that it was started with.
    pub fn exit_handler<H>(mut self, exit_handler: H) -> Self
    where
        H: Fn(usize) + Send + Sync + 'static,
    {
        self.exit_handler = Some(Box::new(exit_handler));
        self
    }
}

impl<S> fmt::Debug for ThreadPoolBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("num_threads", &self.num_threads)
            .field("use_current_thread", &self.use_current_thread)
            .field("stack_size", &self.stack_size)
            .finish_non_exhaustive()
    }
}
