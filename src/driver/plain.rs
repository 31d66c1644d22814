//! The driver of a runtime without I/O: nothing ever happens in it, so nobody parks there.

use std::time::Duration;

use super::{Driver, Entered, Foreign};
use crate::parker::Parker;

#[derive(Debug)]
pub(crate) struct PlainDriver;

impl Driver for PlainDriver {
    fn has_events(&self) -> bool {
        false
    }

    fn park(&self, parker: &Parker) {
        parker.park();
    }

    fn nudge(&self) {}

    fn turn(&self) {}

    fn enter(&self) -> Entered {
        None
    }

    fn foreign_tasks(&self) -> Foreign {
        Foreign::default()
    }

    fn shutdown(&self, _timeout: Option<Duration>) {}
}
