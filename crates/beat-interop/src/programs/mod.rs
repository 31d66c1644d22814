//! The programs. Nothing in them knows that it is compared.

/// The file `tokio.rs` once more, in a place where `tokio::main` is Beat's.
macro_rules! as_is {
    ($name:literal) => {
        pub(super) mod as_is {
            #[allow(unused_imports, reason = "each program uses a part")]
            mod tokio {
                pub(super) use ::beat::main;
                pub(super) use ::tokio::{fs, io, net, process, select, signal, spawn, sync, task, time};
            }
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/programs/", $name, "/tokio.rs"));
        }
    };
}

mod axum_app {
    as_is!("axum_app");
    pub(super) mod beat;
    pub(super) mod tokio;
}

mod hyper {
    as_is!("hyper");
    pub(super) mod beat;
    pub(super) mod tokio;
}

mod redis {
    as_is!("redis");
    pub(super) mod beat;
    mod server;
    pub(super) mod tokio;
}

mod reqwest {
    as_is!("reqwest");
    pub(super) mod beat;
    pub(super) mod tokio;
}

mod sqlx {
    as_is!("sqlx");
    pub(super) mod beat;
    pub(super) mod tokio;
}

mod tokio_all {
    as_is!("tokio_all");
    pub(super) mod beat;
    pub(super) mod tokio;
}

mod tonic {
    as_is!("tonic");
    pub(super) mod beat;
    mod service;
    pub(super) mod tokio;
}

mod tower {
    as_is!("tower");
    pub(super) mod beat;
    pub(super) mod tokio;
}

mod websocket {
    as_is!("websocket");
    pub(super) mod beat;
    pub(super) mod tokio;
}

type Run = fn();

/// A program's name and its forms.
macro_rules! table {
    ($($name:ident)*) => {
        const PROGRAMS: &[(&str, [(&str, Run); 3])] = &[$((
            stringify!($name),
            [("tokio", $name::tokio::main), ("as-is", $name::as_is::main), ("beat", $name::beat::main)],
        ),)*];
    };
}

table! { axum_app hyper redis reqwest sqlx tokio_all tonic tower websocket }

pub(crate) fn find(name: &str, form: &str) -> Option<Run> {
    let (_, forms) = PROGRAMS.iter().find(|(n, _)| *n == name)?;
    forms.iter().find(|(f, _)| *f == form).map(|(_, run)| *run)
}

pub(crate) fn names() -> Vec<&'static str> {
    PROGRAMS.iter().map(|(name, _)| *name).collect()
}
