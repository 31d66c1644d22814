//! The number of the processor that a thread holds, for those who ask: *Numbers* in
//! [`processors`](crate::processors#numbers).

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use crate::local::Local;
use crate::processors::ProcessorId;
use crate::scheduler::Shared;

/// How long a thread waits for a number before it goes without.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often it looks without sleeping in between, and how long it sleeps then.
const LOOKS: u32 = 16;
const NAP: Duration = Duration::from_micros(50);

/// `None` if this is no worker, inside a driver, and if there is no number to be had.
#[inline]
pub(crate) fn of(local: Option<&Local>) -> Option<usize> {
    let local = local.filter(|local| local.is_of_pool())?;
    local.seat().number().or_else(|| find_number(local)).map(|p| p as usize)
}

#[cold]
fn find_number(local: &Local) -> Option<ProcessorId> {
    if local.is_in_turn() {
        return None;
    }
    let shared = &*local.shared;
    // With a processor it is no thread on duty, which would sleep on it.
    if shared.resign_duty(&local.remote) {
        shared.cover();
    }
    if let Some(p) = take_number(local) {
        return Some(p);
    }
    struct Waiting<'a>(&'a Shared);
    impl Drop for Waiting<'_> {
        fn drop(&mut self) {
            self.0.numbers_wanted.fetch_sub(1, SeqCst);
        }
    }
    shared.numbers_wanted.fetch_add(1, SeqCst);
    let _waiting = Waiting(shared);
    // It takes a processor from somebody who sleeps.
    shared.watchdog.ensure(shared);
    let deadline = Instant::now() + PATIENCE;
    for look in 0.. {
        if let Some(p) = take_number(local) {
            return Some(p);
        }
        if look < LOOKS {
            thread::yield_now();
        } else if Instant::now() < deadline {
            thread::sleep(NAP);
        } else {
            break;
        }
    }
    None
}

/// Numbers 1.
fn take_number(local: &Local) -> Option<ProcessorId> {
    let (processors, seat) = (&local.shared.processors, local.seat());
    processors.claim(seat).or_else(|| local.find_peer(|peer| processors.take_over(&peer.seat, seat)))
}
