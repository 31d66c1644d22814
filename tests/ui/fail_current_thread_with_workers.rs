#[beat::main(flavor = "current_thread", worker_threads = 4)]
async fn main() {}

#[beat::test(worker_threads = 2, flavor = "current_thread")]
async fn test() {}
