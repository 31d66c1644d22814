//! Every option at once.

#[beat::main(
    worker_threads = 2,
    flavor = "multi_thread",
    pinning = "cores",
    heartbeat_us = 1_000,
    thread_name = "all-options",
    thread_stack_size = 2_097_152,
    start_paused = false,
    crate = "::beat"
)]
async fn main() {
    let name = beat::spawn(async { std::thread::current().name().map(str::to_owned) }).await;
    assert!(name.unwrap().unwrap().starts_with("all-options"));
}
