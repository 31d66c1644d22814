//! What hwloc 2 writes: objects inside objects, down to the CPUs (PUs).
//!
//! Read: the objects that [`Topology`](super::Topology) knows, the numbers that the system gives CPUs and nodes, distances
//! between nodes, kinds of cores, and the sets of CPUs of the machine that are there and that are allowed. The rest is
//! read over. Source: hwloc, `hwloc2.dtd`.

use std::collections::HashMap;
use std::io;

use roxmltree::{Document, Node, ParsingOptions};

use super::assemble::{Pace, Part, Parts};
use super::bad;
use super::cpu_set::{CpuSet, MOST_CPUS};

/// A document with more nodes than this is refused: that of a machine with 8192 CPUs has a tenth.
const MOST_NODES: u32 = 1_000_000;
/// How far up from a CPU is looked: machines are 10 to 20 objects deep.
const MOST_DEPTH: usize = 256;
/// Of the kind of a matrix of distances: it tells latencies. Source: hwloc, `HWLOC_DISTANCES_KIND_MEANS_LATENCY`.
const IS_LATENCY: u64 = 1 << 2;

pub(super) fn parse(text: &str) -> io::Result<Parts> {
    // hwloc's documents name a DTD.
    let options = ParsingOptions { allow_dtd: true, nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| bad(format!("this is no XML document: {error}")))?;
    let root = document.root_element();
    if root.tag_name().name() != "topology" {
        return Err(bad("this is no topology: make one by `lstopo --of xml`"));
    }
    let version = root.attribute("version").unwrap_or("1");
    if version.split('.').next() != Some("2") {
        return Err(bad(format!(
            "the document is of version {version} of hwloc's format, and only 2 is read: write it with hwloc 2"
        )));
    }
    let mut parts = Parts { source: "XML", ..Parts::default() };
    let paces = paces(root);
    for object in root.descendants().filter(|node| node.has_tag_name("object")) {
        match object.attribute("type") {
            Some("PU") => parts.cpus.extend(cpu(object, &paces)),
            Some("NUMANode") => parts.nodes.extend(node(object)),
            Some("Machine") => machine(object, &mut parts),
            _ => {}
        }
    }
    parts.distances = distances(root);
    Ok(parts)
}

/// Attributes that are numbers.
fn number<T: std::str::FromStr>(node: Node, name: &str) -> Option<T> {
    node.attribute(name)?.parse().ok()
}

/// A bitmap as hwloc writes it: words of 32 bits in hexadecimal, the highest first.
fn set(node: Node, name: &str) -> Option<CpuSet> {
    let word = |text: &str| match text.trim() {
        "" => Some(0),
        text => u32::from_str_radix(text.trim_start_matches("0x"), 16).ok(),
    };
    let words = node.attribute(name)?.rsplit(',').take(MOST_CPUS / 32).map(word);
    let mut words = words.collect::<Option<Vec<u32>>>()?.into_iter();
    let mut pairs = Vec::new();
    while let Some(low) = words.next() {
        pairs.push(u64::from(low) | u64::from(words.next().unwrap_or(0)) << 32);
    }
    Some(CpuSet::from_words(pairs))
}

fn machine(object: Node, parts: &mut Parts) {
    let (complete, running) = (set(object, "complete_cpuset"), set(object, "cpuset"));
    if let (Some(complete), Some(running)) = (complete, running) {
        parts.offline = complete.difference(&running);
    }
    parts.allowed = set(object, "allowed_cpuset");
}

/// What the objects around a CPU say of it.
fn cpu(object: Node, paces: &[(CpuSet, Pace)]) -> Option<Part> {
    let id = number(object, "os_index").filter(|&id| id < MOST_CPUS)?;
    let mut part = Part { id, ..Part::default() };
    for around in object.ancestors().take(MOST_DEPTH) {
        let key = Some(around.id().get_usize());
        match around.attribute("type") {
            Some("Package") => part.package = around.id().get_usize(),
            Some("Core") => part.core = key,
            // Those for instructions have names of their own.
            Some("L1Cache") => part.caches[0] = key,
            Some("L2Cache") => part.caches[1] = key,
            Some("L3Cache") => part.caches[2] = key,
            _ => {}
        }
    }
    let pace = paces.iter().find(|(cpus, _)| cpus.contains(id));
    part.pace = pace.map(|(_, pace)| *pace).unwrap_or_default();
    Some(part)
}

fn node(object: Node) -> Option<(usize, CpuSet)> {
    let id = number(object, "os_index").filter(|&id| id < MOST_CPUS)?;
    // Without a set of its own it is near to what it hangs on.
    let cpus = set(object, "cpuset").or_else(|| {
        let below = object.parent()?.descendants().filter(|node| node.attribute("type") == Some("PU"));
        Some(below.filter_map(|cpu| number(cpu, "os_index")).filter(|&id| id < MOST_CPUS).collect())
    })?;
    Some((id, cpus))
}

fn paces(root: Node) -> Vec<(CpuSet, Pace)> {
    let kinds = root.children().filter(|node| node.has_tag_name("cpukind"));
    kinds
        .filter_map(|kind| {
            let told = |name| {
                let infos = || kind.children().filter(|node| node.has_tag_name("info"));
                infos().find(|info| info.attribute("name") == Some(name))?.attribute("value")
            };
            let pace = Pace {
                is_small: match told("CoreType") {
                    Some("IntelAtom") => Some(true),
                    Some("IntelCore") => Some(false),
                    _ => None,
                },
                capacity: told("LinuxCapacity").and_then(|value| value.parse().ok()),
                frequency: told("FrequencyMaxMHz").and_then(|value| value.parse().ok()),
            };
            Some((set(kind, "cpuset")?, pace))
        })
        .collect()
}

fn distances(root: Node) -> HashMap<(usize, usize), u32> {
    let matrices = root.children().filter(|node| {
        node.has_tag_name("distances2")
            && node.attribute("type") == Some("NUMANode")
            && number::<u64>(*node, "kind").is_some_and(|kind| kind & IS_LATENCY != 0)
    });
    let mut told = HashMap::new();
    for matrix in matrices {
        let numbers = |tag: &str| {
            let pieces =
                matrix.children().filter(|node| node.has_tag_name(tag)).filter_map(|node| node.text());
            pieces.flat_map(str::split_whitespace).map_while(|n| n.parse::<u64>().ok()).collect::<Vec<_>>()
        };
        let (ids, values) = (numbers("indexes"), numbers("u64values"));
        let pairs = ids.iter().flat_map(|from| ids.iter().map(move |to| (*from as usize, *to as usize)));
        told.extend(pairs.zip(values).filter_map(|(pair, value)| Some((pair, u32::try_from(value).ok()?))));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_are_read_as_hwloc_writes_them() {
        for (text, cpus) in [
            ("0x00000003", "0-1"),
            ("0x0", ""),
            ("0x00000001,0x0,0x80000000", "31,64"),
            ("0x00000001,,0x00000001", "0,64"),
            ("ff", "0-7"),
        ] {
            let text = format!("<a cpuset='{text}'/>");
            let document = Document::parse(&text).unwrap();
            assert_eq!(set(document.root_element(), "cpuset").unwrap().to_string(), cpus, "{text}");
        }
        let document = Document::parse("<a cpuset='0xf...f'/>").unwrap();
        assert_eq!(set(document.root_element(), "cpuset"), None);
    }
}
