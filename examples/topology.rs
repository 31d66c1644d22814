//! Draws a machine, and where workers would sit on it.
//!
//! ```sh
//! cargo run --example topology                                       # this machine
//! cargo run --example topology -- --synthetic "package:2 l3:8 core:8 pu:2"
//! cargo run --features hwloc-xml --example topology -- --xml FILE    # what `lstopo --of xml` wrote
//! cargo run --features hwloc --example topology -- --hwloc           # this machine, as hwloc sees it
//! ```

use std::error::Error;
use std::process::ExitCode;

use beat::Pinning;
use beat::topology::{Neighbours, Topology};
use lexopt::prelude::*;

const USAGE: &str =
    "usage: topology [--synthetic TEXT | --xml FILE | --sysfs FOLDER | --hwloc] [--allow CPUS]

  --synthetic TEXT  a machine in hwloc's words: \"package:2 l3:8 core:8 pu:2\"
  --xml FILE        what `lstopo --of xml FILE` wrote (feature `hwloc-xml`)
  --sysfs FOLDER    a copy of /sys
  --hwloc           this machine, as hwloc sees it (feature `hwloc`)
  --allow CPUS      as if only these were given: 0-3,8";

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("topology: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let (mut machine, mut allow) = (None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        machine = Some(match argument {
            Long("synthetic") => Topology::from_synthetic(&parser.value()?.string()?)?,
            Long("xml") => from_xml(&parser.value()?.string()?)?,
            Long("sysfs") => Topology::from_sysfs(parser.value()?.as_ref())?,
            Long("hwloc") => from_hwloc()?,
            Long("allow") => {
                allow = Some(parser.value()?.string()?.parse()?);
                continue;
            }
            Short('h') | Long("help") => {
                println!("{USAGE}");
                return Ok(());
            }
            other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
        });
    }
    let mut machine = machine.unwrap_or_else(beat::topology);
    if let Some(allow) = allow {
        machine = machine.with_allowed(&allow)?;
    }
    print!("{machine}");
    for (name, pinning) in [
        ("cores", Pinning::Cores),
        ("physical cores", Pinning::PhysicalCores),
        ("threads", Pinning::Threads),
        ("cache groups", Pinning::CacheGroup),
        ("nodes", Pinning::Node),
    ] {
        println!("\npinned to {name}");
        let placement = machine.place(&pinning, machine.room(&pinning))?;
        placement.to_string().lines().for_each(|line| println!("  {line}"));
    }
    println!("\nrings of worker 0, pinned to cores");
    let placement = machine.place(&Pinning::Cores, machine.room(&Pinning::Cores))?;
    for ring in Neighbours::new(&machine, &placement).rings(0) {
        println!(
            "  {:8} at {:>3}: {} workers",
            format!("{:?}", ring.ring),
            ring.distance,
            ring.workers.len()
        );
    }
    Ok(())
}

#[cfg(feature = "hwloc-xml")]
fn from_xml(file: &str) -> Result<Topology, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
    Topology::from_xml(&text).map_err(|error| format!("{file}: {error}").into())
}

#[cfg(not(feature = "hwloc-xml"))]
fn from_xml(_: &str) -> Result<Topology, Failure> {
    Err("built without XML: run it with `cargo run --features hwloc-xml --example topology`".into())
}

#[cfg(feature = "hwloc")]
fn from_hwloc() -> Result<Topology, Failure> {
    Ok(Topology::from_hwloc()?)
}

#[cfg(not(feature = "hwloc"))]
fn from_hwloc() -> Result<Topology, Failure> {
    Err("built without hwloc: run it with `cargo run --features hwloc --example topology`".into())
}
