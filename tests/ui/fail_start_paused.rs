#[beat::test(start_paused = true)]
async fn test() {}

#[beat::main(start_paused)]
async fn main() {}
