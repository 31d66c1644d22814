//! Threads that are no runtime's, for the whole run: one calls wakers and aborts tasks, one awaits tasks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread;

use beat::{AbortHandle, Handle};

use crate::program::Awaited;

/// What the first thread is to do.
enum Job {
    Wake(Arc<AtomicBool>, Waker, u64),
    Abort(AbortHandle),
}

/// How to reach the threads. They end with the last of these.
#[derive(Clone)]
pub(crate) struct Service {
    jobs: Sender<Job>,
    waits: Sender<(Handle, Awaited)>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let (jobs, theirs) = channel();
        thread::spawn(move || do_jobs(&theirs));
        let (waits, theirs) = channel::<(Handle, Awaited)>();
        thread::spawn(move || {
            for (handle, awaited) in theirs {
                handle.block_on(awaited);
            }
        });
        Self { jobs, waits }
    }

    /// Aborts a task some time later.
    pub(crate) fn abort(&self, handle: AbortHandle) {
        // The threads outlive every sender.
        let _ = self.jobs.send(Job::Abort(handle));
    }

    /// Awaits a task some time later.
    pub(crate) fn wait_for(&self, runtime: &Handle, awaited: Awaited) {
        let _ = self.waits.send((runtime.clone(), awaited));
    }

    /// A future that is ready when the other thread has said so, and has called its waker in a way that `how`
    /// chooses.
    pub(crate) fn gate(&self, how: u64) -> Gate {
        Gate { service: self.clone(), open: Arc::new(AtomicBool::new(false)), how }
    }
}

fn do_jobs(jobs: &Receiver<Job>) {
    for job in jobs {
        match job {
            Job::Abort(handle) => handle.abort(),
            Job::Wake(open, waker, how) => {
                if how % 3 == 0 {
                    // Too early.
                    waker.wake_by_ref();
                }
                if how % 5 == 0 {
                    thread::yield_now();
                }
                open.store(true, SeqCst);
                if how % 2 == 0 {
                    waker.wake();
                } else {
                    let another = waker.clone();
                    waker.wake_by_ref();
                    another.wake();
                }
            }
        }
    }
}

/// See [`Service::gate`].
pub(crate) struct Gate {
    service: Service,
    open: Arc<AtomicBool>,
    how: u64,
}

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.open.load(SeqCst) {
            return Poll::Ready(());
        }
        let job = Job::Wake(Arc::clone(&self.open), cx.waker().clone(), self.how);
        let _ = self.service.jobs.send(job);
        Poll::Pending
    }
}
