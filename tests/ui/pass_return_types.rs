//! Whatever `main` may return, on functions that are not `main`.

use std::process::{ExitCode, Termination};

#[beat::main]
async fn number() -> u32 {
    std::future::ready(7).await
}

#[beat::main]
async fn termination() -> impl Termination {
    ExitCode::SUCCESS
}

#[beat::main]
async fn never() -> ! {
    std::process::exit(0)
}

fn main() {
    assert_eq!(number(), 7);
    assert_eq!(termination().report(), ExitCode::SUCCESS);
    never()
}
