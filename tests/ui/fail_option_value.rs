#[beat::main(
    worker_threads = "4",
    flavor = "single_thread",
    pinning = "numa",
    heartbeat_us = 2.5,
    thread_name = 'w',
    thread_stack_size = "2 MiB",
    crate = "not a path"
)]
async fn main() {}

#[beat::main(worker_threads = 0, heartbeat_us = 0, thread_stack_size = 0)]
async fn zero() {}

#[beat::main(worker_threads = -1, heartbeat_us = 18446744073709551616)]
async fn out_of_range() {}

#[beat::main(worker_threads = 2 + 2, flavor = current_thread, thread_name = "a\0b", crate = 5)]
async fn no_such_value() {}

#[beat::main(worker_threads, pinning =)]
async fn no_value() {}
