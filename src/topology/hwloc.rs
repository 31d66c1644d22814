//! The second backend: hwloc looks, and writes down what it saw; [`xml`] reads that.
//!
//! By way of the document one reader serves both, and of hwlocality's interface, which may yet change, and of hwloc's many
//! objects little is touched.

use std::io;

use hwlocality::Topology as Hwloc;
use hwlocality::topology::export::xml::XMLExportFlags;

use super::assemble::Parts;
use super::xml;

pub(super) fn read() -> io::Result<Parts> {
    let hwloc = Hwloc::new()
        .map_err(|error| io::Error::other(format!("hwloc cannot look at this machine: {error}")))?;
    let document = hwloc
        .export_xml(XMLExportFlags::empty())
        .map_err(|error| io::Error::other(format!("hwloc cannot write down what it saw: {error}")))?;
    Ok(Parts { source: "hwloc", ..xml::parse(&document)? })
}
