//! The thumbnails example as a child process in a control group.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use serde_json::Value;

use super::super::process::Process;
use super::group::Group;
use super::options::Options;
use crate::Failure;

/// Builds the example in release mode and says where the program is.
pub(super) fn build() -> Result<PathBuf, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(["build", "--release", "--package", "beat", "--features", "axum"])
        .args(["--example", "thumbnails", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the thumbnails example cannot be built".into());
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    messages
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "thumbnails")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo did not say where the example is".into())
}

/// A running server. Dropping it ends the process, and then the group.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) addr: SocketAddr,
    process: Process,
    /// Kept open: a program whose output nobody takes fails to print.
    _stdout: BufReader<ChildStdout>,
    pub(super) group: Group,
}

impl Server {
    pub(super) fn start(program: &Path, engine: &str, options: &Options) -> Result<Self, Failure> {
        let group = Group::new(options.limit)?;
        let script = format!("{}exec \"$@\"", group.enter());
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(program);
        command.args([
            "--addr",
            "127.0.0.1:0",
            "--engine",
            engine,
            "--workers",
            &options.workers.to_string(),
        ]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = Process(child.map_err(|error| format!("cannot run sh: {error}"))?);
        let stdout = process.0.stdout.take().ok_or("the server has no output")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let addr = line
            .split_once("http://")
            .and_then(|(_, rest)| rest.trim().trim_end_matches('/').parse().ok())
            .ok_or_else(|| format!("the server did not say where it listens: {line:?}"))?;
        Ok(Self { addr, process, _stdout: stdout, group })
    }

    /// Whether it has been killed.
    pub(super) fn is_killed(&mut self) -> bool {
        matches!(self.process.0.try_wait(), Ok(Some(status)) if status.signal() == Some(9))
    }
}
