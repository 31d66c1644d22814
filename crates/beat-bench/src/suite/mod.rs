//! The suites, and what they share.

pub(crate) mod clock;
pub(crate) mod machine;
pub(crate) mod priority;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod stalls;
