//! A web service that searches source code with regular expressions.
//!
//! It promises one thing: requests that scan gigabytes and requests that only say "ok" share the
//! same few threads, and the second kind does not wait for the first.
//! Start it, open the printed address, and type:
//!
//! ```text
//! cargo run --release --example search --features axum,rayon -- [DIR]
//! ```
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | a page with search-as-you-type |
//! | `GET /search?q=REGEX[&limit=N][&case=i]` | matches as NDJSON, streamed as they are found |
//! | `GET /stats` | what the page's status line shows, as JSON |
//! | `GET /healthz` | `ok` |
//! | `GET /metrics` | counters and histograms as Prometheus text |
//!
//! How a search passes through: [`http`] asks the [`engine`] to run one closure; the closure
//! ([`search`]) walks the directories ([`walk`]) and scans files ([`scan`]) by parallel loops inside each other;
//! rows go back through a channel into the response body, and dropping that body cancels the closure.
//! `--engine` runs the very same code on tokio's blocking pool or on rayon, for comparison.

use std::io::{self, ErrorKind, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future::{Either, select};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub(crate) mod args;
pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod probe;
pub(crate) mod scan;
pub(crate) mod search;
pub(crate) mod stats;
#[cfg(test)]
mod tests;
pub(crate) mod walk;

use args::{Args, Invocation};
use engine::Engine;

/// How long searches may go on after the first Ctrl-C.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Serve(args)) => args,
        Ok(Invocation::Help) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("search: {error}\nTry `--help`.");
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("search: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Why the service could not run, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

/// Runs the service until Ctrl-C.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let root = searchable(&args)?;
    let Args { engine, workers, addr, .. } = args;
    let service = async move {
        let listener = TcpListener::bind(addr).await.map_err(|error| cannot_listen(addr, &error))?;
        let addr = listener.local_addr().map_err(|error| cannot_listen(addr, &error))?;
        // A service goes on although nobody reads what it says.
        let _ = writeln!(
            io::stdout(),
            "Listening on http://{addr}/\nSearching {} on {engine}, workers: {workers}. \
             Ctrl-C stops.",
            root.display()
        );
        let service = Arc::new(http::Service::new(engine, workers, root, addr));
        until_interrupted(engine, listener, http::router(service))
            .await
            .map_err(|error| Failure { message: format!("the service failed: {error}"), code: 1 })
    };
    engine.block_on(workers, service).map_err(|error| Failure {
        message: format!("cannot start {workers} workers: {error}. Try fewer with `--workers N`."),
        code: 1,
    })?
}

/// The directory to search, absolute; or the exit code 2 and what is wrong with it.
fn searchable(args: &Args) -> Result<std::path::PathBuf, Failure> {
    let dir = args.root.display();
    let wrong = |why: &dyn std::fmt::Display| Failure {
        message: format!("cannot search {dir}: {why}. Name a directory: `search DIR`."),
        code: 2,
    };
    let root = args.root.canonicalize().map_err(|error| wrong(&error))?;
    // Listing it now turns "permission denied" into a message instead of an empty result.
    std::fs::read_dir(&root).map_err(|error| wrong(&error))?;
    Ok(root)
}

fn cannot_listen(addr: std::net::SocketAddr, error: &io::Error) -> Failure {
    let message = if error.kind() == ErrorKind::AddrInUse {
        let ip = addr.ip();
        format!(
            "{addr} is taken by another program. Choose another port with `--addr {}`, \
             or let the system choose with `--addr {}`.",
            std::net::SocketAddr::new(ip, addr.port().wrapping_add(1).max(1024)),
            std::net::SocketAddr::new(ip, 0),
        )
    } else {
        format!("cannot listen on {addr}: {error}. Choose another address with `--addr IP:PORT`.")
    };
    Failure { message, code: 1 }
}

/// Serves until Ctrl-C, then lets running responses end: for [`GRACE`], or until a second Ctrl-C.
async fn until_interrupted(engine: Engine, listener: TcpListener, router: Router) -> io::Result<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    let served = engine.serve(listener, router, async {
        let _ = stopped.await;
    });
    let interrupted = async {
        interrupt().await;
        eprintln!("Finishing the running searches; Ctrl-C again stops at once.");
        let _ = stop.send(());
        let again = pin!(interrupt());
        let grace = pin!(tokio::time::sleep(GRACE));
        select(again, grace).await;
    };
    // Leaving early drops the runtime's tasks, with them the response bodies, and so cancels
    // whatever still scans.
    match select(pin!(served), pin!(interrupted)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Ok(()),
    }
}

/// Resolves at Ctrl-C; never, where the signal cannot be watched.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
