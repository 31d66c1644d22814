//! What the figures were measured on.

use std::fs;
use std::process::Command;
use std::thread;

/// Processor, cores, kernel and compiler, in one line.
pub(crate) fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
    let kernel =
        kernel.map_or_else(|_| std::env::consts::OS.into(), |release| format!("Linux {}", release.trim()));
    format!("{}, {cores} cores, {kernel}, {}", cpu(), rustc())
}

fn cpu() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.into())
}

/// Which compiler.
pub(crate) fn rustc() -> String {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    match Command::new(compiler).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().into(),
        Err(_) => "rustc unknown".into(),
    }
}
