//! Blocking on the thread at hand.

use super::block_on::assert_may_wait;
use crate::local;
use crate::task::budget;
use crate::user_code;

/// Runs `f`, which blocks, on this thread, and lets another thread take its place meanwhile.
///
/// On a worker, inside a task or a closure, the right to run goes to another thread for the time of `f`; its queued
/// tasks go with it. The thread goes on at once when `f` has returned. On any other thread `f` is just called.
/// Unlike [`spawn_blocking`](crate::spawn_blocking) it may borrow from its caller.
///
/// All of the task is blocked meanwhile: the other branches of a `select!` or a `join!` around it stand still.
///
/// # Examples
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let text = beat::spawn(async { beat::block_in_place(|| std::fs::read_to_string("Cargo.toml")) });
/// assert!(text.await.unwrap().is_ok());
/// # }
/// ```
///
/// # Panics
///
/// If `f` panics; and inside a task that was given to `tokio::spawn`, which holds the driver that others wait for.
#[track_caller]
pub fn block_in_place<F, R>(f: F) -> R
where
    F: FnOnce() -> R,
{
    assert_may_wait("block_in_place");
    local::with_own(|own| match own {
        Some(own) => user_code::lend(own, f),
        // It may block on a future, and what polls this one may have budgets.
        None => budget::without(f),
    })
}
