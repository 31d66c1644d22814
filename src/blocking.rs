//! Threads for closures that block: they hold no processor, so as many run as there are, up to a limit.
//!
//! A thread that has been idle for a while ([`Builder::thread_keep_alive`](crate::Builder::thread_keep_alive)) ends. *Submit*: push and look for an idle thread under one
//! lock, so that no closure is left behind by a thread that is just going.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::lifecycle;
use crate::os::{self, Slice};
use crate::rest::{Counted, Unit};
use crate::runtime::context;
use crate::scheduler::Shared;
use crate::task::Runnable;
use crate::task::contained::Contained;
use crate::worker::run_hook;

#[derive(Debug, Default)]
struct State {
    /// Each closure with its unit, for a clock that can be paused.
    queue: VecDeque<(Runnable, Unit)>,
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
        state.queue.push_back((closure, Unit::take(shared.rest.as_ref())));
        if state.idle >= state.queue.len() {
            self.submitted.notify_one();
            return;
        }
        if state.threads >= shared.config.max_blocking_threads || shared.is_closed() {
            return;
        }
        state.threads += 1;
        drop(state);
        let name = shared.config.thread_name.of("blocking");
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
        self.state().queue.pop_front().map(|(closure, _)| closure)
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
            if let Some((closure, unit)) = state.queue.pop_front() {
                drop(state);
                // The closure catches its own panics; one of a waker's is reported by the panic hook.
                let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| closure.run()));
                if let Err(payload) = ran {
                    drop(Contained::new(payload));
                }
                drop(unit);
                state = self.state();
                continue;
            }
            state.idle += 1;
            let waited = self.submitted.wait_timeout(state, shared.config.keep_alive);
            let (next, waited) = waited.unwrap_or_else(PoisonError::into_inner);
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
    shared.config.gathered.leave();
    // Nor a closure's slice.
    os::set_slice(Slice::Default);
    // Its units come with the closures.
    let _counted = Counted::own_thread(shared.rest.as_ref(), None);
    let context = context::Entered::own_thread(shared);
    run_hook(shared.config.hooks.on_thread_start.as_ref());
    shared.blocking.run(shared);
    run_hook(shared.config.hooks.on_thread_stop.as_ref());
    drop(context);
}
