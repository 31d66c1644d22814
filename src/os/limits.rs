//! Linux: what stands between a process and its CPUs besides its affinity mask: cgroup quotas, scheduling policies.
//!
//! For what is told to people; nothing depends on it. What cannot be read is not there.

use std::fs;
use std::path::{Path, PathBuf};

use super::linux::{SELF, get_attributes, has_slices};
use super::{Limits, Policy};

impl Limits {
    /// Those of the calling thread.
    pub(crate) fn current() -> Self {
        let attributes = get_attributes(SELF).ok();
        let policy = attributes.as_ref().map(|a| match a.policy as i32 {
            libc::SCHED_OTHER => Policy::Ordinary { nice: a.nice },
            libc::SCHED_BATCH => Policy::Batch,
            libc::SCHED_IDLE => Policy::Idle,
            libc::SCHED_FIFO | libc::SCHED_RR => Policy::RealTime,
            _ => Policy::Other,
        });
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { quota: quota(Path::new("/sys/fs/cgroup"), &groups), policy, has_slices: has_slices() }
    }
}

/// The least CPU quota, in CPUs, of the groups of `/proc/self/cgroup` and those above them.
fn quota(root: &Path, groups: &str) -> Option<f64> {
    let quotas = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.is_empty() {
            least(&root.join(path), root, quota_v2)
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            // Mounted under the name of one controller, or of all that share it.
            let named = [controllers, "cpu"].map(|name| root.join(name));
            let mount = named.into_iter().find(|mount| mount.is_dir())?;
            least(&mount.join(path), &mount, quota_v1)
        } else {
            None
        }
    });
    quotas.min_by(f64::total_cmp)
}

/// The least quota of a group and those above it, up to `top`.
fn least(group: &Path, top: &Path, read: impl Fn(PathBuf) -> Option<f64>) -> Option<f64> {
    let up = group.ancestors().take_while(|group| group.starts_with(top));
    up.filter_map(|group| read(group.to_owned())).min_by(f64::total_cmp)
}

fn quota_v2(group: PathBuf) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn quota_v1(group: PathBuf) -> Option<f64> {
    let read = |name| fs::read_to_string(group.join(name)).ok()?.trim().parse::<f64>().ok();
    let (quota, period) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
    (quota > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of files, removed when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("beat-cgroup-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_least_quota_on_the_way_up_counts() {
        let tree = Tree::new(
            "v2",
            &[
                ("a/cpu.max", "150000 100000\n"),
                ("a/b/cpu.max", "max 100000\n"),
                ("c/cpu.max", "50000 100000\n"),
            ],
        );
        assert_eq!(quota(&tree.0, "0::/a/b\n"), Some(1.5));
        assert_eq!(quota(&tree.0, "0::/c\n"), Some(0.5));
        assert_eq!(quota(&tree.0, "0::/\n"), None);
    }

    #[test]
    fn the_first_version_of_groups_is_read_too() {
        let tree = Tree::new(
            "v1",
            &[
                ("cpu,cpuacct/a/cpu.cfs_quota_us", "25000\n"),
                ("cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"),
                ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
                ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("memory/a/cpu.cfs_quota_us", "1\n"),
            ],
        );
        let groups = "9:memory:/a\n4:cpu,cpuacct:/a\n0::/a\n";
        assert_eq!(quota(&tree.0, groups), Some(0.25));
        assert_eq!(quota(&tree.0, "4:cpu,cpuacct:/\n"), None);
        assert_eq!(quota(&tree.0, "nonsense\n"), None);
    }

    #[test]
    fn this_thread_has_a_policy() {
        assert!(Limits::current().policy.is_some());
    }
}
