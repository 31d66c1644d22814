#[beat::main(worker_threads(4))]
async fn main() {}

#[beat::main(4)]
async fn only_a_value() {}

#[beat::main(, worker_threads = 4,, pinning = "none",)]
async fn stray_commas() {}
