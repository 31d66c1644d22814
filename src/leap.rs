//! What a joiner does before it sleeps: it runs parts of the half that it waits for (*leapfrogging*).
//!
//! A joiner whose half was stolen has nothing to do until the thief has finished. To sleep at once costs two switches,
//! and some tens of microseconds until its processor is of use to anybody again; but the thief, as it goes on, may have
//! parts of that half to give away. So for some [`PATIENCE`] nanoseconds the joiner
//!
//! 1. says that it looks for a part ([`Ticket::want`]): the thief's next beat treats it as one who searches;
//! 2. takes a ticket of the thief's, if there is one, and if it was promoted by the half that is waited for
//!    ([`Ticket::is_part_of`]), runs it, and begins anew; any other it puts on offer again, and looks no further;
//! 3. stops when the half is done; when other work is queued, which its processor is better used for; when there were
//!    no parts for so long; at once, if the thief waits for the core that it is on. Then it sleeps, see [`join`](crate::join()).
//!
//! **Nobody meets a stranger.** A part of the awaited half is what the sequential program would run on this very stack,
//! above this very frame, before the `join` returns: it meets no lock, borrow or thread-local of the joiner's that it
//! would not have met there. So a program still deadlocks only if its sequential form does, and the stack is not deeper
//! than that form's but for the frames of the leap itself, of which there are at most [`DEEPEST`] on a stack.
//!
//! **No wake-up is lost.** The joiner does not count as searching: nobody relies on its finding anything. A ticket that
//! it puts back is submitted as a new one is.
//!
//! **A part is a part.** While a thread runs a claimed half, what it promotes is code of that half: nothing else runs on
//! its stack but, by a leap, parts of what is code of that half in turn, with their own tickets as roots, and
//! closures addressed to its processor, which have none. Nor is anything older latent below: a leap begins at the join of
//! a promoted half, whose older jobs were promoted before it, and whose newer ones have been popped. A ticket
//! that can be claimed has a root that is not done, hence alive: no other has its address.
//!
//! Source: Wagner & Calder, "Leapfrogging: a portable technique for implementing efficient futures", PPoPP 1993.

use std::thread;

use crate::local::Local;
use crate::os;
use crate::processors::fence;
use crate::sync::Arc;
use crate::ticket::{Claim, Ticket};
use crate::user_code;

/// How long a joiner looks for parts, in nanoseconds: about what two switches and a wake-up cost.
pub const PATIENCE: u64 = 40_000;
/// How often it looks whether the half is done between two looks for a part.
const LOOKS: u32 = 16;
/// How many looks for a part lie between two requests to the thief.
pub const LOOKS_PER_REQUEST: u32 = 8;
/// How many leaps there may be on one stack.
const DEEPEST: u32 = 256;

/// Runs parts of the half behind `awaited` while there are some and it is not done.
pub(crate) fn leap(local: &Local, awaited: &Arc<Ticket>) {
    if thread::panicking() || local.leaps() >= DEEPEST {
        return;
    }
    debug_assert!(local.latent().is_empty(), "A part is a part");
    awaited.want(true);
    run_parts(local, awaited);
    awaited.want(false);
}

fn run_parts(local: &Local, awaited: &Arc<Ticket>) {
    if waits_for_core(local, awaited) {
        return;
    }
    let mut start = os::now();
    let mut round = 0_u32;
    loop {
        for _ in 0..LOOKS {
            if awaited.is_done() {
                return;
            }
            std::hint::spin_loop();
        }
        match take_part(local, awaited, round.is_multiple_of(LOOKS_PER_REQUEST)) {
            Found::Part(part) => {
                local.leaping(|| user_code::run_half(local, part));
                start = os::now();
            }
            Found::Nothing if local.shared.has_queued() || os::now().saturating_sub(start) > PATIENCE => {
                return;
            }
            Found::Nothing => {}
            Found::Other => return,
        }
        round += 1;
    }
}

/// Whether the thief waits for the core that this thread is on.
fn waits_for_core(local: &Local, awaited: &Arc<Ticket>) -> bool {
    let cpu = os::current_cpu();
    local
        .find_peer(|peer| awaited.is_claimed_by(Arc::as_ptr(peer).cast()).then(|| peer.was_on(cpu)))
        .unwrap_or(false)
}

enum Found {
    Part(Claim),
    Nothing,
    /// No part of the half; it is on offer again.
    Other,
}

/// Takes a part of the half from its thief, whom it may ask for one.
fn take_part(local: &Local, awaited: &Arc<Ticket>, may_ask: bool) -> Found {
    let ticket = local.find_peer(|peer| {
        if !awaited.is_claimed_by(Arc::as_ptr(peer).cast()) {
            return None;
        }
        let ticket = peer.steal_ticket();
        if ticket.is_none() && may_ask {
            peer.ask();
        }
        Some(ticket)
    });
    let Some(ticket) = ticket.flatten() else {
        return Found::Nothing;
    };
    // One that its joiner took back is dropped here.
    if ticket.is_part_of(awaited) {
        return Ticket::claim(ticket).map_or(Found::Nothing, Found::Part);
    }
    if !ticket.is_on_offer() {
        return Found::Nothing;
    }
    local.push_ticket(ticket);
    // Submit 2 and 3.
    fence();
    local.shared.wake_if_unattended();
    Found::Other
}
