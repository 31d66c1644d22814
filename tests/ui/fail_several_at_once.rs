//! Five mistakes, five messages, and nothing that only follows from them.

#[beat::main(
    colour = "red",
    worker_threads = 0,
    pinning = "cores",
    pinning = "none",
    start_paused = true
)]
fn main(count: u32) -> impl std::fmt::Debug {
    helper(count).await
}

async fn helper(count: u32) -> u32 {
    count
}
