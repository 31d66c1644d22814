//! The caller's `tracing` span goes with its work (feature `tracing`).
//!
//! The span that is current where work is handed on is current in that work, on whatever thread it runs:
//!
//! - in the halves of [`join`](crate::join()) and of loops, when they are stolen;
//! - in the jobs of a [`scope`](crate::scope()), in `install` and in `broadcast`;
//! - in closures and tasks, from their spawn on, around each poll. (tokio's tasks have to be instrumented for that.)
//!
//! So has its subscriber, if that is another than the thread's default. Until the work has ended the span stays open.
//!
//! ```
//! # use tracing_subscriber::prelude::*;
//! let forks = beat::tracing::Forks::new();
//! tracing_subscriber::registry().with(forks).init();
//!
//! let runtime = beat::Runtime::builder().worker_threads(2).build()?;
//! let span = tracing::info_span!("request", number = 7);
//! let closure = span.in_scope(|| runtime.spawn_blocking_parallel(|| tracing::Span::current()));
//! assert_eq!(closure.join()?, span);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//!
//! A look at the current span for each task, closure, scope's job and loop. A `join` that nobody steals costs nothing:
//! its span is looked up when its second half is put on offer. By then the first half may be deep in spans of its own.
//! The layer [`Forks`] tells Beat what was entered when, and the half gets exactly the span in which it was forked.
//! Without the layer it gets the one that is current at that moment: the same, unless spans are entered between
//! one fork and the forks inside it (as in a recursion that is instrumented). The loops of `beat::iter` are exact in
//! either case.
//!
//! # What is not carried
//!
//! tokio's task-locals: nobody but the thread itself can read them. [`beat::task_local!`](crate::task_local!) has some
//! that stolen halves see.
//!
//! A task that goes on for long, and is of no interest to the request that happened to start it, would keep the span
//! of that request open. Spawn it where there is no subscriber:
//!
//! ```
//! use tracing::subscriber::{NoSubscriber, with_default};
//!
//! # let runtime = beat::Runtime::builder().worker_threads(1).build()?;
//! let background = with_default(NoSubscriber::default(), || runtime.spawn(async { "cleans up" }));
//! # background.join().unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```

use tracing_core::Subscriber;
use tracing_core::span::Id;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::carried;

/// A layer that tells Beat which spans threads enter, so that a stolen half of a `join` has exactly the span in which
/// it was forked; see the [module](self). Costs some nanoseconds for each span that is entered.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry().with(beat::tracing::Forks::new()).init();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Forks(());

impl Forks {
    /// The layer. It has no state of its own.
    ///
    /// ```
    /// let forks = beat::tracing::Forks::new();
    /// # let _ = forks;
    /// ```
    pub fn new() -> Self {
        Self(())
    }
}

impl<S: Subscriber> Layer<S> for Forks {
    fn on_enter(&self, id: &Id, _cx: Context<'_, S>) {
        carried::entered_span(id);
    }

    fn on_exit(&self, id: &Id, _cx: Context<'_, S>) {
        carried::exited_span(id);
    }
}
