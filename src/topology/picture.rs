//! A topology for people to read.
//!
//! ```text
//! 16 CPUs on 8 cores in 1 package with 1 NUMA node (XML); CPUs 0-11 are given to this process
//! kind a: speed 1024, CPUs 0-7
//! kind b: speed  778, CPUs 8-15
//! package 0, node 0
//!   L3  a[0 1] a[2 3] {b[8] b[9] b[10] b[11]}           {...} share an L2 cache
//! ```

use std::fmt;

use super::{Cpu, Topology};

/// Where lines break.
pub(super) const WIDTH: usize = 104;

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(f)?;
        if self.kinds.len() > 1 {
            for (letter, kind) in letters().zip(&self.kinds) {
                writeln!(f, "kind {letter}: speed {:>4}, CPUs {}", kind.speed, kind.cpus)?;
            }
        }
        let mut cpus: Vec<&Cpu> = self.cpus.iter().collect();
        let key = |cpu: &Cpu| (cpu.package, cpu.node, cpu.caches[2], cpu.caches[1], cpu.core);
        cpus.sort_by_key(|cpu| (key(cpu), cpu.id));
        for node in cpus.chunk_by(|a, b| (a.package, a.node) == (b.package, b.node)) {
            writeln!(f, "package {}, node {}", node[0].package, self.nodes[node[0].node].id)?;
            for group in node.chunk_by(|a, b| a.caches[2] == b.caches[2]) {
                self.group(f, group)?;
            }
        }
        self.distance_table(f)
    }
}

impl Topology {
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        write!(
            f,
            "{} on {} in {} with {} ({})",
            some(self.cpus.len(), "CPU"),
            some(self.cores.len(), "core"),
            some(self.packages.len(), "package"),
            some(self.nodes.len(), "NUMA node"),
            self.source
        )?;
        if self.allowed == self.online {
            writeln!(f, "; all are given to this process")?;
        } else {
            writeln!(f, "; CPUs {} are given to this process, those in (...) are not", self.allowed)?;
        }
        let offline = self.present.difference(&self.online);
        if !offline.is_empty() {
            writeln!(f, "CPUs {offline} are switched off")?;
        }
        let memory: Vec<_> =
            self.nodes.iter().filter(|node| node.cpus.is_empty()).map(|node| node.id.to_string()).collect();
        if !memory.is_empty() {
            writeln!(f, "nodes without CPUs: {}", memory.join(" "))?;
        }
        Ok(())
    }

    /// The cores around one L3 cache.
    fn group(&self, f: &mut fmt::Formatter<'_>, cpus: &[&Cpu]) -> fmt::Result {
        let head = if cpus[0].caches[2].is_some() { "  L3 " } else { "     " };
        let mut line = head.to_owned();
        let mut is_empty = true;
        for cache in cpus.chunk_by(|a, b| (a.caches[1], a.core) == (b.caches[1], b.core) || shares(a, b)) {
            let cores: Vec<_> = cache.chunk_by(|a, b| a.core == b.core).map(|cpus| self.core(cpus)).collect();
            let text = cores.join(" ");
            let text = if cores.len() > 1 { format!("{{{text}}}") } else { text };
            if !is_empty && line.chars().count() + 1 + text.chars().count() > WIDTH {
                writeln!(f, "{line}")?;
                line = "     ".to_owned();
            }
            line = line + " " + &text;
            is_empty = false;
        }
        writeln!(f, "{line}")
    }

    /// A core: its threads.
    fn core(&self, cpus: &[&Cpu]) -> String {
        let thread = |cpu: &&Cpu| match self.allowed.contains(cpu.id) {
            true => cpu.id.to_string(),
            false => format!("({})", cpu.id),
        };
        let threads: Vec<_> = cpus.iter().map(thread).collect();
        let letter = (self.kinds.len() > 1).then(|| letters().nth(cpus[0].kind)).flatten();
        format!("{}[{}]", letter.map(String::from).unwrap_or_default(), threads.join(" "))
    }

    fn distance_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes.len() == 1 {
            return Ok(());
        }
        write!(f, "distances")?;
        for node in &self.nodes {
            write!(f, " {:>3}", node.id)?;
        }
        for (node, row) in self.nodes.iter().zip(self.distances.chunks(self.nodes.len())) {
            write!(f, "\n  node {:>2}", node.id)?;
            row.iter().try_for_each(|distance| write!(f, " {distance:>3}"))?;
        }
        writeln!(f)
    }
}

/// Whether two CPUs use the same L2 cache.
fn shares(a: &Cpu, b: &Cpu) -> bool {
    a.caches[1].is_some() && a.caches[1] == b.caches[1]
}

/// The names of kinds; no machine has more.
fn letters() -> impl Iterator<Item = char> {
    ('a'..='z').chain(std::iter::repeat('?'))
}
