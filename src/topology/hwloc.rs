//! The second backend: hwloc looks, and writes down what it saw; [`xml`] reads that.
//!
//! By way of the document one reader serves both, and of hwlocality's interface, which may yet change, and of hwloc's many
//! objects little is touched.

use std::io;

use hwlocality::Topology as Hwloc;
use hwlocality::topology::builder::BuildFlags;
use hwlocality::topology::export::xml::XMLExportFlags;

use super::assemble::Parts;
use super::xml;

pub(super) fn read() -> io::Result<Parts> {
    // With what this process may not use: that is for `given` to tell, and it is not switched off.
    let hwloc = Hwloc::builder()
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .map_err(io::Error::other)?
        .build()
        .map_err(|error| io::Error::other(format!("hwloc cannot look at this machine: {error}")))?;
    let document = hwloc
        .export_xml(XMLExportFlags::empty())
        .map_err(|error| io::Error::other(format!("hwloc cannot write down what it saw: {error}")))?;
    Ok(Parts { source: "hwloc", ..xml::parse(&document)? })
}
