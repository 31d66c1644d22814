//! A control group with a CPU quota or a set of CPUs, of whichever version the machine has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";
/// The quota's period, in microseconds.
const PERIOD: u64 = 100_000;

/// What a group is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Quota,
    Cpuset,
}

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct CpuGroup {
    directory: PathBuf,
    is_v1: bool,
}

impl CpuGroup {
    pub(super) fn new(controller: Controller) -> io::Result<Self> {
        let name = match controller {
            Controller::Quota => "cpu",
            Controller::Cpuset => "cpuset",
        };
        let named = [name, "cpu,cpuacct"].map(|name| Path::new(ROOT).join(name));
        let mut v1 = named.into_iter().filter(|mount| mount.is_dir());
        let mount = v1.next();
        let is_v1 = mount.is_some();
        if !is_v1 {
            fs::write(Path::new(ROOT).join("cgroup.subtree_control"), format!("+{name}"))?;
        }
        Self::make(mount.unwrap_or_else(|| ROOT.into()), is_v1, controller)
    }

    /// A group below this one, with no limit of its own.
    pub(super) fn child(&self, controller: Controller) -> io::Result<Self> {
        if !self.is_v1 {
            fs::write(self.directory.join("cgroup.subtree_control"), "+cpu")?;
        }
        Self::make(self.directory.clone(), self.is_v1, controller)
    }

    fn make(parent: PathBuf, is_v1: bool, controller: Controller) -> io::Result<Self> {
        // Relaxed: any number will do.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("beat.{}.{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let group = Self { directory: parent.join(name), is_v1 };
        fs::create_dir(&group.directory)?;
        if controller == Controller::Cpuset && is_v1 {
            // Without both it takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                group.write(file, &fs::read_to_string(parent.join(file))?)?;
            }
        }
        Ok(group)
    }

    /// So many CPUs' time; as much as there is, if that is infinite.
    pub(super) fn set_quota(&self, cpus: f64) -> io::Result<()> {
        let quota = match (cpus.is_finite(), self.is_v1) {
            (true, _) => ((cpus * PERIOD as f64) as u64).to_string(),
            (false, true) => "-1".into(),
            (false, false) => "max".into(),
        };
        if self.is_v1 {
            self.write("cpu.cfs_period_us", &PERIOD.to_string())?;
            self.write("cpu.cfs_quota_us", &quota)
        } else {
            self.write("cpu.max", &format!("{quota} {PERIOD}"))
        }
    }

    /// These CPUs, in the kernel's form.
    pub(super) fn set_cpus(&self, cpus: &str) -> io::Result<()> {
        self.write("cpuset.cpus", cpus)
    }

    /// In how many periods the kernel has stopped it so far, and for how long.
    pub(super) fn throttled(&self) -> io::Result<(u64, Duration)> {
        let text = fs::read_to_string(self.directory.join("cpu.stat"))?;
        let read = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        let time = read("throttled_usec ").map(Duration::from_micros);
        let time = time.or_else(|| read("throttled_time ").map(Duration::from_nanos));
        let periods = read("nr_throttled ").zip(time);
        periods.ok_or_else(|| io::Error::other(format!("cpu.stat holds {text:?}")))
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.directory.join(file), text)
    }

    /// A line of shell by which a process enters.
    pub(super) fn enter(&self) -> String {
        format!("echo $$ > {} && ", self.directory.join("cgroup.procs").display())
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        // It stays busy for a moment after its last process has ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
