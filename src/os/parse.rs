//! What the kernel's files about control groups say: text in, values out, `None` for anything that is not what it should
//! be.
//!
//! Nothing in here opens a file, so that a fuzzer can feed it (`fuzz/`, which includes this very file).
//! Formats: cgroups(7), proc_pid_mountinfo(5), the kernel's `cgroup-v2.rst` and `cgroup-v1/memory.rst`.

/// A limit of at least this many bytes is none: version 1 says "unlimited" by the largest multiple of a page.
const UNLIMITED: u64 = 1 << 62;

/// A limit file: `None` for garbage, `Some(None)` for "no limit".
pub(crate) fn limit(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text == "max" {
        return Some(None);
    }
    let bytes: u64 = text.parse().ok()?;
    Some((bytes < UNLIMITED).then_some(bytes))
}

/// A file that holds one number.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value of `key` in lines of `key value`, as in `memory.stat`; also of `key: value kB`, in bytes, as in
/// `/proc/meminfo`.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        if name.strip_suffix(':').unwrap_or(name) != key {
            return None;
        }
        let value: u64 = words.next()?.parse().ok()?;
        match words.next() {
            Some("kB") => value.checked_mul(1024),
            _ => Some(value),
        }
    })
}

/// From `/proc/stat`: for how many ticks the CPUs that are `ours` have been busy, in all, and how many of them there are.
pub(crate) fn busy_ticks(text: &str, ours: impl Fn(usize) -> bool) -> Option<(u64, u32)> {
    let mut found = None;
    // The last line may be cut short.
    let whole = text.rsplit_once('\n')?.0;
    for line in whole.lines() {
        let mut words = line.split_ascii_whitespace();
        let cpu = words.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
        if !cpu.is_some_and(&ours) {
            continue;
        }
        // user, nice, system, idle, iowait, irq, softirq; guests count among users. What comes next was stolen: nobody of
        // this machine's has used it.
        let mut busy = 0_u64;
        for (n, word) in words.take(7).enumerate() {
            let ticks = word.parse().ok()?;
            busy = if matches!(n, 3 | 4) { busy } else { busy.checked_add(ticks)? };
        }
        let (sum, cpus) = found.unwrap_or((0_u64, 0));
        found = Some((sum.checked_add(busy)?, cpus + 1));
    }
    found
}

/// Where a process stands, from `/proc/self/cgroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The path in the tree of version 2.
    pub(crate) v2: Option<String>,
    /// Controllers, and the path in their tree, of version 1.
    v1: Vec<(String, String)>,
}

impl Membership {
    /// The path in version 1's tree of `controller`.
    pub(crate) fn v1(&self, controller: &str) -> Option<&str> {
        let mut paths = self.v1.iter();
        paths.find(|(controllers, _)| names(controllers, controller)).map(|(_, path)| path.as_str())
    }
}

/// Whether a list of controllers, or of a mount's options, has this one.
fn names(list: &str, controller: &str) -> bool {
    list.split(',').any(|word| word == controller)
}

/// Reads `/proc/self/cgroup`; lines that are not understood are left out.
pub(crate) fn membership(text: &str) -> Membership {
    let mut found = Membership::default();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if !path.starts_with('/') {
            continue;
        }
        // A group that was removed while the process is in it.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if !controllers.is_empty() {
            found.v1.push((controllers.into(), path.into()));
        } else if id == "0" {
            found.v2 = Some(path.into());
        }
    }
    found
}

/// Where a tree of groups is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Which group of the tree the mount point shows: not `/` in a container that sees its own part only.
    pub(crate) root: String,
    pub(crate) point: String,
}

/// The mounts of both versions, from `/proc/self/mountinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mounts {
    pub(crate) v2: Option<Mount>,
    /// Options, among which are the controllers, and the mount, of version 1.
    v1: Vec<(String, Mount)>,
}

impl Mounts {
    /// Version 1's tree of `controller`; of several mounts the first counts.
    pub(crate) fn v1(&self, controller: &str) -> Option<&Mount> {
        let mut mounts = self.v1.iter();
        mounts.find(|(options, _)| names(options, controller)).map(|(_, mount)| mount)
    }
}

/// Reads `/proc/self/mountinfo`; of several mounts of version 2 the first counts.
pub(crate) fn mounts(text: &str) -> Mounts {
    let mut found = Mounts::default();
    for line in text.lines() {
        // ID, parent, device, root, mount point, options, any number of tags, "-", type, source, super options.
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let mut place = place.split(' ').skip(3);
        let (Some(root), Some(point)) = (place.next(), place.next()) else { continue };
        let mount = Mount { root: unescape(root), point: unescape(point) };
        let mut kind = kind.split(' ');
        let filesystem = kind.next();
        match filesystem {
            Some("cgroup2") if found.v2.is_none() => found.v2 = Some(mount),
            Some("cgroup") => found.v1.push((kind.nth(1).unwrap_or_default().into(), mount)),
            _ => {}
        }
    }
    found
}

/// A quota of CPU time in CPUs, as `cpu.max` of version 2 says it: `None` for garbage, `Some(None)` for "no limit".
pub(crate) fn cpu_max(text: &str) -> Option<Option<f64>> {
    let (quota, period) = text.trim().split_once(' ')?;
    let period = positive(period)?;
    if quota == "max" { Some(None) } else { Some(Some(positive(quota)? / period)) }
}

/// The same of version 1, from `cpu.cfs_quota_us` and `cpu.cfs_period_us`.
pub(crate) fn cfs_quota(quota: &str, period: &str) -> Option<Option<f64>> {
    let period = positive(period)?;
    match quota.trim() {
        "-1" => Some(None),
        quota => Some(Some(positive(quota)? / period)),
    }
}

