#[beat::main(worker_threads = 4, pinning = "none", worker_threads = 2)]
async fn main() {}

#[beat::test(crate = beat, crate = "beat")]
async fn test() {}
