//! Whether threads are woken that have nothing to do.

use std::fs;
use std::time::Duration;

/// Voluntary context switches of all threads of this process, by thread name.
fn switches() -> Vec<(String, u64)> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let mut switches: Vec<_> = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .map(|status| {
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            let pid = field("Pid:");
            (format!("{} {pid}", field("Name:")), field("voluntary_ctxt_switches:").parse().unwrap())
        })
        .collect();
    switches.sort();
    switches
}

/// Nothing happens for five seconds, beginning one second from now.
pub fn stays_quiet(what: &str) {
    let this = fs::read_link("/proc/thread-self").unwrap();
    let this = this.file_name().unwrap().to_str().unwrap().to_owned();
    // The thread that measures and the one that waits for it are not Beat's.
    let others = |switches: Vec<(String, u64)>| -> Vec<_> {
        switches
            .into_iter()
            .filter(|(name, _)| {
                (name.starts_with("beat") || name.starts_with("async-io")) && !name.ends_with(&this)
            })
            .collect()
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = others(switches());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(before, others(switches()), "{what}");
}
