//! Programs of tokio's world, each in the form that it has on tokio and in the one that it has on Beat.
//!
//! ```text
//! cargo run -p beat-interop -- NAME FORM
//! ```
//!
//! *NAME* is a folder of `src/programs`. *FORM* is one of
//!
//! - `tokio`: the file `tokio.rs`, as it is;
//! - `as-is`: the same file, with `#[tokio::main]` read as `#[beat::main]`: that one line is changed;
//! - `beat`: the file `beat.rs`, which differs in five lines at most, so that its work runs on all of Beat's workers.
//!
//! All forms print the same; `tests/programs.rs` runs them and counts the lines.

use std::process::ExitCode;

mod programs;
mod wire;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen = match &*arguments {
        [name, form] => programs::find(name, form),
        _ => None,
    };
    match chosen {
        Some(run) => {
            run();
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("Usage: beat-interop NAME tokio|as-is|beat\n\nNAME: {}", programs::names().join(", "));
            ExitCode::FAILURE
        }
    }
}
