//! What makes no sense gives an error or a poorer answer, and never a panic.

use std::fs;

use beat::Pinning;
use beat::topology::{CpuSet, Neighbours, Topology};
use proptest::prelude::*;

use crate::machines;
use crate::pictures::random;

/// Whatever it is, it is consistent, and can be used.
fn use_all_of(machine: &Topology) {
    for cpu in machine.cpus() {
        assert!(machine.cores()[cpu.core].contains(cpu.id));
        assert!(machine.packages()[cpu.package].contains(cpu.id));
        assert!(machine.nodes()[cpu.node].cpus.contains(cpu.id));
        assert!(machine.kinds()[cpu.kind].cpus.contains(cpu.id));
        for (level, cache) in cpu.caches.iter().enumerate() {
            assert!(cache.is_none_or(|cache| machine.caches(level + 1)[cache].contains(cpu.id)));
        }
    }
    let once = |sets: &mut dyn Iterator<Item = usize>| assert_eq!(sets.sum::<usize>(), machine.cpus().len());
    once(&mut machine.cores().iter().map(CpuSet::len));
    once(&mut machine.packages().iter().map(CpuSet::len));
    once(&mut machine.nodes().iter().map(|node| node.cpus.len()));
    once(&mut machine.kinds().iter().map(|kind| kind.cpus.len()));
    assert!(!machine.to_string().is_empty());
    for pinning in
        [Pinning::Cores, Pinning::PhysicalCores, Pinning::Threads, Pinning::CacheGroup, Pinning::Node]
    {
        let workers = machine.room(&pinning).min(64);
        let placement = machine.place(&pinning, workers).unwrap();
        assert!(placement.cpus().iter().all(|cpus| !cpus.is_empty() && cpus.is_subset(machine.allowed())));
        let neighbours = Neighbours::new(machine, &placement);
        assert_eq!(neighbours.victims(0, random(3)).count(), workers - 1);
    }
}

