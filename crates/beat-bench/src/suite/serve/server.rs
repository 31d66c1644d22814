//! The servers that are compared: one router, three ways to serve it.

use std::fmt;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::super::stalls::engine::{Engine, Runtime};
use crate::Failure;

/// What is asked for, and what it costs.
pub(super) const PATHS: [(&str, &str); 2] = [("/", "two bytes"), ("/work", "50 µs of computing")];
const WORK: Duration = Duration::from_micros(50);

fn router() -> Router {
    let work = || async {
        let began = Instant::now();
        let mut n = 1_u64;
        while began.elapsed() < WORK {
            n = black_box(n.wrapping_mul(6_364_136_223_846_793_005));
        }
        "ok"
    };
    Router::new().route("/", get(|| async { "ok" })).route("/work", get(work))
}

/// Who serves, on which runtime.
#[derive(Clone, Copy, Debug)]
pub(super) enum Server {
    BeatServe,
    AxumServeOnBeat,
    AxumServeOnTokio,
}

impl Server {
    pub(super) const ALL: [Self; 3] = [Self::BeatServe, Self::AxumServeOnBeat, Self::AxumServeOnTokio];

    pub(super) fn start(self, workers: usize) -> Result<Running, Failure> {
        let engine = if let Self::AxumServeOnTokio = self { Engine::Tokio } else { Engine::Beat };
        let runtime = engine.start(workers)?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?;
        runtime.spawn(async move {
            // They serve until the runtime ends.
            let _ = match self {
                Self::BeatServe => beat::serve(listener, router()).await,
                Self::AxumServeOnBeat | Self::AxumServeOnTokio => axum::serve(listener, router()).await,
            };
        });
        Ok(Running { addr, _runtime: runtime })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeatServe => "`beat::serve`, Beat",
            Self::AxumServeOnBeat => "`axum::serve`, Beat",
            Self::AxumServeOnTokio => "`axum::serve`, tokio multi-thread",
        })
    }
}

/// Dropping it ends the server.
#[derive(Debug)]
pub(super) struct Running {
    addr: SocketAddr,
    _runtime: Runtime,
}

impl Running {
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}
