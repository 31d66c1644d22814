//! Why a task gave no value.

use std::any::Any;
use std::fmt;

use super::Id;
use super::contained::Contained;
use crate::cancel::Cancelled;

/// A task or closure was cancelled, or it panicked.
pub struct JoinError {
    id: Id,
    /// The payload of a panic; `None` for a cancellation.
    panic: Option<Payload>,
}

/// A panic payload that may be shared and dropped anywhere. Boxed twice, to be one word in every task.
type Payload = Box<SyncPayload>;

struct SyncPayload(Contained<Box<dyn Any + Send>>);

// SAFETY: a shared reference to the payload gives access to nothing but `message`, which reads `&'static str`
// and `String`, both `Sync`.
unsafe impl Sync for SyncPayload {}

impl JoinError {
    pub(crate) fn cancelled(id: Id) -> Self {
        Self { id, panic: None }
    }

    /// From what `catch_unwind` caught: Beat's own cancellation, or the user's panic.
    pub(crate) fn from_payload(id: Id, payload: Box<dyn Any + Send>) -> Self {
        let panic = (!Cancelled::is(&*payload)).then(|| Box::new(SyncPayload(Contained::new(payload))));
        Self { id, panic }
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// Whether the task was cancelled: aborted, or dropped by a shutdown.
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
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
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, Self> {
        match self.panic {
            Some(payload) => Ok(payload.0.into_inner()),
            None => Err(self),
        }
    }

    /// Which task it was.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The panic's message, if it is text.
    fn message(&self) -> Option<&str> {
        let payload = self.panic.as_ref()?.0.get();
        let text = payload.downcast_ref::<&'static str>().copied();
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.panic, self.message()) {
            (None, _) => write!(f, "task {} was cancelled", self.id),
            (Some(_), Some(message)) => write!(f, "task {} panicked: {message}", self.id),
            (Some(_), None) => write!(f, "task {} panicked", self.id),
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