#[test]
fn mistakes_in_words_are_named() {
    for (text, says) in [
        ("", "no CPUs"),
        ("package:2", "no CPUs"),
        ("core:2 pu:0", "\"pu:0\" has no count above 0"),
        ("core:x pu:1", "\"core:x\" has no count above 0"),
        ("core:-1 pu:1", "no count above 0"),
        ("core pu:1", "\"core\" is no object with a count"),
        ("pu:2 core:2", "\"core:2\" comes after the CPUs"),
        ("core:2 core:2 pu:1", "a second time"),
        ("core:9000 pu:1", "more than 8192"),
        ("core:8000 pu:99999999999", "more than 8192"),
        ("core:2(size=1 pu:1", "a bracket never closes"),
        ("core:2) pu:1", "a bracket closes"),
        ("core:2 [core] pu:1", "only [numanode] can be hung"),
        ("core:2 pu:1(indexes=2*1)", "indexes=2*1 is not taken up"),
        ("core:2 pu:1(indexes=1)", "lists 1 numbers for 2 CPUs"),
        ("core:2 pu:1(indexes=1,1)", "lists 1 numbers for 2 CPUs"),
        ("core:2 pu:1(indexes=1,99999)", "a number below 8192"),
    ] {
        let error = Topology::from_synthetic(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn words_may_say_more_than_is_asked_for() {
    let plain: Topology = "package:2 numanode:1 l3:2 core:2 pu:2".parse().unwrap();
    for text in [
        "Machine:1 Package:2 NUMANode:1(memory=16GB) L3Cache:2(size=32 MB) Core:2 PU:2",
        "pack:2 [numa(memory=1GB)] l3:2 core:2 pu:2",
        "socket:2 node:1 die:1 l3:2 group:1 core:2 pu:2",
        "package:2 numanode:1 l3:2 core:2 pu:2(indexes=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15)",
    ] {
        assert_eq!(text.parse::<Topology>().unwrap(), plain, "{text}");
    }
    let swapped: Topology = "core:2 pu:2(indexes=0,2,1,3)".parse().unwrap();
    assert_eq!(swapped.cores()[0].to_string(), "0,2");
}

/// Files of a machine with a few of them gone or wrong.
#[test]
fn a_tree_that_lies_is_believed_as_far_as_it_goes() {
    let machine = machines::all().into_iter().find(|machine| machine.name == "sparse").unwrap();
    let tree = machine.tree();
    let root = tree.path().join("sys");
    let mut files = Vec::new();
    list(&root, &mut files);
    files.sort();
    let wrong: &[&[u8]] = &[
        b"",
        b"garbage",
        b"-1",
        b"0-99999999",
        b"99999999999999999999",
        b"3-1",
        b"0-31",
        b"0-3,7",
        b"\xff\xfe",
        b"1 2 3",
        b"0",
    ];
    let mut random = random(11);
    let mut pick = |n: usize| (random() % n as u64) as usize;
    for _ in 0..300 {
        let mut kept = Vec::new();
        for _ in 0..1 + pick(6) {
            let file = &files[pick(files.len())];
            let Ok(text) = fs::read(file) else { continue };
            match pick(wrong.len() + 1) {
                n if n == wrong.len() => fs::remove_file(file).unwrap(),
                n => fs::write(file, wrong[n]).unwrap(),
            }
            kept.push((file, text));
        }
        match Topology::from_sysfs(&root) {
            Ok(machine) => use_all_of(&machine),
            Err(error) => assert!(error.to_string().contains("no CPU"), "{error}"),
        }
        kept.into_iter().rev().for_each(|(file, text)| fs::write(file, text).unwrap());
    }
    let whole = Topology::from_sysfs(&root).unwrap();
    let given = machines::topologies().find(|(name, _)| *name == "sparse").unwrap().1;
    assert_eq!(whole.with_allowed(given.allowed()).unwrap(), given);
}

fn list(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_words_give_an_error_or_a_machine(
        text in "((package|numanode|\\[numa\\]|l3|l2|core|pu|die|x)(:[0-9]{1,2})?(\\((indexes=[0-9,]{0,9}|size=1)\\))? ?){0,6}|.{0,30}",
    ) {
        if let Ok(machine) = Topology::from_synthetic(&text) {
            use_all_of(&machine);
        }
    }
}

#[cfg(feature = "hwloc-xml")]
mod xml {
    use super::*;

    const LAPTOP: &str = include_str!("xml/laptop.xml");

    #[test]
    fn what_is_no_topology_is_refused() {
        for (text, says) in [
            ("", "no XML document"),
            ("<topology", "no XML document"),
            ("<html/>", "no topology"),
            ("<topology/>", "version 1"),
            ("<topology version='3.0'/>", "only 2 is read"),
            ("<topology version='2.0'/>", "no CPU"),
            ("<topology version='2.0'><object type='PU'/></topology>", "no CPU"),
            ("<topology version='2.0'><object type='PU' os_index='99999'/></topology>", "no CPU"),
        ] {
            let error = Topology::from_xml(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_document_that_would_grow_is_refused() {
        let bomb = "<!DOCTYPE t [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>\
                    <!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;'>\
                    <!ENTITY e '&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;'>]><topology version='2.0'>&e;&e;&e;</topology>";
        assert!(Topology::from_xml(bomb).is_err());
        let deep = "<object type='PU' os_index='1'>".repeat(100_000) + &"</object>".repeat(100_000);
        let deep = format!("<topology version='2.0'>{deep}</topology>");
        use_all_of(&Topology::from_xml(&deep).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_damaged_document_gives_an_error_or_a_machine(
            damage in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, "[0-9a-fx<>\"/=, -]{0,6}"), 1..6)
        ) {
            let mut text = LAPTOP.as_bytes().to_vec();
            for (at, length, by) in damage {
                let at = at.index(text.len());
                let end = (at + length).min(text.len());
                text.splice(at..end, by.bytes());
            }
            if let Ok(machine) = Topology::from_xml(&String::from_utf8_lossy(&text)) {
                use_all_of(&machine);
            }
        }
    }
}
