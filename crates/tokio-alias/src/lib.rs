//! tokio with Beat's tasks, sets of tasks, runtimes and macros in the place of its own.
//!
//! Its signatures are tokio's, so that tokio's released tests, built against this by `scripts/tokio-tests`, say where
//! Beat's are not. I/O, timers, `sync` and the macros for futures are tokio's.

pub use real::*;

pub use beat::{main, spawn, test};

// What the macros expand to with `crate = "…"`.
#[doc(hidden)]
pub use beat::{__private, Runtime};

pub mod task {
    //! `tokio::task`.

    pub use real::task::*;

    pub use beat::task::{
        AbortHandle, Builder, Id, JoinError, JoinHandle, JoinSet, LocalEnterGuard, LocalSet, Unconstrained,
        block_in_place, consume_budget, id, join_set, spawn, spawn_blocking, spawn_local, try_id,
        unconstrained, yield_now,
    };
}

pub mod runtime {
    //! `tokio::runtime`.

    pub use beat::{EnterGuard, Handle, NoCurrentRuntime as TryCurrentError, Runtime};

    pub use real::runtime::is_rt_shutdown_err;

    use std::io;
    use std::time::Duration;

    /// Beat's builder under the names and with the receivers of tokio's.
    #[derive(Debug)]
    pub struct Builder(beat::Builder);

    impl Builder {
        pub fn new_current_thread() -> Self {
            Self(beat::Runtime::builder().worker_threads(1))
        }

        pub fn new_multi_thread() -> Self {
            Self(beat::Runtime::builder())
        }

        /// Beat's I/O and timers are always on.
        pub fn enable_all(&mut self) -> &mut Self {
            self
        }

        pub fn enable_io(&mut self) -> &mut Self {
            self
        }

        pub fn enable_time(&mut self) -> &mut Self {
            self
        }

        pub fn worker_threads(&mut self, workers: usize) -> &mut Self {
            self.set(|builder| builder.worker_threads(workers))
        }

        pub fn max_blocking_threads(&mut self, threads: usize) -> &mut Self {
            self.set(|builder| builder.max_blocking_threads(threads))
        }

        pub fn thread_keep_alive(&mut self, time: Duration) -> &mut Self {
            self.set(|builder| builder.thread_keep_alive(time))
        }

        pub fn thread_name(&mut self, name: impl Into<String>) -> &mut Self {
            self.set(|builder| builder.thread_name(name))
        }

        pub fn thread_name_fn(&mut self, name: impl Fn() -> String + Send + Sync + 'static) -> &mut Self {
            self.set(|builder| builder.thread_name_fn(name))
        }

        pub fn thread_stack_size(&mut self, bytes: usize) -> &mut Self {
            self.set(|builder| builder.thread_stack_size(bytes))
        }

        pub fn on_thread_start(&mut self, hook: impl Fn() + Send + Sync + 'static) -> &mut Self {
            self.set(|builder| builder.on_thread_start(hook))
        }

        pub fn on_thread_stop(&mut self, hook: impl Fn() + Send + Sync + 'static) -> &mut Self {
            self.set(|builder| builder.on_thread_stop(hook))
        }

        pub fn on_thread_park(&mut self, hook: impl Fn() + Send + Sync + 'static) -> &mut Self {
            self.set(|builder| builder.on_thread_park(hook))
        }

        pub fn on_thread_unpark(&mut self, hook: impl Fn() + Send + Sync + 'static) -> &mut Self {
            self.set(|builder| builder.on_thread_unpark(hook))
        }

        pub fn start_paused(&mut self, paused: bool) -> &mut Self {
            self.set(|builder| builder.start_paused(paused))
        }

        pub fn build(&mut self) -> io::Result<Runtime> {
            self.0.clone().build()
        }

        fn set(&mut self, change: impl FnOnce(beat::Builder) -> beat::Builder) -> &mut Self {
            self.0 = change(self.0.clone());
            self
        }
    }
}
