//! The command line: what the service is asked to do, or a sentence that says what is wrong.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

use super::engine::Engine;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
A web service that searches source code with regular expressions.

Usage: search [OPTIONS] [DIR]

  DIR               what to search [default: the sources that cargo has downloaded
                    ($CARGO_HOME/registry/src), else the current directory]
  --addr IP:PORT    where to listen; port 0 takes any free port [default: 127.0.0.1:8080]
  --engine ENGINE   beat, tokio-blocking or tokio-rayon [default: beat]
  --workers N       threads that do the work [default: one for each core]
  --help            this text
";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Run the service.
    Serve(Args),
    /// Print [`HELP`].
    Help,
}

/// The options of a run.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) root: PathBuf,
    pub(crate) addr: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) workers: usize,
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, lexopt::Error> {
    let mut root = None;
    let mut addr = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut engine = Engine::Beat;
    let mut workers = std::thread::available_parallelism().map_or(1, usize::from);

    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("addr") => {
                addr = parser
                    .value()?
                    .parse_with(|text| text.parse().map_err(|_| "write IP:PORT, such as 127.0.0.1:8080"))?;
            }
            Long("engine") => engine = parser.value()?.parse()?,
            Long("workers") => {
                workers = parser.value()?.parse_with(|text| match text.parse() {
                    Ok(n @ 1..=1024) => Ok(n),
                    _ => Err("write a number from 1 to 1024"),
                })?;
            }
            Short('h') | Long("help") => return Ok(Invocation::Help),
            Value(dir) if root.is_none() => root = Some(PathBuf::from(dir)),
            Value(second) => {
                let second = second.to_string_lossy();
                return Err(format!("one DIR is enough, but {second:?} is a second one").into());
            }
            _ => return Err(arg.unexpected()),
        }
    }
    let root = root.unwrap_or_else(default_root);
    Ok(Invocation::Serve(Args { root, addr, engine, workers }))
}

/// The sources that cargo has downloaded, if there are any; else the current directory.
fn default_root() -> PathBuf {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    cargo_home
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .and_then(|home| sources(&home.join("registry").join("src")))
        .unwrap_or_else(|| PathBuf::from("."))
}

/// The directory with the sources of all registries; of the only one, where there is only one.
fn sources(all: &Path) -> Option<PathBuf> {
    let mut registries = std::fs::read_dir(all).ok()?;
    let first = registries.next()?.ok()?.path();
    Some(if registries.next().is_none() && first.is_dir() { first } else { all.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> Args {
        match parse(args.iter().map(OsString::from)) {
            Ok(Invocation::Serve(args)) => args,
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    fn error(args: &[&str]) -> String {
        parse(args.iter().map(OsString::from)).unwrap_err().to_string()
    }

    #[test]
    fn no_arguments_search_something_on_port_8080() {
        let args = serve(&[]);
        assert_eq!(args.addr.to_string(), "127.0.0.1:8080");
        assert_eq!(args.engine, Engine::Beat);
        assert!(args.workers >= 1);
        assert!(args.root.is_dir());
    }

    #[test]
    fn every_option_is_read() {
        let args = serve(&["--engine=tokio-rayon", "--workers", "3", "--addr", "[::1]:0", "src"]);
        assert_eq!(args.engine, Engine::TokioRayon);
        assert_eq!(args.workers, 3);
        assert_eq!(args.addr.to_string(), "[::1]:0");
        assert_eq!(args.root, Path::new("src"));
    }

    #[test]
    fn help_wins() {
        assert!(matches!(parse(["--help".into()]), Ok(Invocation::Help)));
    }

    #[test]
    fn mistakes_say_what_to_write_instead() {
        assert!(error(&["--addr", "8080"]).contains("127.0.0.1:8080"));
        assert!(error(&["--workers", "0"]).contains("from 1 to 1024"));
        assert!(error(&["--engine", "smol"]).contains("tokio-rayon"));
        assert!(error(&["a", "b"]).contains("\"b\""));
        assert!(error(&["--port", "1"]).contains("--port"));
    }
}
