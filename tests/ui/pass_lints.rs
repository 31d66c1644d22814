//! The expansion adds no warnings to a crate that denies them.

#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications)]
#![forbid(unsafe_code)]

/// Returns an error's absence.
#[beat::main(worker_threads = 1, pinning = "none", heartbeat_us = 100)]
async fn main() -> Result<(), std::fmt::Error> {
    #![allow(unused_variables)]
    let unused = std::future::ready(1).await;
    Ok(())
}