fn positive(text: &str) -> Option<f64> {
    number(text).filter(|&number| number > 0).map(|number| number as f64)
}

/// mountinfo writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The directories below a mount point that a group's limits come from: its own first, then its ancestors', the
/// mount point itself last (as ""). A group that the mount does not show is taken to be the mount point.
pub(crate) fn ancestry(group: &str, mount_root: &str) -> Vec<String> {
    let below = match group.strip_prefix(mount_root.trim_end_matches('/')) {
        Some(below) if below.is_empty() || below.starts_with('/') => below,
        _ => "",
    };
    let parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
    if parts.contains(&"..") {
        // Seen from inside a namespace whose root it lies outside of.
        return vec![String::new()];
    }
    (0..=parts.len()).rev().map(|n| parts[..n].join("/")).collect()
}

/// Whether procfs may be given this as a file of pressure: it slices a line without asking for its length.
pub(crate) fn is_like_pressure(text: &str) -> bool {
    let mut lines = text.lines();
    let starts = |line: Option<&str>, word: &str| line.is_some_and(|line| line.starts_with(word));
    starts(lines.next(), "some ") && starts(lines.next(), "full ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_neither_idle_nor_waiting_for_a_disk() {
        let text =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 100 200 4 5 6 7 8\ncpu1 1 0 0 50 0 0 0 0\nintr 77 1\n";
        assert_eq!(busy_ticks(text, |_| true), Some((16, 2)));
        assert_eq!(busy_ticks(text, |cpu| cpu == 1), Some((1, 1)));
        assert_eq!(busy_ticks(text, |cpu| cpu == 2), None);
        assert_eq!(busy_ticks("cpu0 1 many 3\n", |_| true), None);
        assert_eq!(busy_ticks("cpu7 1 2 3 4 5 6 7 8\ncpu8 1 2 3 4 5 6 7 8", |_| true), Some((19, 1)));
    }

    #[test]
    fn limits_are_numbers_or_none() {
        assert_eq!(limit("536870912\n"), Some(Some(536_870_912)));
        assert_eq!(limit("max\n"), Some(None));
        assert_eq!(limit("9223372036854771712\n"), Some(None));
        for garbage in ["", "-1", "lots", "1 2", "\0"] {
            assert_eq!(limit(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn keys_are_whole_words() {
        let stat = "cache 1\ntotal_inactive_file 5\ninactive_file 7\n";
        assert_eq!(keyed(stat, "inactive_file"), Some(7));
        assert_eq!(keyed(stat, "file"), None);
        assert_eq!(keyed("MemAvailable:     100 kB\n", "MemAvailable"), Some(102_400));
        assert_eq!(keyed("MemAvailable: 18446744073709551615 kB", "MemAvailable"), None);
    }

    #[test]
    fn a_hybrid_membership_has_all_paths() {
        let text = "9:name=systemd:/\n4:memory:/a/b:c\n3:cpu,cpuacct:/x\n0::/d (deleted)\n";
        let found = membership(text);
        assert_eq!(found.v2.as_deref(), Some("/d"));
        assert_eq!((found.v1("memory"), found.v1("cpu")), (Some("/a/b:c"), Some("/x")));
        assert_eq!(found.v1("cpuset"), None);
        assert_eq!(membership("garbage\n:::\n1:memory:relative\n"), Membership::default());
    }

    #[test]
    fn mounts_are_found_by_type_and_controller() {
        let text = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    35 31 0:32 /docker/1 /sys/fs/cgroup/my\\040memory rw shared:1 - cgroup cgroup rw,memory\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = mounts(text);
        let memory = found.v1("memory").unwrap();
        assert_eq!((memory.root.as_str(), memory.point.as_str()), ("/docker/1", "/sys/fs/cgroup/my memory"));
        assert_eq!(found.v1("cpu").unwrap().point, "/sys/fs/cgroup/cpu");
        assert_eq!(found.v1("cpuset"), None);
        assert_eq!(found.v2.unwrap().point, "/sys/fs/cgroup/unified");
    }

    #[test]
    fn quotas_are_fractions_or_none() {
        assert_eq!(cpu_max("150000 100000\n"), Some(Some(1.5)));
        assert_eq!(cpu_max("max 100000\n"), Some(None));
        assert_eq!(cfs_quota("25000\n", "100000\n"), Some(Some(0.25)));
        assert_eq!(cfs_quota("-1\n", "100000\n"), Some(None));
        for garbage in ["", "max", "1", "1 0", "0 1", "-1 1", "inf 1", "1 nan", "1 2 3"] {
            assert_eq!(cpu_max(garbage), None, "{garbage:?}");
            assert_eq!(cfs_quota(garbage, "0"), None, "{garbage:?}");
        }
    }

    #[test]
    fn an_ancestry_goes_from_the_group_to_the_mount_point() {
        assert_eq!(ancestry("/a/b", "/"), ["a/b", "a", ""]);
        assert_eq!(ancestry("/", "/"), [""]);
        assert_eq!(ancestry("/docker/1/x", "/docker/1"), ["x", ""]);
        // A namespace of its own, or a mount of something else.
        assert_eq!(ancestry("/../other", "/"), [""]);
        assert_eq!(ancestry("/docker/12", "/docker/1"), [""]);
    }

    #[test]
    fn a_short_line_is_no_pressure() {
        assert!(!is_like_pressure("some"));
        assert!(!is_like_pressure("some avg10=0.00\nfull"));
        assert!(is_like_pressure("some avg10=0.00\nfull \n"));
    }
}
