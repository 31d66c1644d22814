//! What an admitted task holds: its place, and the bytes reserved for it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Admission, Overloaded, Reason};

/// A place among those who may run, given back when dropped; from [`Admit::permit`](super::Admit::permit).
///
/// The spawning functions keep it with the task. On its own it admits what is no task: a connection, an item of a
/// stream.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let permit = beat::admit().memory(1 << 20).permit().await;
/// assert_eq!(permit.reservation().bytes(), 1 << 20);
/// // Here a connection is served, say.
/// drop(permit);
/// # }
/// ```
#[must_use = "the place is given back when the permit is dropped"]
pub struct Permit {
    /// `None` for those who came through the open gate.
    held: Option<Arc<Held>>,
}

struct Held {
    admission: Arc<Admission>,
    /// `None` once it has been given back.
    bytes: Mutex<Option<u64>>,
    site: usize,
}

impl Held {
    fn bytes(&self) -> MutexGuard<'_, Option<u64>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Through the open gate: nothing is counted.
    pub(crate) fn free() -> Self {
        Self { held: None }
    }

    /// The queue has reserved `bytes` for a task of `site`.
    pub(crate) fn counted(admission: &Arc<Admission>, bytes: u64, site: usize) -> Self {
        admission.sites().begin(site);
        let held = Held { admission: Arc::clone(admission), bytes: Mutex::new(Some(bytes)), site };
        Self { held: Some(Arc::new(held)) }
    }

    /// How many bytes are reserved; changing it is up to the task.
    pub fn reservation(&self) -> Reservation {
        Reservation { held: self.held.clone() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let Some(bytes) = held.bytes().take() else { return };
        held.admission.sites().end(held.site);
        held.admission.queue.release(bytes).wake();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("bytes", &self.reservation().bytes()).finish()
    }
}

/// The bytes reserved for an admitted task, which it can correct as it learns more.
///
/// A reservation counts against the headroom until its task has ended, whether the memory has been allocated or not. A
/// task that holds what it needs, and whose usage hence speaks for itself, may [`shrink`](Self::shrink) it.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let permit = beat::admit().memory(4096).permit().await;
/// let memory = permit.reservation();
/// memory.grow(4096);
/// memory.shrink(1024);
/// assert_eq!(memory.bytes(), 7168);
/// if memory.try_grow(1024).is_err() {
///     println!("going on with what there is");
/// }
/// drop(permit);
/// assert_eq!(memory.bytes(), 0);
/// # }
/// ```
#[derive(Clone)]
pub struct Reservation {
    held: Option<Arc<Held>>,
}

impl Reservation {
    /// How many bytes are reserved; 0 after the task's end.
    pub fn bytes(&self) -> u64 {
        self.held.as_ref().and_then(|held| *held.bytes()).unwrap_or(0)
    }

    /// Reserves more. It is never refused: what has been admitted may finish.
    pub fn grow(&self, by: u64) {
        self.set(|bytes| bytes.saturating_add(by));
    }

    /// Reserves more if there is room and nobody waits for it.
    ///
    /// # Errors
    ///
    /// There is not; nothing has changed.
    pub fn try_grow(&self, by: u64) -> Result<(), Overloaded> {
        let Some(held) = &self.held else { return Ok(()) };
        let mut bytes = held.bytes();
        let Some(before) = *bytes else { return Ok(()) };
        let Some(after) = before.checked_add(by).filter(|_| held.admission.queue.try_grow(by)) else {
            return Err(held.admission.overloaded((), Reason::Room));
        };
        *bytes = Some(after);
        Ok(())
    }

    /// Gives some back; at most all of it.
    pub fn shrink(&self, by: u64) {
        self.set(|bytes| bytes.saturating_sub(by));
    }

    fn set(&self, to: impl FnOnce(u64) -> u64) {
        let Some(held) = &self.held else { return };
        let mut bytes = held.bytes();
        let Some(before) = *bytes else { return };
        let after = to(before);
        *bytes = Some(after);
        let woken = held.admission.queue.resize(before, after);
        drop(bytes);
        woken.wake();
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("bytes", &self.bytes()).finish()
    }
}
