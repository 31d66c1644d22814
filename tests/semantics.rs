//! What works where: each call from each kind of place, tried, and compared with the table in docs/semantics.md.
#![cfg(all(feature = "tokio", target_os = "linux"))]

mod common;

use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use beat::{Handle, LocalSet, Runtime};
use futures::FutureExt;
use futures::executor::block_on as wait_outside;

/// What a probe found wrong, if anything.
type Found = Result<(), String>;
type Probe = Pin<Box<dyn Future<Output = Found> + Send>>;

/// A call, and what tries it. A probe awaits only what its call returns; all else in it happens at once.
struct Row {
    call: &'static str,
    probe: fn(Handle) -> Probe,
}

/// A kind of place, and how a probe gets there.
struct Column {
    place: &'static str,
    run: fn(&Runtime, Probe) -> String,
}

/// What may be said in a panic, as the table has it.
const MESSAGES: [&str; 3] = [
    "it would hold up the driver it sits in",
    "there is no reactor running",
    "no Beat runtime is current on this thread",
];

const COLUMNS: [Column; 5] = [
    Column {
        place: "a Beat task",
        run: |runtime, probe| runtime.block_on(runtime.spawn(observe(probe))).unwrap(),
    },
    Column {
        place: "`spawn_blocking_parallel`",
        run: |runtime, probe| {
            let closure = runtime.spawn_blocking_parallel(|| wait_outside(observe(probe)));
            runtime.block_on(closure).unwrap()
        },
    },
    Column {
        place: "`tokio::spawn`",
        run: |runtime, probe| {
            let _entered = runtime.enter();
            runtime.block_on(tokio::spawn(observe(probe))).unwrap()
        },
    },
    Column {
        place: "a thread that has entered the runtime",
        run: |runtime, probe| {
            let handle = runtime.handle().clone();
            let outside = move || {
                let _entered = handle.enter();
                wait_outside(observe(probe))
            };
            std::thread::spawn(outside).join().unwrap()
        },
    },
    Column {
        place: "any other thread",
        run: |_, probe| std::thread::spawn(|| wait_outside(observe(probe))).join().unwrap(),
    },
];

tokio::task_local! {
    static NUMBER: u32;
}

fn check(holds: bool, what: &str) -> Found {
    if holds { Ok(()) } else { Err(what.into()) }
}

