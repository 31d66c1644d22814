//! Why a task gave no value.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::contained::Contained;
use super::{Id, Meta};
use crate::cancel::Cancelled;

/// A task or closure was cancelled, or it panicked.
///
/// ```
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// let task = beat::task::Builder::new().name("summer").spawn(async { panic!("too hot") })?;
/// let id = task.id();
/// let error = task.await.unwrap_err();
/// assert!(error.is_panic());
/// assert_eq!((error.id(), error.name()), (id, Some("summer")));
/// assert_eq!(error.into_panic().downcast_ref(), Some(&"too hot"));
///
/// let task = beat::spawn(std::future::pending::<()>());
/// task.abort();
/// let error = task.await.unwrap_err();
/// assert!(error.is_cancelled());
/// assert!(error.try_into_panic().is_err());
/// # Ok(())
/// # }
/// ```
pub struct JoinError {
    id: Id,
    /// `None` for the cancellation of a task without a name. Boxed, to be one word in every task.
    details: Option<Box<Details>>,
}

struct Details {
    name: Option<Arc<str>>,
    /// The payload of a panic; `None` for a cancellation.
    panic: Option<SyncPayload>,
}

/// A panic payload that may be shared and dropped anywhere.
struct SyncPayload(Contained<Box<dyn Any + Send>>);

// SAFETY: a shared reference to the payload gives access to nothing but `message`, which reads `&'static str`
// and `String`, both `Sync`.
unsafe impl Sync for SyncPayload {}

impl JoinError {
    pub(crate) fn cancelled(meta: &Meta) -> Self {
        Self::new(meta, None)
    }

    fn new(meta: &Meta, panic: Option<SyncPayload>) -> Self {
        let name = meta.name().cloned();
        let details = (name.is_some() || panic.is_some()).then(|| Box::new(Details { name, panic }));
        Self { id: meta.id, details }
    }

    fn panic(&self) -> Option<&SyncPayload> {
        self.details.as_ref()?.panic.as_ref()
    }

    /// From what `catch_unwind` caught: Beat's own cancellation, or the user's panic.
    pub(crate) fn from_payload(meta: &Meta, payload: Box<dyn Any + Send>) -> Self {
        let panic = (!Cancelled::is(&*payload)).then(|| SyncPayload(Contained::new(payload)));
        Self::new(meta, panic)
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic().is_some()
    }

    /// Whether the task was cancelled: aborted, or dropped by a shutdown.
    pub fn is_cancelled(&self) -> bool {
        self.panic().is_none()
    }

    /// The panic's payload, to be given to [`std::panic::resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the task was cancelled; see [`try_into_panic`](Self::try_into_panic).
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("{error}: there is no panic to take; ask `is_panic` first"),
        }
    }

    /// The panic's payload.
    ///
    /// # Errors
    ///
    /// The error itself, if the task was cancelled.
    pub fn try_into_panic(mut self) -> Result<Box<dyn Any + Send + 'static>, Self> {
        match self.details.as_mut().and_then(|details| details.panic.take()) {
            Some(payload) => Ok(payload.0.into_inner()),
            None => Err(self),
        }
    }

    /// Which task it was.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The name that the task was given by a [`task::Builder`](super::Builder).
    pub fn name(&self) -> Option<&str> {
        self.details.as_ref()?.name.as_deref()
    }

    /// The panic's message, if it is text.
    fn message(&self) -> Option<&str> {
        let payload = self.panic()?.0.get();
        let text = payload.downcast_ref::<&'static str>().copied();
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        if let Some(name) = self.name() {
            write!(f, " {name:?}")?;
        }
        match (self.panic(), self.message()) {
            (None, _) => write!(f, " was cancelled"),
            (Some(_), Some(message)) => write!(f, " panicked: {message}"),
            (Some(_), None) => write!(f, " panicked"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}

impl From<JoinError> for std::io::Error {
    fn from(error: JoinError) -> Self {
        std::io::Error::other(error)
    }
}
