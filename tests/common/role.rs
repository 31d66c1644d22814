//! A test that starts itself again as another process, in some role, and talks to that a line at a time.

use std::io::{self, BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Says to the started test who it is.
const ROLE: &str = "BEAT_TEST_ROLE";

/// The role that this process was started in.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// This program, in a role.
pub struct Role {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Role {
    /// Starts `test` of this program again, after a line of shell.
    pub fn start(role: &str, test: &str, before: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let script = format!("{before} exec \"$0\" --exact --nocapture \"$1\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, program.to_str().unwrap(), test])
            .env(ROLE, role)
            .env_remove("BEAT_WORKERS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, to, from }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, what: &str) {
        writeln!(self.to, "{what}").unwrap();
    }

    /// The next line that is ours, and not the test harness's.
    pub fn answer(&mut self) -> String {
        let line = self
            .from
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("> ").map(str::to_owned));
        line.expect("it lives")
    }

    pub fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
pub fn say(line: impl std::fmt::Display) {
    println!("\n> {line}");
    io::stdout().flush().unwrap();
}

/// What it is told.
pub fn orders() -> impl Iterator<Item = String> {
    io::stdin().lines().map(Result::unwrap)
}
