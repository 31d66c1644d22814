//! Letting others have a turn.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Gives the other ready tasks of this thread a turn, then goes on.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// for chunk in [1, 2, 3, 4].chunks(2) {
///     println!("{}", chunk.iter().sum::<i32>());
///     beat::yield_now().await;
/// }
/// # }
/// ```
///
/// # Cancel safety
///
/// Cancel safe: nothing is lost with it.
pub async fn yield_now() {
    Yield { yielded: false }.await;
}

struct Yield {
    yielded: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        // Woken while running: the scheduler puts the task behind the others.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
