//! Linux: the control groups that hold the process, as far as they share out CPUs.
//!
//! Everything lies below a root directory (`/`, or a tree that a test has made), and is found as
//! [memory's](crate::pressure) files are. Both versions are looked at, since a hybrid system may have the controller in
//! either: the group's own quota and those of all groups above it count, and of the sets of CPUs the innermost, which
//! lies within the others. Descriptors stay open. The process may be moved to another group: each look reads
//! where it is, and opens the files anew if that has changed. What cannot be read is not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Throttled;
use super::parse::{self, Mount};
use super::watched::{Watched, below};

/// Room for the largest of the files, a list of CPUs or of groups.
const BUFFER: usize = 4096;
/// What the files with sets of CPUs are called.
const CPUSET_V1: &str = "cpuset.effective_cpus";
const CPUSET_V2: &str = "cpuset.cpus.effective";

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct CpuGroups {
    root: PathBuf,
    membership: Option<Watched>,
    /// What it said when the files below were opened.
    groups: String,
    quotas: Vec<Quota>,
    cpuset: Option<Watched>,
    stat: Option<Watched>,
    buffer: Box<[u8]>,
}

/// The files with a group's quota.
#[derive(Debug)]
enum Quota {
    V1 { quota: Watched, period: Watched },
    V2(Watched),
}

impl Quota {
    fn v1(group: &Path) -> Option<Self> {
        let quota = Watched::open(group.join("cpu.cfs_quota_us")).ok()?;
        Some(Self::V1 { quota, period: Watched::open(group.join("cpu.cfs_period_us")).ok()? })
    }

    fn v2(group: &Path) -> Option<Self> {
        Watched::open(group.join("cpu.max")).ok().map(Self::V2)
    }

    /// In CPUs; `None` if there is none.
    fn read(&self, buffer: &mut [u8]) -> Option<f64> {
        match self {
            Self::V1 { quota, period } => {
                let (first, second) = buffer.split_at_mut(BUFFER / 2);
                parse::cfs_quota(quota.read(first).ok()?, period.read(second).ok()?)?
            }
            Self::V2(file) => parse::cpu_max(file.read(buffer).ok()?)?,
        }
    }
}

impl CpuGroups {
    pub(crate) fn open(root: &Path) -> Self {
        let mut groups = Self {
            root: root.to_owned(),
            membership: None,
            groups: String::new(),
            quotas: Vec::new(),
            cpuset: None,
            stat: None,
            buffer: vec![0; BUFFER].into_boxed_slice(),
        };
        groups.open_files();
        groups
    }

    /// Opens the files of the groups that the process is in now.
    fn open_files(&mut self) {
        let Self { root, buffer, .. } = self;
        self.membership = Watched::open(root.join("proc/self/cgroup")).ok();
        let text = self.membership.as_ref().and_then(|file| file.read(buffer).ok());
        self.groups = text.unwrap_or_default().to_owned();
        let membership = parse::membership(&self.groups);
        let mounts = parse::mounts(&fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default());
        let v2 = ancestry(root, membership.v2.as_deref(), mounts.v2.as_ref());
        let v1 = |controller| ancestry(root, membership.v1(controller), mounts.v1(controller));
        let cpu = v1("cpu");
        let first = |groups: &[PathBuf], name: &str| {
            groups.iter().find_map(|group| Watched::open(group.join(name)).ok())
        };
        self.quotas = cpu.iter().filter_map(|group| Quota::v1(group)).collect();
        self.quotas.extend(v2.iter().filter_map(|group| Quota::v2(group)));
        self.cpuset = first(&v1("cpuset"), CPUSET_V1).or_else(|| first(&v2, CPUSET_V2));
        // The own group's alone.
        self.stat = [cpu.first(), v2.first()].into_iter().flatten().find_map(|group| {
            let stat = Watched::open(group.join("cpu.stat")).ok()?;
            throttled(stat.read(buffer).ok()?).is_some().then_some(stat)
        });
    }

    fn refresh(&mut self) {
        let text = self.membership.as_ref().and_then(|file| file.read(&mut self.buffer).ok());
        if text != Some(self.groups.as_str()) {
            self.open_files();
        }
    }

    /// The least quota of the groups, in CPUs; `None` if there is none.
    pub(crate) fn quota(&mut self) -> Option<f64> {
        self.refresh();
        self.quotas.iter().filter_map(|quota| quota.read(&mut self.buffer)).min_by(f64::total_cmp)
    }

    /// The set of CPUs, in the kernel's form; `None` if there is none.
    pub(crate) fn cpuset(&mut self) -> Option<&str> {
        self.refresh();
        self.cpuset.as_ref()?.read(&mut self.buffer).ok()
    }

    /// How the kernel has throttled the own group so far; `None` if it does not say.
    pub(crate) fn throttled(&mut self) -> Option<Throttled> {
        self.refresh();
        throttled(self.stat.as_ref()?.read(&mut self.buffer).ok()?)
    }
}

