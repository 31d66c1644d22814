//! Values of a task that its stolen halves see (feature `tracing`).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use pin_project::{pin_project, pinned_drop};

use crate::carried::values::{self, Key};

/// Declares task-locals whose values stolen work sees too.
///
/// As `tokio::task_local!`, with one difference: what the caller forks (halves of [`join`](crate::join()) and of loops,
/// jobs of a [`scope`](crate::scope()), `install`) has the caller's values, on whatever thread it runs. So they are shared, and
/// must be `Send + Sync`. What is spawned inherits nothing, as in tokio. See [`task::LocalKey`](LocalKey).
///
/// ```
/// use std::sync::Arc;
///
/// beat::task_local! {
///     /// Who asks.
///     static USER: Arc<str>;
///     static ATTEMPT: u32;
/// }
///
/// #[beat::main]
/// async fn main() {
///     let name = USER.scope("ada".into(), async {
///         let (a, b) = beat::join(|| USER.get(), || USER.get());
///         assert_eq!(a, b);
///         a
///     });
///     assert_eq!(&*name.await, "ada");
///     assert!(ATTEMPT.try_get().is_err());
/// }
/// ```
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$attribute:meta])* $vis:vis static $name:ident: $type:ty; $($rest:tt)*) => {
        $(#[$attribute])*
        $vis static $name: $crate::task::LocalKey<$type> = $crate::task::LocalKey::__new();
        $crate::task_local!($($rest)*);
    };
    ($(#[$attribute:meta])* $vis:vis static $name:ident: $type:ty) => {
        $crate::task_local!($(#[$attribute])* $vis static $name: $type;);
    };
}

/// A task-local; declared by [`beat::task_local!`](crate::task_local!).
///
/// ```
/// beat::task_local! {
///     static NUMBER: u32;
/// }
///
/// let sum = NUMBER.sync_scope(5, || {
///     let (a, b) = beat::join(|| NUMBER.get(), || NUMBER.with(|number| number + 1));
///     a + b
/// });
/// assert_eq!(sum, 11);
/// ```
pub struct LocalKey<T: 'static> {
    /// A key is told by its address, so it must have one of its own.
    _place: AtomicBool,
    marker: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> LocalKey<T> {
    /// For `task_local!` alone.
    #[doc(hidden)]
    pub const fn __new() -> Self {
        Self { _place: AtomicBool::new(false), marker: PhantomData }
    }

    fn key(&'static self) -> Key {
        std::ptr::from_ref(self) as usize
    }

    /// Gives the future a value for this key, whenever it is polled and while it is dropped.
    ///
    /// ```
    /// beat::task_local! { static NUMBER: u32; }
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// assert_eq!(NUMBER.scope(1, async { NUMBER.get() }).await, 1);
    /// # }
    /// ```
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> TaskLocalFuture<T, F> {
        TaskLocalFuture { key: self, value: Arc::new(value), future: Some(future) }
    }

    /// Calls `f` with a value for this key.
    ///
    /// ```
    /// beat::task_local! { static NUMBER: u32; }
    ///
    /// assert_eq!(NUMBER.sync_scope(1, || NUMBER.get()), 1);
    /// ```
    pub fn sync_scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        values::with_one(self.key(), Arc::new(value), f)
    }

    /// Looks at the value.
    ///
    /// ```
    /// beat::task_local! { static WORDS: Vec<String>; }
    ///
    /// let words = vec!["one".to_owned()];
    /// assert_eq!(WORDS.sync_scope(words, || WORDS.with(Vec::len)), 1);
    /// ```
    ///
    /// # Panics
    ///
    /// If there is none here.
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.try_with(f).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Looks at the value.
    ///
    /// ```
    /// beat::task_local! { static NUMBER: u32; }
    ///
    /// assert!(NUMBER.try_with(|_| ()).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// There is none here.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        // Kept for the time: `f` may enter and leave other values.
        let value = values::get(self.key());
        value.as_deref().and_then(|value| value.downcast_ref()).map(f).ok_or(AccessError(()))
    }
}

impl<T: Clone + Send + Sync + 'static> LocalKey<T> {
    /// A clone of the value.
    ///
    /// ```
    /// beat::task_local! { static NUMBER: u32; }
    ///
    /// assert_eq!(NUMBER.sync_scope(2, || NUMBER.get()), 2);
    /// ```
    ///
    /// # Panics
    ///
    /// If there is none here.
    #[track_caller]
    pub fn get(&'static self) -> T {
        self.with(T::clone)
    }

    /// A clone of the value.
    ///
    /// ```
    /// beat::task_local! { static NUMBER: u32; }
    ///
    /// assert!(NUMBER.try_get().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// There is none here.
    pub fn try_get(&'static self) -> Result<T, AccessError> {
        self.try_with(T::clone)
    }
}

impl<T> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// A future with a value for a task-local; from [`LocalKey::scope`].
///
/// ```
/// beat::task_local! { static NUMBER: u32; }
///
/// let future = NUMBER.scope(5, async { NUMBER.get() });
/// assert_eq!(futures::executor::block_on(future), 5);
/// ```
#[pin_project(PinnedDrop)]
#[must_use = "futures do nothing unless polled"]
pub struct TaskLocalFuture<T: Send + Sync + 'static, F> {
    key: &'static LocalKey<T>,
    value: Arc<T>,
    /// Only empty after it has been dropped.
    #[pin]
    future: Option<F>,
}

impl<T: Send + Sync + 'static, F: Future> Future for TaskLocalFuture<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("it is dropped with this");
        values::with_one(this.key.key(), Arc::clone(this.value) as values::Value, || future.poll(cx))
    }
}

#[pinned_drop]
impl<T: Send + Sync + 'static, F> PinnedDrop for TaskLocalFuture<T, F> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        values::with_one(this.key.key(), Arc::clone(this.value) as values::Value, || this.future.set(None));
    }
}

impl<T: Send + Sync + 'static, F> fmt::Debug for TaskLocalFuture<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLocalFuture").finish_non_exhaustive()
    }
}

/// A task-local has no value here.
///
/// ```
/// beat::task_local! { static NUMBER: u32; }
///
/// let error: beat::task::AccessError = NUMBER.try_get().unwrap_err();
/// assert!(error.to_string().contains("no value"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError(());

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the task-local has no value here: give it one with `scope` or `sync_scope`; spawned tasks inherit none",
        )
    }
}

impl Error for AccessError {}
