//! Whether threads are woken, or burn CPU, that have nothing to do.

use std::fs;
use std::time::Duration;

/// What a thread has done so far.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Done {
    name: String,
    voluntary_switches: u64,
    /// In ticks of the kernel's, of 10 ms as a rule.
    cpu_time: u64,
}

/// Beat's threads in this process and async-io's own, but for the calling one.
fn threads() -> Vec<Done> {
    let this = fs::read_link("/proc/thread-self").unwrap();
    let this = this.file_name().unwrap();
    let others = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let mut threads: Vec<_> = others
        .filter(|thread| thread.file_name() != Some(this))
        .filter_map(|thread| {
            let status = fs::read_to_string(thread.join("status")).ok()?;
            let stat = fs::read_to_string(thread.join("stat")).ok()?;
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            // Behind the name, which may contain anything: state, ten numbers, user time, system time.
            let times = stat[stat.rfind(')').unwrap()..].split_whitespace().skip(12).take(2);
            Some(Done {
                name: format!("{} {}", field("Name:"), field("Pid:")),
                voluntary_switches: field("voluntary_ctxt_switches:").parse().unwrap(),
                cpu_time: times.map(|time| time.parse::<u64>().unwrap()).sum(),
            })
        })
        .filter(|thread| thread.name.starts_with("beat") || thread.name.starts_with("async-io"))
        .collect();
    threads.sort();
    threads
}

/// Nothing happens for five seconds, beginning one second from now, but that so many threads are `computing`.
pub fn stays_quiet(what: &str, computing: usize) {
    std::thread::sleep(Duration::from_secs(1));
    let before = threads();
    std::thread::sleep(Duration::from_secs(5));
    let after = threads();
    let switches = |threads: &[Done]| -> Vec<_> {
        threads.iter().map(|thread| (thread.name.clone(), thread.voluntary_switches)).collect()
    };
    assert_eq!(switches(&before), switches(&after), "{what}");
    let busy = before.iter().zip(&after).filter(|(before, after)| before.cpu_time != after.cpu_time).count();
    assert!(busy <= computing, "{busy} threads burn CPU {what}: {before:?}, then {after:?}");
}
