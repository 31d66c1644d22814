//! What the benches share: the programs they run, the rounds they run them in, and the table they print.

#![allow(dead_code, reason = "each bench uses a part of this")]

pub(crate) mod fork;
pub(crate) mod idle;
pub(crate) mod machine;
pub(crate) mod rounds;
pub(crate) mod table;
pub(crate) mod tasks;

/// How much a bench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Measures: `cargo bench`.
    Full,
    /// Runs everything once on small inputs, to see that it works: `cargo test --benches`.
    Tiny,
}

impl Mode {
    /// Cargo gives `--bench` to a bench that is to measure; `--test` overrules it.
    pub(crate) fn from_args() -> Self {
        let given = |flag| std::env::args().any(|arg| arg == flag);
        if given("--bench") && !given("--test") { Self::Full } else { Self::Tiny }
    }

    /// The value for this mode.
    pub(crate) fn pick<T>(self, full: T, tiny: T) -> T {
        match self {
            Self::Full => full,
            Self::Tiny => tiny,
        }
    }
}
