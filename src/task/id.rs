//! Numbers that tell tasks apart, for as long as the process lives.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The number of a task or closure, unique in the process.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let (one, other) = (beat::spawn(async {}), beat::spawn(async {}));
/// assert_ne!(one.id(), other.id());
/// println!("task {} and task {}", one.id(), other.id());
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(NonZeroU64);

/// A thread takes this many numbers at once, so that spawning touches no shared line.
const BLOCK: u64 = 1024;

impl Id {
    pub(crate) fn next() -> Self {
        static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            /// How many numbers of the thread's block are used, and where the block starts.
            static LOCAL: Cell<(u64, u64)> = const { Cell::new((BLOCK, 0)) };
        }
        let (mut used, mut start) = LOCAL.get();
        if used == BLOCK {
            // Relaxed: only uniqueness matters.
            start = NEXT_BLOCK.fetch_add(1, Relaxed) * BLOCK;
            used = 0;
        }
        LOCAL.set((used + 1, start));
        Self(NonZeroU64::MIN.saturating_add(start + used))
    }
}

impl Id {
    pub(crate) fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of the task or closure whose code calls this.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let task = beat::spawn(async { beat::task::id() });
/// let id = task.id();
/// assert_eq!(task.await.unwrap(), id);
/// # }
/// ```
///
/// # Panics
///
/// Outside a task or closure.
#[track_caller]
pub fn id() -> Id {
    try_id().expect("no task is current: call `beat::task::id` inside a task or closure of Beat")
}

/// The id of the task or closure whose code calls this, if there is one.
///
/// ```
/// assert_eq!(beat::task::try_id(), None); // outside any task
/// ```
pub fn try_id() -> Option<Id> {
    super::with_current(|meta| meta.map(|meta| meta.id))
}

/// The name of the task or closure whose code calls this, if a [`task::Builder`](super::Builder) gave it one.
///
/// ```
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// let task = beat::task::Builder::new().name("crawler").spawn(async { beat::task::name() })?;
/// assert_eq!(task.await?.as_deref(), Some("crawler"));
/// # Ok(())
/// # }
/// ```
pub fn name() -> Option<Arc<str>> {
    super::with_current(|meta| meta.and_then(|meta| meta.name().cloned()))
}
