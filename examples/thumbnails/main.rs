//! A web service that makes thumbnails, and outlives a rush for them.
//!
//! It promises one thing: offered more pictures than it has memory for, it says "503, come back in a second" to those
//! it cannot hold, keeps its light routes prompt, and is not killed. Start it, and open the printed address:
//!
//! ```text
//! cargo run --release --example thumbnails --features axum -- [DIR]
//! ```
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | a gallery of what is in DIR, or of pictures that the service draws itself |
//! | `GET /thumb/NAME[?width=N]` | a thumbnail as JPEG; 503 with `Retry-After` if there is no memory for it |
//! | `POST /thumb[?width=N]` | the same of an uploaded PNG or JPEG |
//! | `GET /pressure` | level, headroom and counts, as JSON |
//! | `GET /healthz` | `ok`, always |
//!
//! How a request passes through: [`http`] reads the picture's head, which says how large it will be when decoded
//! ([`picture`]); the [`engine`] reserves that much and runs one closure that decodes, shrinks and encodes.
//! `--engine` runs the same handlers on tokio's blocking pool, with and without a semaphore, for comparison.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;

pub(crate) mod args;
pub(crate) mod engine;
pub(crate) mod http;
pub(crate) mod picture;

use args::{Args, Invocation};
use picture::Gallery;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Serve(args)) => args,
        Ok(Invocation::Help) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("thumbnails: {error}\nTry `--help`.");
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("thumbnails: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the service until Ctrl-C.
pub(crate) fn run(args: Args) -> Result<(), String> {
    let Args { dir, addr, engine, workers } = args;
    let gallery = match &dir {
        Some(dir) => Gallery::read(dir).map_err(|error| {
            format!("cannot read {}: {error}. Name a directory with PNG or JPEG files.", dir.display())
        })?,
        None => Gallery::drawn(),
    };
    let pictures = gallery.len();
    let service = async move {
        let listener = TcpListener::bind(addr).await.map_err(|error| cannot_listen(addr, &error))?;
        let addr = listener.local_addr().map_err(|error| cannot_listen(addr, &error))?;
        // A service goes on although nobody reads what it says.
        let _ = writeln!(
            io::stdout(),
            "Listening on http://{addr}/\n{pictures} pictures, on {engine}, workers: {workers}. Ctrl-C stops."
        );
        let router = http::router(Arc::new(http::Service::new(engine, gallery)));
        engine
            .serve(listener, router, interrupt())
            .await
            .map_err(|error| format!("the service failed: {error}"))
    };
    engine
        .block_on(workers, service)
        .map_err(|error| format!("cannot start {workers} workers: {error}. Try fewer with `--workers N`."))?
}

fn cannot_listen(addr: SocketAddr, error: &io::Error) -> String {
    format!("cannot listen on {addr}: {error}. Choose another address with `--addr IP:PORT`.")
}

/// Resolves at Ctrl-C; never, where the signal cannot be watched.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
