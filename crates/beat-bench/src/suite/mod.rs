//! The suites, and what they share.

#[path = "../../../../benches/common/allocations.rs"]
#[allow(dead_code, reason = "a test of Beat's uses the other half")]
pub(crate) mod allocations;
pub(crate) mod chatty;
pub(crate) mod clock;
pub(crate) mod executors;
pub(crate) mod figures;
pub(crate) mod fork;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod mixed;
pub(crate) mod options;
pub(crate) mod pinning;
pub(crate) mod plot;
pub(crate) mod pressure;
pub(crate) mod priority;
mod process;
pub(crate) mod quota;
pub(crate) mod report;
pub(crate) mod scale;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod slices;
pub(crate) mod stalls;
pub(crate) mod tasks;
