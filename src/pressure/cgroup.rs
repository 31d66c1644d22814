//! The memory of the process's own control group, and of the machine.
//!
//! Everything lies below a root directory (`/`, or a tree that a test has made):
//!
//! 1. `proc/self/cgroup` says which group the process is in, `proc/self/mountinfo` where the trees are mounted and
//!    which part of them; both for version 2 and for version 1's memory controller.
//! 2. The limits are looked for in version 2 if its mount has the memory controller, else in version 1. Each
//!    ancestor that has a limit counts, and so does the machine; the one with least available memory is the reading.
//! 3. Stalls come from the own group in version 2, which has them on hybrid systems too, else from the machine.
//!
//! Descriptors stay open; a look reads each from its beginning.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::FromRead;

use super::source::{PressureSource, Reading, Stall, StallLine};
use crate::os::parse::{self, Mount};
use crate::os::watched::{Watched, below, told};

/// Room for the largest of the files; `memory.stat` has some 2 kB.
const BUFFER: usize = 16 * 1024;
/// What a trigger waits for: 150 ms of stalls within 2 s. Windows that are no multiple of 2 s take a privilege.
const TRIGGER: &[u8] = b"some 150000 2000000\0";

/// What the files are called in each version.
#[derive(Clone, Copy, Debug)]
struct Names {
    /// The least of these counts.
    limits: &'static [&'static str],
    usage: &'static str,
    /// Keys of `memory.stat` for the page cache that can go, and for the part of it that must be written first.
    clean: &'static str,
    unwritten: [&'static str; 2],
}

/// `memory.high` slows the group down to a crawl: there is nothing to be had above it.
const V2: Names = Names {
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    clean: "inactive_file",
    unwritten: ["file_dirty", "file_writeback"],
};
/// `total_` counts the groups below, as the usage does.
const V1: Names = Names {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    clean: "total_inactive_file",
    unwritten: ["total_dirty", "total_writeback"],
};

/// One group of the ancestry.
#[derive(Debug)]
struct Group {
    names: Names,
    limits: Vec<Watched>,
    usage: Watched,
    stat: Watched,
}

impl Group {
    fn open(directory: &Path, names: Names) -> io::Result<Self> {
        let mut limits = Vec::new();
        for name in names.limits {
            match Watched::open(directory.join(name)) {
                Ok(file) => limits.push(file),
                // The root of version 2 has no limits, and old kernels lack the second.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if limits.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{}: no limit", directory.display()),
            ));
        }
        Ok(Self {
            names,
            limits,
            usage: Watched::open(directory.join(names.usage))?,
            stat: Watched::open(directory.join("memory.stat"))?,
        })
    }

    /// `None` if it has no limit.
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<Reading>> {
        let mut least = None;
        for file in &self.limits {
            if let Some(limit) = file.parse(buffer, parse::limit)? {
                least = Some(least.map_or(limit, |least: u64| least.min(limit)));
            }
        }
        let Some(limit) = least else { return Ok(None) };
        let usage = self.usage.parse(buffer, parse::number)?;
        let reclaimable = self.stat.parse(buffer, |text| {
            let clean = parse::keyed(text, self.names.clean)?;
            let unwritten = self.names.unwritten.iter().filter_map(|key| parse::keyed(text, key));
            Some(unwritten.fold(clean, u64::saturating_sub))
        })?;
        Ok(Some(Reading::new(limit, usage, reclaimable)))
    }
}

