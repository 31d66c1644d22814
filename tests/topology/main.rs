//! What machines look like, where workers sit on them, who is near whom; and what was really given.

#[cfg(feature = "hwloc-xml")]
mod agreement;
mod garbage;
mod given;
mod machines;
mod pictures;
