//! Threads for closures that block: they hold no processor, so as many run as there are, up to a limit.
//!
//! A thread that has been idle for [`KEEP_ALIVE`] ends. *Submit*: push and look for an idle thread under one
//! lock, so that no closure is left behind by a thread that is just going.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lifecycle;
use crate::runtime::context;
use crate::scheduler::Shared;
use crate::task::Runnable;
use crate::task::contained::Contained;
use crate::worker::run_hook;

/// How long an idle thread waits for the next closure.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// How many threads there are at most. Source: tokio's default.
const MOST_THREADS: usize = 512;

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Runnable>,
    threads: usize,
    idle: usize,
}

/// The blocking pool of one runtime.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    submitted: Condvar,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a closure, and starts a thread for it if none is idle.
    pub(crate) fn submit(&self, shared: &Shared, closure: Runnable) {
        let mut state = self.state();
        state.queue.push_back(closure);
        if state.idle >= state.queue.len() {
            self.submitted.notify_one();
            return;
        }
        if state.threads >= MOST_THREADS || shared.is_closed() {
            return;
        }
        state.threads += 1;
        drop(state);
        let name = shared.config.name_of("blocking");
        if let Err(error) = lifecycle::start_thread(shared, name, shared.config.stack_size, thread_main) {
            let mut state = self.state();
            state.threads -= 1;
            // Nobody would come for them: their handles say that they were cancelled.
            let stranded =
                if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            drop(state);
            drop(stranded);
            shared.lifecycle.report_spawn_failure(&error);
        }
    }

    /// Takes a closure that no thread has begun, for a shutdown.
    pub(crate) fn take_queued(&self) -> Option<Runnable> {
        self.state().queue.pop_front()
    }

    /// Lets idle threads go, for a shutdown.
    pub(crate) fn release(&self) {
        let _state = self.state();
        self.submitted.notify_all();
    }

    pub(crate) fn threads(&self) -> usize {
        self.state().threads
    }

    pub(crate) fn queued(&self) -> usize {
        self.state().queue.len()
    }

    fn run(&self, shared: &Shared) {
        let mut state = self.state();
        loop {
            if shared.is_closed() {
                break;
            }
            if let Some(closure) = state.queue.pop_front() {
                drop(state);
                // The closure catches its own panics; one of a waker's is reported by the panic hook.
                let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| closure.run()));
                if let Err(payload) = ran {
                    drop(Contained::new(payload));
                }
                state = self.state();
                continue;
            }
            state.idle += 1;
            let (next, waited) =
                self.submitted.wait_timeout(state, KEEP_ALIVE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

fn thread_main(shared: &Arc<Shared>) {
    if let Some(mask) = &shared.config.unpinned {
        // A blocking thread inherits its parent's pin; kept, it would crowd that core, no worse.
        let _ = mask.apply();
    }
    let context = context::Entered::own_thread(shared);
    run_hook(shared.config.on_thread_start.as_ref());
    shared.blocking.run(shared);
    run_hook(shared.config.on_thread_stop.as_ref());
    drop(context);
}
