//! Machines made of a line of text, in the syntax of hwloc's synthetic topologies.
//!
//! ```text
//! package:2 [numanode(memory=64GB)] l3:4(size=32MB) core:8 pu:2(indexes=0,2,1,3)
//! └─ two packages, each with a node; each with 4 L3 caches; each with 8 cores; each with 2 CPUs, numbered so
//! ```
//!
//! Source: hwloc, "Synthetic topologies" (the string is that of `lstopo --input`). Not taken up: indexes by steps
//! (`indexes=4*2:2*4`) and indexes of anything but CPUs.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::assemble::{Part, Parts};
use super::bad;
use super::cpu_set::{CpuSet, MOST_CPUS};

const EXAMPLE: &str = "write it like \"package:2 numanode:1 l3:4 core:8 pu:2\"";

/// What an object of the text is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Package,
    Node,
    /// Of level 1, 2 or 3.
    Cache(usize),
    Core,
    Cpu,
    /// It divides, and means nothing here.
    Other,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "package" | "pack" | "pkg" | "socket" => Self::Package,
            "numanode" | "numa" | "node" => Self::Node,
            "l1" | "l1cache" | "l1d" | "l1dcache" => Self::Cache(1),
            "l2" | "l2cache" => Self::Cache(2),
            "l3" | "l3cache" => Self::Cache(3),
            "core" => Self::Core,
            "pu" => Self::Cpu,
            "machine" | "group" | "die" | "l4" | "l4cache" | "l5" | "l5cache" | "l1i" | "l1icache" => {
                Self::Other
            }
            _ => return None,
        })
    }
}

/// One level of objects.
#[derive(Debug)]
struct Level {
    kind: Kind,
    /// In the whole machine.
    objects: usize,
}

pub(super) fn parse(text: &str) -> io::Result<Parts> {
    let (mut levels, mut indexes, mut total) = (Vec::<Level>::new(), None, 1_usize);
    for word in words(text)? {
        if let Some(inside) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            levels.push(attached(inside, total)?);
            continue;
        }
        let (kind, count, attributes) = level(word)?;
        if levels.last().is_some_and(|last| last.kind == Kind::Cpu) {
            return Err(bad(format!("{word:?} comes after the CPUs: \"pu\" is the last word")));
        }
        if kind != Kind::Other && levels.iter().any(|level| level.kind == kind) {
            return Err(bad(format!("{word:?} is there a second time: each kind of object comes once")));
        }
        total = total.checked_mul(count).filter(|&total| total <= MOST_CPUS).ok_or_else(|| {
            bad(format!(
                "{word:?} makes more than {MOST_CPUS} objects, which no system has: lower the counts"
            ))
        })?;
        levels.push(Level { kind, objects: total });
        if kind == Kind::Cpu {
            indexes = listed_indexes(attributes)?;
        }
    }
    if levels.last().is_none_or(|last| last.kind != Kind::Cpu) {
        return Err(bad(format!("the machine has no CPUs: end it with \"pu:1\", or {EXAMPLE}")));
    }
    let numbers = numbers(indexes, total)?;
    Ok(parts(&levels, &numbers))
}

/// The words, where spaces inside parentheses and brackets part nothing.
fn words(text: &str) -> io::Result<Vec<&str>> {
    let (mut words, mut start, mut depth) = (Vec::new(), None, 0_usize);
    for (place, letter) in text.char_indices() {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => {
                depth = depth.checked_sub(1).ok_or_else(|| {
                    bad(format!("a bracket closes at {:?} that never opened", &text[place..]))
                })?;
            }
            _ => {}
        }
        if letter.is_whitespace() && depth == 0 {
            words.extend(start.take().map(|start| &text[start..place]));
        } else {
            start = start.or(Some(place));
        }
    }
    if depth > 0 {
        return Err(bad("a bracket never closes"));
    }
    words.extend(start.map(|start| &text[start..]));
    Ok(words)
}

/// A word's kind, count and attributes.
fn level(word: &str) -> io::Result<(Kind, usize, &str)> {
    let (name, rest) =
        word.split_once(':').ok_or_else(|| bad(format!("{word:?} is no object with a count: {EXAMPLE}")))?;
    // Attributes may stand before the count and behind it.
    let (name, before) = name.split_once('(').unwrap_or((name, ""));
    let (count, after) = rest.split_once('(').unwrap_or((rest, ""));
    let kind = named(name)?;
    let count = count.parse().ok().filter(|&count| count > 0);
    let count =
        count.ok_or_else(|| bad(format!("{word:?} has no count above 0 behind its colon: {EXAMPLE}")))?;
    Ok((kind, count, if after.is_empty() { before } else { after }.trim_end_matches(')')))
}

/// What is hung on each object of the level before.
fn attached(inside: &str, objects: usize) -> io::Result<Level> {
    let name = inside.split(['(', ':']).next().unwrap_or_default().trim();
    match named(name)? {
        Kind::Node => Ok(Level { kind: Kind::Node, objects }),
        _ => Err(bad(format!("[{inside}] hangs something else than a node: only [numanode] can be hung"))),
    }
}

fn named(name: &str) -> io::Result<Kind> {
    Kind::named(name).ok_or_else(|| {
        bad(format!(
            "{name:?} is no kind of object: package, numanode, l3, l2, l1, core and pu are, group, die, l4 and l5 are read over"
        ))
    })
}

/// The list behind `indexes=`, if there is one.
fn listed_indexes(attributes: &str) -> io::Result<Option<Vec<usize>>> {
    let Some(list) = attributes.split_whitespace().find_map(|word| word.strip_prefix("indexes=")) else {
        return Ok(None);
    };
    let numbers = list.split(',').map(|number| number.parse().ok().filter(|&number| number < MOST_CPUS));
    let numbers = numbers.collect::<Option<Vec<usize>>>();
    numbers.map(Some).ok_or_else(|| {
        bad(format!(
            "indexes={list} is not taken up: list a number below {MOST_CPUS} for each CPU, like 0,2,1,3"
        ))
    })
}

/// The system's numbers of the CPUs.
fn numbers(indexes: Option<Vec<usize>>, cpus: usize) -> io::Result<Vec<usize>> {
    let Some(indexes) = indexes else { return Ok((0..cpus).collect()) };
    let distinct = indexes.iter().collect::<HashSet<_>>().len();
    if (indexes.len(), distinct) == (cpus, cpus) {
        return Ok(indexes);
    }
    Err(bad(format!("indexes= lists {distinct} numbers for {cpus} CPUs: list a different one for each")))
}

fn parts(levels: &[Level], numbers: &[usize]) -> Parts {
    // The objects of a level follow each other, each with as many CPUs.
    let object = |kind, cpu| {
        let level = levels.iter().find(|level| level.kind == kind)?;
        Some(cpu / (numbers.len() / level.objects))
    };
    let mut nodes = BTreeMap::<usize, CpuSet>::new();
    let part = |(place, &id)| {
        if let Some(node) = object(Kind::Node, place) {
            nodes.entry(node).or_default().insert(id);
        }
        Part {
            id,
            package: object(Kind::Package, place).unwrap_or(0),
            core: object(Kind::Core, place),
            caches: [1, 2, 3].map(|level| object(Kind::Cache(level), place)),
            ..Part::default()
        }
    };
    let cpus = numbers.iter().enumerate().map(part).collect();
    Parts { source: "synthetic", cpus, nodes, ..Parts::default() }
}