/// The groups of one tree that hold the process, the innermost first.
fn groups(root: &Path, path: Option<&str>, mount: Option<&Mount>, names: Names) -> io::Result<Vec<Group>> {
    let (Some(path), Some(mount)) = (path, mount) else { return Ok(Vec::new()) };
    let point = below(root, &mount.point);
    let mut groups = Vec::new();
    for directory in parse::ancestry(path, &mount.root) {
        match Group::open(&point.join(directory), names) {
            Ok(group) => groups.push(group),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(groups)
}

/// The stalls of a group, and a trigger where one is granted.
#[derive(Debug)]
struct Stalls {
    file: Watched,
    trigger: Option<File>,
}

impl Stalls {
    fn open(path: PathBuf) -> io::Result<Self> {
        let trigger = arm(&path).ok();
        Ok(Self { file: Watched::open(path)?, trigger })
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Stall> {
        self.file.parse(buffer, |text| {
            if !parse::is_like_pressure(text) {
                return None;
            }
            let pressure = procfs::MemoryPressure::from_read(text.as_bytes()).ok()?;
            Some(Stall { some: line(&pressure.some)?, full: line(&pressure.full)? })
        })
    }
}

fn line(record: &procfs::PressureRecord) -> Option<StallLine> {
    let sane = |share: f32| (0.0..=100.0).contains(&share).then_some(share);
    Some(StallLine {
        avg10: sane(record.avg10)?,
        avg60: sane(record.avg60)?,
        total: Duration::from_micros(record.total),
    })
}

/// The kernel keeps a trigger as long as the descriptor is open.
fn arm(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).open(path)?;
    // Not on an ordinary file, which would keep what is written.
    let kind = rustix::fs::fstatfs(&file)?;
    if ![CGROUP2_MAGIC, PROC_MAGIC].contains(&kind.f_type) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    io::Write::write_all(&mut &file, TRIGGER)?;
    Ok(file)
}

/// `CGROUP2_SUPER_MAGIC` and `PROC_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;
const PROC_MAGIC: rustix::fs::FsWord = 0x9fa0;

/// The stalls of the process's own group; else those of the machine, if there are any.
fn stalls(root: &Path, path: Option<&str>, mount: Option<&Mount>) -> Option<Stalls> {
    let own = path.zip(mount).and_then(|(path, mount)| {
        let directory = parse::ancestry(path, &mount.root).into_iter().next()?;
        Stalls::open(below(root, &mount.point).join(directory).join("memory.pressure")).ok()
    });
    own.or_else(|| Stalls::open(root.join("proc/pressure/memory")).ok())
}

/// Reads the own control group, its ancestors and the machine.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: &'static str,
    groups: Vec<Group>,
    machine: Option<Machine>,
    stalls: Option<Stalls>,
    buffer: Box<[u8]>,
}

impl Cgroup {
    /// # Errors
    ///
    /// The process is in no group with a memory controller, or a file cannot be read.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let mut buffer = vec![0; BUFFER].into_boxed_slice();
        let read =
            |name: &str| std::fs::read_to_string(root.join(name)).map_err(|e| told(&root.join(name), &e));
        let membership = parse::membership(&read("proc/self/cgroup")?);
        let mounts = parse::mounts(&read("proc/self/mountinfo")?);
        let v2 = groups(root, membership.v2.as_deref(), mounts.v2.as_ref(), V2)?;
        let (version, groups) = if v2.is_empty() {
            ("version 1", groups(root, membership.v1("memory"), mounts.v1("memory"), V1)?)
        } else {
            ("version 2", v2)
        };
        if groups.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no group with a memory controller"));
        }
        let mut stalls = stalls(root, membership.v2.as_deref(), mounts.v2.as_ref());
        // A file that can be opened may still not be readable.
        stalls.take_if(|stalls| stalls.read(&mut buffer).is_err());
        let machine = Machine::open(root).ok();
        let mut cgroup = Self { version, groups, machine, stalls, buffer };
        cgroup.read()?;
        Ok(cgroup)
    }
}

impl PressureSource for Cgroup {
    fn name(&self) -> String {
        format!("the control group ({})", self.version)
    }

    fn read(&mut self) -> io::Result<Reading> {
        let buffer = &mut self.buffer[..];
        let mut tightest: Option<Reading> = None;
        for group in &self.groups {
            let Some(reading) = group.read(buffer)? else { continue };
            if tightest.as_ref().is_none_or(|least| reading.available() < least.available()) {
                tightest = Some(reading);
            }
        }
        if let Some(machine) = &self.machine
            && let Ok(reading) = machine.look(buffer)
            && tightest.as_ref().is_none_or(|least| reading.available() < least.available())
        {
            tightest = Some(reading);
        }
        let mut reading =
            tightest.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no group has a limit"))?;
        // Stalls only confirm: without them the rest still counts.
        reading.stall = self.stalls.as_ref().and_then(|stalls| stalls.read(buffer).ok());
        Ok(reading)
    }

    fn trigger(&self) -> Option<BorrowedFd<'_>> {
        self.stalls.as_ref()?.trigger.as_ref().map(AsFd::as_fd)
    }
}

/// The machine's own memory.
#[derive(Debug)]
pub(crate) struct Machine {
    meminfo: Watched,
    stalls: Option<Stalls>,
}

impl Machine {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self {
            meminfo: Watched::open(root.join("proc/meminfo"))?,
            stalls: Stalls::open(root.join("proc/pressure/memory")).ok(),
        })
    }

    fn look(&self, buffer: &mut [u8]) -> io::Result<Reading> {
        self.meminfo.parse(buffer, |text| {
            let total = parse::keyed(text, "MemTotal")?;
            let available = parse::keyed(text, "MemAvailable")?;
            (total > 0).then(|| Reading::new(total, total.saturating_sub(available), 0))
        })
    }
}

impl PressureSource for Machine {
    fn name(&self) -> String {
        "the machine (/proc/meminfo)".into()
    }

    fn read(&mut self) -> io::Result<Reading> {
        let mut buffer = [0; BUFFER];
        let mut reading = self.look(&mut buffer)?;
        reading.stall = self.stalls.as_ref().and_then(|stalls| stalls.read(&mut buffer).ok());
        Ok(reading)
    }
}

/// What a runtime looks at unless told otherwise; `say` is told of a group that cannot be read.
pub(crate) fn sources(root: &Path, say: fn(&str)) -> Vec<Box<dyn PressureSource>> {
    let mut sources: Vec<Box<dyn PressureSource>> = Vec::new();
    match Cgroup::open(root) {
        Ok(cgroup) => sources.push(Box::new(cgroup)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => say(&format!(
            "beat: memory pressure cannot be read from the control group ({error}); going on with the machine\n"
        )),
    }
    if let Ok(machine) = Machine::open(root) {
        sources.push(Box::new(machine));
    }
    sources
}
