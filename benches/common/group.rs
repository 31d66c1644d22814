//! A control group with a memory limit, of whichever version the machine has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";
/// Where version 2 is mounted beside version 1, for its stalls.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct Group {
    /// Those that the process enters; the first has the limit.
    directories: Vec<PathBuf>,
    usage: &'static str,
}

impl Group {
    pub(super) fn new(limit: u64) -> io::Result<Self> {
        // Relaxed: any number will do.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("beat-bench.{}.{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let is_v1 = Path::new(V1).is_dir();
        let (root, file, usage) = if is_v1 {
            (V1, "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            (V2, "memory.max", "memory.current")
        };
        let mut group = Self { directories: Vec::new(), usage };
        group.make(Path::new(root).join(&name))?;
        fs::write(group.directories[0].join(file), limit.to_string())?;
        if is_v1 && Path::new(HYBRID).is_dir() {
            // Without it there are no stalls of its own, and the rest still works.
            let _ = group.make(Path::new(HYBRID).join(&name));
        }
        Ok(group)
    }

    fn make(&mut self, directory: PathBuf) -> io::Result<()> {
        fs::create_dir(&directory)?;
        self.directories.push(directory);
        Ok(())
    }

    /// A line of shell by which a process enters.
    pub(super) fn enter(&self) -> String {
        let files = self.directories.iter().map(|directory| directory.join("cgroup.procs"));
        files.map(|file| format!("echo $$ > {} && ", file.display())).collect()
    }

    /// Whether the kernel counts its stalls.
    pub(super) fn has_stalls(&self) -> bool {
        self.directories.iter().any(|directory| directory.join("memory.pressure").exists())
    }

    /// The bytes in use.
    pub(super) fn usage(&self) -> io::Result<u64> {
        let text = fs::read_to_string(self.directories[0].join(self.usage))?;
        text.trim().parse().map_err(|_| io::Error::other(format!("{} holds {text:?}", self.usage)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in &self.directories {
            // It stays busy for a moment after its last process has ended.
            for _ in 0..100 {
                if fs::remove_dir(directory).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}
