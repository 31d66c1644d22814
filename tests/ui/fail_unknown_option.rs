#[beat::main(threads = 4)]
async fn main() {}

#[beat::main(multi_thread)]
async fn only_a_name() {}

#[beat::main(threads(4))]
async fn another_form() {}

#[beat::test(unhandled_panic = "shutdown_runtime")]
async fn test() {}
