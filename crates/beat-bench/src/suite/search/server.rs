//! The search example as a child process.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::super::clock::CpuClock;
use super::super::process::Process;
use super::http;
use super::options::Options;
use crate::Failure;

/// Builds the example in release mode and says where the program is.
pub(super) fn build() -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(["build", "--release", "--package", "beat", "--features", "axum,rayon"])
        .args(["--example", "search", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the search example cannot be built".into());
    }
    program(&output.stdout).ok_or_else(|| "cargo did not say where the example is".into())
}

/// The example's path in cargo's messages.
fn program(messages: &[u8]) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "search")
        .filter(|message| message["target"]["kind"][0] == "example")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// A running server. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Server {
    addr: SocketAddr,
    cpu: CpuClock,
    _process: Process,
    /// Kept open: a program whose output nobody takes fails to print.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    pub(super) fn start(program: &Path, engine: &str, options: &Options) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1:0", "--engine", engine, "--workers"]);
        command.arg(options.workers.to_string()).args(&options.dir);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let cannot_run = |error| format!("cannot run {}: {error}", program.display());
        let mut process = Process(child.map_err(cannot_run)?);

        let stdout = process.0.stdout.take().ok_or("the server has no output")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let addr = line
            .split_once("http://")
            .and_then(|(_, rest)| rest.trim().trim_end_matches('/').parse().ok())
            .ok_or_else(|| format!("the server did not say where it listens: {line:?}"))?;
        let cpu = CpuClock::of(process.0.id())?;
        http::get(addr, "/healthz")?;
        Ok(Server { addr, cpu, _process: process, _stdout: stdout })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The CPU time used so far.
    pub(super) fn cpu(&self) -> io::Result<Duration> {
        self.cpu.read()
    }

    /// What the server has done so far.
    pub(super) fn totals(&self) -> io::Result<Totals> {
        let text = http::get(self.addr, "/metrics")?;
        Ok(Totals {
            completed: metric(&text, "search_completed_total")?,
            cancelled: metric(&text, "search_cancelled_total")?,
            bytes: metric(&text, "search_scanned_bytes_total")?,
            cpu: self.cpu()?,
        })
    }
}

/// Sums since the server's start, or over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) completed: u64,
    pub(super) cancelled: u64,
    pub(super) bytes: u64,
    pub(super) cpu: Duration,
}

impl Totals {
    pub(super) fn since(&self, earlier: &Totals) -> Totals {
        Totals {
            completed: self.completed - earlier.completed,
            cancelled: self.cancelled - earlier.cancelled,
            bytes: self.bytes - earlier.bytes,
            cpu: self.cpu - earlier.cpu,
        }
    }
}

/// One number of a Prometheus text.
fn metric(text: &str, name: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("/metrics has no {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_found_in_cargo_s_messages() {
        let messages =
            br#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"search"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"kind":["example"],"name":"search"},"executable":"/x/search"}
"#;
        assert_eq!(program(messages), Some("/x/search".into()));
        assert_eq!(program(b""), None);
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a x\na_total 3\na 7\n";
        assert_eq!(metric(text, "a").unwrap(), 7);
        assert_eq!(metric(text, "a_total").unwrap(), 3);
        assert!(metric(text, "b").is_err());
    }
}
