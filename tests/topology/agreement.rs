//! hwloc and Beat see the same machines.

use std::fs;
use std::path::Path;
use std::process::Command;

use beat::topology::Topology;

use crate::machines;

/// hwloc's components: only that for Linux, and not the one that asks the CPUs that are really here.
const FILES_ONLY: &str = "linux,stop";

/// hwloc's own documents on the smaller ones of the machines that are made up here.
#[test]
#[ignore = "writes the documents anew; needs lstopo (Debian: hwloc-nox)"]
fn write_documents() {
    for name in ["laptop", "single_core", "smt_off", "sparse", "asymmetric", "phone", "no_caches"] {
        let machine = machines::all().into_iter().find(|machine| machine.name == name).unwrap();
        let tree = machine.tree();
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/topology/xml/{name}.xml"));
        let lstopo = Command::new("lstopo-no-graphics")
            .args(["--of", "xml", "--force", "--no-io", "--if", "fsroot", "--input"])
            .args([tree.path(), &document])
            .status();
        assert!(lstopo.unwrap().success(), "{name}");
    }
}

/// What hwloc wrote down of the machines that are made up here is what Beat reads of their files.
#[test]
fn hwlocs_documents_say_what_the_files_say() {
    let mut read = 0;
    for (name, machine) in machines::topologies() {
        let document = format!("tests/topology/xml/{name}.xml");
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        let Ok(text) = fs::read_to_string(document) else { continue };
        let by_hwloc = Topology::from_xml(&text).unwrap().with_allowed(machine.allowed()).unwrap();
        assert_eq!(by_hwloc, machine, "{name}");
        read += 1;
    }
    assert!(read >= 5, "{read}");
}

#[cfg(feature = "hwloc")]
mod live {
    use super::*;

    #[test]
    fn both_see_the_same_machine_here() {
        let (hwloc, sysfs) = (Topology::from_hwloc().unwrap(), beat::topology());
        assert_eq!(hwloc, sysfs, "hwloc:\n{hwloc}\nsysfs:\n{sysfs}");
        assert_eq!((hwloc.source(), sysfs.source()), ("hwloc", "sysfs"));
    }

    /// Runs one of the tests below in a process where hwloc sees something else.
    fn elsewhere(test: &str, variables: &[(&str, &str)]) {
        let this = std::env::current_exe().unwrap();
        let test = format!("agreement::live::{test}");
        let mut child = Command::new(this);
        let child =
            child.args(["--exact", &test, "--ignored"]).envs(variables.iter().copied()).output().unwrap();
        assert!(child.status.success(), "{variables:?}: {}", String::from_utf8_lossy(&child.stdout));
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{test} is there");
    }

    /// As if the same CPUs were given: hwloc is asked on a thread that has those of the machine that is really here.
    fn compare(expected: Topology) {
        let hwloc = Topology::from_hwloc().unwrap();
        let expected = expected.with_allowed(hwloc.allowed()).unwrap();
        assert_eq!(hwloc, expected, "hwloc:\n{hwloc}\nBeat:\n{expected}");
    }

    #[test]
    #[ignore = "run by the test below, with hwloc's eyes on other files"]
    fn on_other_files() {
        let root = std::env::var("HWLOC_FSROOT").unwrap();
        compare(Topology::from_sysfs(&Path::new(&root).join("sys")).unwrap());
    }

    #[test]
    fn both_see_the_same_on_other_machines() {
        // Those of two sockets are alike, and the largest has thousands of files.
        for machine in machines::all().into_iter().filter(|machine| machine.cpus.len() < 200) {
            let tree = machine.tree();
            let root = tree.path().to_str().unwrap();
            elsewhere("on_other_files", &[("HWLOC_FSROOT", root), ("HWLOC_COMPONENTS", FILES_ONLY)]);
        }
    }

    #[test]
    #[ignore = "run by the test below, with a machine made of words"]
    fn on_words() {
        compare(std::env::var("HWLOC_SYNTHETIC").unwrap().parse().unwrap());
    }

    #[test]
    fn both_understand_the_same_words() {
        for text in [
            machines::LARGE,
            "package:2 core:64 pu:2",
            "Package:2 NUMANode:1 L3Cache:4 Core:8 PU:2",
            "pack:2 [numa(memory=1GB)] l3:2 l2:2 core:2 pu:2",
            "numa:4 core:3 pu:1",
            "core:4 pu:2(indexes=0,4,1,5,2,6,3,7)",
            "package:1 die:2 l3:1(size=32MB) l2:4 l1d:1 core:1 pu:1",
            "group:3 core:2 pu:2",
            "pu:5",
        ] {
            elsewhere("on_words", &[("HWLOC_SYNTHETIC", text)]);
        }
    }
}
