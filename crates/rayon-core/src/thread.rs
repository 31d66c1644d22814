//! Threads that a pool is given.

use std::fmt;
use std::io;

use beat::__rayon::Thread;

/// A thread of a pool, before it runs; see
/// [`ThreadPoolBuilder::spawn_handler`](crate::ThreadPoolBuilder::spawn_handler).
pub struct ThreadBuilder {
    pub(crate) name: Option<String>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) index: usize,
    pub(crate) thread: Thread,
}

impl ThreadBuilder {
    /// The index of the thread, below the number of threads.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The name that [`thread_name`](crate::ThreadPoolBuilder::thread_name) gave.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What [`stack_size`](crate::ThreadPoolBuilder::stack_size) asked for, in bytes.
    pub fn stack_size(&self) -> Option<usize> {
        self.stack_size
    }

    /// Runs the pool's jobs on this thread. Returns when the pool has been dropped.
    ///
    /// # Panics
    ///
    /// If the thread belongs to a pool already.
    pub fn run(self) {
        self.thread.run();
    }
}

impl fmt::Debug for ThreadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadBuilder")
            .field("index", &self.index)
            .field("name", &self.name)
            .field("stack_size", &self.stack_size)
            .finish_non_exhaustive()
    }
}

/// Where the threads of a pool come from. Cannot be named outside, as in rayon.
pub trait ThreadSpawn: sealed::Sealed {
    /// Starts a thread; `None` if the pool does that itself.
    #[doc(hidden)]
    fn handler(&mut self) -> Option<&mut dyn FnMut(ThreadBuilder) -> io::Result<()>>;
}

mod sealed {
    /// Only the two below.
    pub trait Sealed {}
}

/// The pool starts its threads itself.
#[derive(Debug, Default)]
pub struct DefaultSpawn;

/// A closure starts them.
#[derive(Debug)]
pub struct CustomSpawn<F>(pub(crate) F);

impl sealed::Sealed for DefaultSpawn {}
impl ThreadSpawn for DefaultSpawn {
    fn handler(&mut self) -> Option<&mut dyn FnMut(ThreadBuilder) -> io::Result<()>> {
        None
    }
}

impl<F> sealed::Sealed for CustomSpawn<F> {}
impl<F: FnMut(ThreadBuilder) -> io::Result<()>> ThreadSpawn for CustomSpawn<F> {
    fn handler(&mut self) -> Option<&mut dyn FnMut(ThreadBuilder) -> io::Result<()>> {
        Some(&mut self.0)
    }
}
