//! The kernel's texts about control groups, as no kernel writes them: `cargo +nightly fuzz run pressure`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use procfs::FromRead;

#[path = "../../src/os/parse.rs"]
mod parse;

fuzz_target!(|text: &str| {
    if let Some(Some(limit)) = parse::limit(text) {
        assert_eq!(parse::number(text), Some(limit));
    }
    for key in ["inactive_file", "total_inactive_file", "MemAvailable", ""] {
        let _ = parse::keyed(text, key);
    }
    for quota in [parse::cpu_max(text), parse::cfs_quota(text, "100000"), parse::cfs_quota("100000", text)] {
        assert!(quota.flatten().is_none_or(|quota| quota > 0.0 && quota.is_finite()));
    }
    let _ = parse::busy_ticks(text, |cpu| cpu % 2 == 0);
    let membership = parse::membership(text);
    let mounts = parse::mounts(text);
    // A group and a mount from the same text, and the text itself as both.
    let groups = [membership.v1("memory"), membership.v2.as_deref(), Some(text)];
    let roots = [mounts.v1("memory"), mounts.v2.as_ref()].map(|mount| mount.map(|m| m.root.as_str()));
    for group in groups.into_iter().flatten() {
        for root in roots.into_iter().flatten().chain(["/", text]) {
            let ancestry = parse::ancestry(group, root);
            // It ends at the mount point, and never leaves it.
            assert_eq!(ancestry.last().map(String::as_str), Some(""));
            assert!(ancestry.iter().all(|directory| !directory.starts_with('/')));
            assert!(ancestry.iter().all(|directory| directory.split('/').all(|part| part != "..")));
        }
    }
    // What is let through to procfs must not make it panic.
    if parse::is_like_pressure(text) {
        let _ = procfs::MemoryPressure::from_read(text.as_bytes());
    }
});