const ROWS: [Row; 16] = [
    Row {
        call: "`Handle::current`",
        probe: |_| probe(async { check(Handle::current().metrics().workers > 0, "no workers") }),
    },
    Row {
        call: "`Handle::block_on`",
        probe: |handle| {
            probe(async move {
                let task = handle.spawn(async { 5 });
                check(handle.block_on(task).unwrap() == 5, "another value")
            })
        },
    },
    Row {
        call: "`JoinHandle::join`",
        probe: |handle| {
            probe(async move { check(handle.spawn(async { 5 }).join().unwrap() == 5, "another value") })
        },
    },
    Row {
        call: "`LocalSet::block_on`",
        probe: |handle| {
            probe(async move {
                let value = LocalSet::new().block_on(&handle, async {
                    let local = Rc::new(5);
                    beat::task::spawn_local(async move { *local }).await.unwrap()
                });
                check(value == 5, "another value")
            })
        },
    },
    Row {
        call: "`block_in_place`",
        probe: |_| probe(async { check(beat::block_in_place(|| 5) == 5, "another value") }),
    },
    Row {
        call: "`join`, `scope`",
        probe: |_| {
            probe(async {
                let mut halves = [0, 0];
                let [left, right] = &mut halves;
                beat::scope(|scope| {
                    scope.spawn(|_| *left = 1);
                    scope.spawn(|_| *right = 2);
                });
                check(common::fib(10) == 55 && halves == [1, 2], "another value")
            })
        },
    },
    Row {
        call: "`beat::spawn`",
        probe: |_| probe(async { check(beat::spawn(async { 5 }).await.unwrap() == 5, "another value") }),
    },
    Row {
        call: "`beat::spawn_blocking`",
        probe: |_| probe(async { check(beat::spawn_blocking(|| 5).await.unwrap() == 5, "another value") }),
    },
    Row {
        call: "`beat::spawn_blocking_parallel`",
        probe: |_| {
            probe(async { check(beat::spawn_blocking_parallel(|| 5).await.unwrap() == 5, "another value") })
        },
    },
    Row {
        call: "aborting a task",
        probe: |_| {
            probe(async {
                let task = beat::spawn(pending::<()>());
                task.abort();
                check(task.await.unwrap_err().is_cancelled(), "not cancelled")
            })
        },
    },
    Row {
        call: "a panic in a spawned task",
        probe: |_| {
            probe(async {
                let error = beat::spawn(async { panic!("meant") }).await.unwrap_err();
                check(error.is_panic(), "no panic")
            })
        },
    },
    Row {
        call: "`tokio::task_local!`",
        probe: |_| {
            probe(NUMBER.scope(5, async {
                beat::yield_now().await;
                let spawned = beat::spawn(async { NUMBER.try_get().is_err() }).await.unwrap();
                let inner = NUMBER.sync_scope(6, || NUMBER.get());
                check(spawned && inner == 6 && NUMBER.get() == 5, "another value")
            }))
        },
    },
    Row {
        call: "`tokio::time`",
        probe: |_| {
            probe(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let late = tokio::time::timeout(Duration::from_millis(1), pending::<()>()).await;
                check(late.is_err(), "in time")
            })
        },
    },
    Row {
        call: "`tokio::fs`",
        probe: |_| {
            probe(async {
                let read = tokio::fs::read_to_string("Cargo.toml").await;
                check(read.map_err(|error| error.to_string())?.contains("[package]"), "another file")
            })
        },
    },
    Row {
        call: "`tokio::process`",
        probe: |_| {
            probe(async {
                let status = tokio::process::Command::new("true").status().await;
                check(status.map_err(|error| error.to_string())?.success(), "it failed")
            })
        },
    },
    Row {
        call: "`tokio::signal`",
        probe: |_| {
            probe(async {
                let kind = tokio::signal::unix::SignalKind::user_defined2();
                let mut signals = tokio::signal::unix::signal(kind).map_err(|error| error.to_string())?;
                // SAFETY: a handler for it has been set.
                check(unsafe { libc::raise(libc::SIGUSR2) } == 0, "not raised")?;
                check(signals.recv().await.is_some(), "not received")
            })
        },
    },
];

fn probe(future: impl Future<Output = Found> + Send + 'static) -> Probe {
    Box::pin(future)
}

/// Runs a probe, and says how it ended: a cell of the table.
async fn observe(probe: Probe) -> String {
    match AssertUnwindSafe(probe).catch_unwind().await {
        Ok(Ok(())) => "works".into(),
        Ok(Err(error)) => format!("fails: {error}"),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
            let known = MESSAGES.iter().find(|message| text.contains(**message));
            format!("panics: “{}”", known.map_or(text.as_str(), |message| message))
        }
    }
}

/// One line of the table.
fn line(cells: impl IntoIterator<Item = String>) -> String {
    cells.into_iter().fold("|".into(), |line, cell| format!("{line} {cell} |")) + "\n"
}

#[test]
fn the_table_in_the_docs_is_what_happens() {
    let documented = include_str!("../docs/semantics.md");
    for workers in [1, 2, 4] {
        let runtime = common::runtime(workers);
        let mut table = line(["from".into()].into_iter().chain(COLUMNS.iter().map(|c| c.place.into())));
        table += &line(std::iter::repeat_n("---".into(), COLUMNS.len() + 1));
        for row in &ROWS {
            let cells = COLUMNS.iter().map(|column| {
                let probe = (row.probe)(runtime.handle().clone());
                common::within(Duration::from_secs(60), || (column.run)(&runtime, probe))
            });
            table += &line([row.call.into()].into_iter().chain(cells));
        }
        println!("with {workers} workers:\n{table}");
        for line in table.lines() {
            assert!(
                documented.contains(line),
                "docs/semantics.md does not say this line:\n{line}\nof\n{table}"
            );
        }
        let alone = format!("\n\n{table}\n");
        assert!(
            documented.contains(&alone),
            "docs/semantics.md has other lines, or in another order, than\n{table}"
        );
    }
}
