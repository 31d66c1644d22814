//! Handing over the unit: everything settles when nothing can run, and not before.

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

use super::check;
use crate::parker::Parker;
use crate::rest::{Observer, Rest};
use crate::sync::{Arc, Condvar, Mutex};

/// What the driver would make of it: time jumps when everything settles.
struct Clock {
    over: Arc<AtomicBool>,
    jumped: Arc<(Mutex<bool>, Condvar)>,
}

impl Observer for Clock {
    fn stirred(&self) {}

    fn settled(&self) {
        assert!(self.over.load(SeqCst), "time jumped while somebody could run");
        *self.jumped.0.lock() = true;
        self.jumped.1.notify_all();
    }
}

/// Two threads wake each other in turn; `by_driver`: the second one sleeps in the driver.
fn they_settle_once_both_are_down(by_driver: bool) {
    check(move || {
        let over = Arc::new(AtomicBool::new(false));
        let jumped = Arc::new((Mutex::new(false), Condvar::default()));
        let clock = Clock { over: Arc::clone(&over), jumped: Arc::clone(&jumped) };
        // The outside's unit is the first thread's.
        let rest = Arc::new(Rest::new(Box::new(clock)));
        let first = Arc::new(Parker::counted(Some(Arc::clone(&rest))));
        let second = Arc::new(Parker::counted(Some(Arc::clone(&rest))));
        // Taken for the second one before it is started.
        rest.begin();
        let other = thread::spawn({
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            move || {
                if by_driver {
                    if second.enter_driver() {
                        while !second.is_notified() {
                            thread::yield_now();
                        }
                        second.leave_driver();
                    }
                } else {
                    second.park();
                }
                let _ = first.unpark();
                second.park();
            }
        });
        let one = thread::spawn({
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            move || {
                let _ = second.unpark();
                first.park();
                over.store(true, SeqCst);
                first.park();
            }
        });
        let mut is_over = jumped.0.lock();
        while !*is_over {
            is_over = jumped.1.wait_timeout(is_over, std::time::Duration::MAX).0;
        }
        drop(is_over);
        assert!(!rest.is_awake(), "nobody has woken anybody");
        let _ = first.unpark();
        let _ = second.unpark();
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn threads_on_their_futexes_settle_once_both_are_down() {
    they_settle_once_both_are_down(false);
}

#[test]
fn a_thread_in_the_driver_settles_with_the_other() {
    they_settle_once_both_are_down(true);
}
