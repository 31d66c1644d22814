//! Each program does on Beat what it does on tokio, and its Beat form differs in five lines at most.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// By how many lines a program's forms may differ.
const MOST_LINES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run of one form prints.
fn run(name: &str, form: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_beat-interop"))
        .args([name, form])
        .env_remove("BEAT_WARN")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{name} {form} hangs: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

/// How many lines are changed between two texts: the lines of the one, or of the other if those are more, that are in
/// no longest common subsequence.
fn changed_lines(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..a.len() {
        for j in 0..b.len() {
            common[i + 1][j + 1] =
                if a[i] == b[j] { common[i][j] + 1 } else { common[i][j + 1].max(common[i + 1][j]) };
        }
    }
    a.len().max(b.len()) - common[a.len()][b.len()]
}

/// Runs all forms of a program, which must print the same, `expected` among it. `escapes`: whether a library in it
/// gives tasks to `tokio::spawn` in the Beat form, too.
fn check(name: &str, escapes: bool, expected: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/programs").join(name);
    let source = |form: &str| fs::read_to_string(folder.join(form).with_extension("rs")).unwrap();
    let (tokio, beat) = (source("tokio"), source("beat"));
    assert!(tokio.contains("#[tokio::main]") && beat.contains("#[beat::main]"));
    let changed = changed_lines(&tokio, &beat);
    assert!((1..=MOST_LINES).contains(&changed), "{name}: {changed} lines are changed");

    let outputs = ["tokio", "as-is", "beat"].map(|form| {
        let output = run(name, form);
        assert!(output.status.success(), "{name} {form}: {output:#?}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        for line in expected {
            assert!(stdout.lines().any(|l| l == *line), "{name} {form}: no {line:?} in\n{stdout}");
        }
        (stdout, String::from_utf8(output.stderr).unwrap())
    });
    let [(tokio, _), (as_is, said), (beat, said_of_beat)] = &outputs;
    assert_eq!(tokio, as_is, "{name}");
    assert_eq!(tokio, beat, "{name}");
    // As it is, a program spawns on tokio, and hears of it.
    assert!(said.contains("beat::spawn"), "{name}: {said}");
    assert_eq!(said_of_beat.contains("beat::spawn"), escapes, "{name}: {said_of_beat}");
}

#[test]
fn axum_app() {
    check("axum_app", false, &["201 then 200 text 7", "504 ", "404 "]);
}

#[test]
fn hyper() {
    check("hyper", false, &["HTTP/1.1: REQUEST 7", "HTTP/2.0: REQUEST 7"]);
}

/// reqwest's connections are tasks of tokio's.
#[test]
fn reqwest() {
    check("reqwest", true, &["Sum { of: [1, 2, 3], is: 6 }", "streamed 3890 bytes", "timed out: true"]);
}

/// tonic's client has a task of tokio's for its channel.
#[test]
fn tonic() {
    check(
        "tonic",
        true,
        &["square Ok(225)", "too large: Err(OutOfRange)", "below: 1000", "the last sum: 5050"],
    );
}

/// sqlx gives its connections back to the pool in tasks of tokio's.
#[test]
fn sqlx() {
    check("sqlx", true, &["account 0: 480", "account 3: 528", "wrong: true"]);
}

/// axum runs what is done after an upgrade as a task of tokio's.
#[test]
fn websocket() {
    check("websocket", true, &["axum: 7.19", "tungstenite: 7.19"]);
}

/// A buffer of tower's has a task of tokio's.
#[test]
fn tower() {
    check(
        "tower",
        true,
        &["no more than two at a time: true", "too slow: 408 ", "beside it: 503 ", "the first: 200 met"],
    );
}

/// The client has a task of tokio's for its connection.
#[test]
fn redis() {
    check("redis", true, &["sum 528, nothing None, set OK, got beat"]);
}

#[test]
fn tokio_all() {
    check(
        "tokio_all",
        false,
        &[
            "tcp: 100000 bytes there and back, 100000",
            "udp: 4 bytes, from the sender: true",
            "unix: 42",
            "time: timed out true, selected true",
            "sync: mpsc 4950, mutex 4950",
            "sync: cast, 2",
            "fs: three",
            "io: longer than the pipe is",
            "process: through a child, true",
            "signal: sent true, came true",
        ],
    );
}

#[test]
fn changed_lines_are_counted() {
    assert_eq!(changed_lines("a\nb\nc", "a\nb\nc"), 0);
    assert_eq!(changed_lines("a\nb\nc", "a\nx\nc"), 1);
    assert_eq!(changed_lines("a\nb\nc", "a\nc"), 1);
    assert_eq!(changed_lines("a\nb", "x\na\ny\nb\nz"), 3);
}