/// The directories of a group and those above it, innermost first.
fn ancestry(root: &Path, path: Option<&str>, mount: Option<&Mount>) -> Vec<PathBuf> {
    let (Some(path), Some(mount)) = (path, mount) else { return Vec::new() };
    let point = below(root, &mount.point);
    parse::ancestry(path, &mount.root).into_iter().map(|group| point.join(group)).collect()
}

/// What `cpu.stat` says, in either version's unit of time.
fn throttled(text: &str) -> Option<Throttled> {
    let periods = parse::keyed(text, "nr_throttled")?;
    let v2 = parse::keyed(text, "throttled_usec").map(Duration::from_micros);
    let v1 = || parse::keyed(text, "throttled_time").map(Duration::from_nanos);
    Some(Throttled { periods, time: v2.or_else(v1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 30 0:28 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                          32 30 0:29 / /cg/cpuset rw - cgroup cgroup rw,cpuset\n\
                          33 30 0:30 / /cg/unified rw - cgroup2 cgroup2 rw\n";

    /// A tree of files.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(groups: &str) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.write("proc/self/cgroup", groups);
            tree.write("proc/self/mountinfo", MOUNTS);
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn open(&self) -> CpuGroups {
            CpuGroups::open(self.0.path())
        }
    }

    #[test]
    fn the_least_quota_on_the_way_up_counts_and_is_followed() {
        let tree = Tree::new("0::/a/b\n");
        tree.write("cg/unified/a/cpu.max", "150000 100000\n");
        tree.write("cg/unified/a/b/cpu.max", "max 100000\n");
        tree.write("cg/unified/c/cpu.max", "50000 100000\n");
        let mut groups = tree.open();
        assert_eq!(groups.quota(), Some(1.5));
        tree.write("cg/unified/a/b/cpu.max", "75000 100000\n");
        assert_eq!(groups.quota(), Some(0.75));
        tree.write("cg/unified/a/b/cpu.max", "max 100000\n");
        tree.write("cg/unified/a/cpu.max", "max 100000\n");
        assert_eq!(groups.quota(), None);
        tree.write("cg/unified/a/cpu.max", "garbage\n");
        assert_eq!(groups.quota(), None);
    }

    #[test]
    fn the_first_version_is_read_too() {
        let tree = Tree::new("9:memory:/a\n4:cpu,cpuacct:/a\n3:cpuset:/s/t\n0::/\n");
        tree.write("cg/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        tree.write("cg/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        tree.write("cg/cpu,cpuacct/a/cpu.cfs_quota_us", "25000\n");
        tree.write("cg/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
        tree.write("cg/cpu,cpuacct/cpu.stat", "nr_periods 9\nnr_throttled 9\nthrottled_time 9\n");
        tree.write("cg/cpu,cpuacct/a/cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 5000000\n");
        tree.write("cg/cpuset/cpuset.effective_cpus", "0-7\n");
        tree.write("cg/cpuset/s/cpuset.effective_cpus", "0-3\n");
        tree.write("cg/cpuset/s/t/cpuset.effective_cpus", "1,3\n");
        let mut groups = tree.open();
        assert_eq!(groups.quota(), Some(0.25));
        assert_eq!(groups.cpuset(), Some("1,3\n"));
        let time = Duration::from_millis(5);
        assert_eq!(groups.throttled(), Some(Throttled { periods: 2, time }));
    }

    #[test]
    fn a_process_that_moves_is_followed() {
        let tree = Tree::new("0::/a\n");
        tree.write("cg/unified/a/cpu.max", "150000 100000\n");
        tree.write("cg/unified/b/cpu.max", "350000 100000\n");
        tree.write("cg/unified/cpuset.cpus.effective", "0-3\n");
        tree.write("cg/unified/b/cpu.stat", "usage_usec 1\nnr_throttled 7\nthrottled_usec 11\n");
        let mut groups = tree.open();
        assert_eq!((groups.quota(), groups.throttled()), (Some(1.5), None));
        tree.write("proc/self/cgroup", "0::/b\n");
        assert_eq!((groups.quota(), groups.cpuset()), (Some(3.5), Some("0-3\n")));
        let time = Duration::from_micros(11);
        assert_eq!(groups.throttled(), Some(Throttled { periods: 7, time }));
    }

    #[test]
    fn without_groups_there_are_no_limits() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let mut groups = tree.open();
        assert_eq!((groups.quota(), groups.throttled()), (None, None));
        assert_eq!(groups.cpuset(), None);
        // They may come.
        tree.write("proc/self/mountinfo", MOUNTS);
        tree.write("cg/unified/a/cpu.max", "150000 100000\n");
        tree.write("proc/self/cgroup", "0::/a\n");
        assert_eq!(groups.quota(), Some(1.5));
    }
}
