//! The one place that names std or loom.
//!
//! Every protocol of the scheduler imports its atomics, locks and reference counts from here, so that the
//! loom models (`src/model.rs`) run the very source that ships. [`Futex`] is the third primitive: a word that
//! a thread can sleep on, a real futex outside loom and a lock with a condition variable inside.

#[cfg(not(loom))]
pub(crate) use self::native::*;

#[cfg(loom)]
pub(crate) use self::modelled::*;

#[cfg(not(loom))]
mod native {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::sync::{Arc, MutexGuard};

    use std::sync::PoisonError;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    /// A mutex without poisoning: no user code runs under Beat's locks, so a poisoned one carries no news.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// A condition variable of such a mutex.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(std::sync::Condvar);

    impl Condvar {
        /// Waits for a notification, or until the time is up (`true`). May return early for no reason.
        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            limit: Duration,
        ) -> (MutexGuard<'a, T>, bool) {
            let waited = self.0.wait_timeout(guard, limit);
            let (guard, result) = waited.unwrap_or_else(PoisonError::into_inner);
            (guard, result.timed_out())
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A word that a thread can sleep on until it changes.
    #[derive(Debug)]
    pub(crate) struct Futex {
        pub(crate) word: AtomicU32,
    }

    impl Futex {
        pub(crate) const fn new(value: u32) -> Self {
            Self { word: AtomicU32::new(value) }
        }

        /// Sleeps while the word is `expected`. May return early for no reason.
        pub(crate) fn wait(&self, expected: u32) {
            atomic_wait::wait(&self.word, expected);
        }

        /// Wakes one thread that sleeps on the word.
        pub(crate) fn wake(&self) {
            atomic_wait::wake_one(&self.word);
        }
    }
}

#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::{Arc, MutexGuard, atomic};

    use std::time::Duration;

    use loom::sync::atomic::{AtomicU32, Ordering};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no model panics under a lock")
        }
    }

    /// Its time is never up, so a notification that is missing shows.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _limit: Duration,
        ) -> (MutexGuard<'a, T>, bool) {
            (self.0.wait(guard).expect("no model panics under a lock"), false)
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// As the kernel does it: the compare and the queueing are one step with respect to a wake.
    #[derive(Debug)]
    pub(crate) struct Futex {
        pub(crate) word: AtomicU32,
        queue: loom::sync::Mutex<()>,
        condvar: loom::sync::Condvar,
    }

    impl Futex {
        pub(crate) fn new(value: u32) -> Self {
            Self {
                word: AtomicU32::new(value),
                queue: loom::sync::Mutex::new(()),
                condvar: loom::sync::Condvar::new(),
            }
        }

        pub(crate) fn wait(&self, expected: u32) {
            let queue = self.queue.lock().expect("no model panics here");
            if self.word.load(Ordering::SeqCst) == expected {
                drop(self.condvar.wait(queue).expect("no model panics here"));
            }
        }

        pub(crate) fn wake(&self) {
            let _queue = self.queue.lock().expect("no model panics here");
            self.condvar.notify_one();
        }
    }
}
