//! The tokio driver: its I/O and timers work in tasks, whatever the workers do, and end with the runtime.
#![cfg(feature = "tokio")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use beat::Handle;
use common::{Drops, Latch, at_each_size, fib};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An echo server on a port of its own; serves until the runtime ends.
async fn echo_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(beat::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(beat::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..read]).await.unwrap();
                }
            }));
        }
    }));
    address
}

async fn echo(stream: &mut TcpStream, byte: u8) {
    stream.write_all(&[byte]).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), byte);
}

/// Closures that fill every worker until the guard is dropped: half of them fork, half do not.
struct Full(Arc<AtomicBool>, Vec<beat::JoinHandle<()>>);

impl Full {
    fn of(handle: &Handle) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = handle.metrics().workers;
        let begun: Vec<_> = (0..workers).map(|_| Latch::new()).collect();
        let closures = (0..workers)
            .map(|i| {
                let (stop, begun) = (Arc::clone(&stop), Arc::clone(&begun[i]));
                handle.spawn_blocking_parallel(move || {
                    begun.set();
                    while !stop.load(SeqCst) {
                        if i % 2 == 0 {
                            fib(10);
                        } else {
                            std::hint::spin_loop();
                        }
                    }
                })
            })
            .collect();
        begun.iter().for_each(|begun| begun.wait());
        Self(stop, closures)
    }

    fn end(self, runtime: &beat::Runtime) {
        self.0.store(true, SeqCst);
        for closure in self.1 {
            runtime.block_on(closure).unwrap();
        }
    }
}

#[test]
fn sockets_and_timers_work() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let address = echo_server().await;
            let clients: Vec<_> = (0..20_u8)
                .map(|i| {
                    beat::spawn(async move {
                        let mut stream = TcpStream::connect(address).await.unwrap();
                        for j in 0..20 {
                            echo(&mut stream, i ^ j).await;
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
            let start = Instant::now();
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(start.elapsed() >= Duration::from_millis(5));
            let late = tokio::time::timeout(Duration::from_millis(2), std::future::pending::<()>());
            assert!(beat::spawn(late).await.unwrap().is_err());
            assert_eq!(tokio::task::spawn_blocking(|| 5).await.unwrap(), 5);
            assert!(tokio::fs::metadata("/").await.unwrap().is_dir());
        });
    });
}

#[test]
fn sockets_and_timers_work_while_every_worker_computes() {
    at_each_size(|runtime| {
        let address = runtime.block_on(echo_server());
        let full = Full::of(runtime.handle());
        let client = runtime.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for i in 0..50 {
                echo(&mut stream, i).await;
                tokio::time::sleep(Duration::from_micros(100)).await;
                beat::spawn(beat::yield_now()).await.unwrap();
            }
        });
        runtime.block_on(client).unwrap();
        // From a foreign thread, too.
        assert_eq!(runtime.block_on(runtime.spawn(async { 3 })).unwrap(), 3);
        assert!(runtime.metrics().duty_wakeups > 0);
        full.end(runtime);
    });
}

/// Nothing but the socket tells of it: no task is spawned or woken, so somebody must sit in the driver already.
#[test]
fn an_event_from_outside_is_taken_while_every_worker_computes() {
    use std::io::{Read, Write};
    at_each_size(|runtime| {
        let address = runtime.block_on(echo_server());
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut answer = [0];
        stream.write_all(&[1]).unwrap();
        stream.read_exact(&mut answer).unwrap();
        let full = Full::of(runtime.handle());
        stream.write_all(&[2]).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [2]);
        full.end(runtime);
    });
}

#[test]
fn a_closure_that_wakes_a_task_need_not_end_for_it_to_run() {
    at_each_size(|runtime| {
        let (there, back) = (common::Gate::new(), Latch::new());
        let task = runtime.spawn({
            let (there, back) = (Arc::clone(&there), Arc::clone(&back));
            async move {
                there.wait().await;
                back.set();
            }
        });
        let full = Full::of(runtime.handle());
        // One more waits its turn; when it has it, it wakes a task and waits for it without forking.
        let waker = runtime.spawn_blocking_parallel(move || {
            there.open();
            while !back.wait_timeout(Duration::ZERO) {
                std::hint::spin_loop();
            }
        });
        full.end(runtime);
        runtime.block_on(waker).unwrap();
        runtime.block_on(task).unwrap();
    });
}

#[test]
fn a_poll_that_does_not_end_strands_nobody() {
    at_each_size(|runtime| {
        let address = runtime.block_on(echo_server());
        let stop = Arc::new(AtomicBool::new(false));
        // On every worker a poll that spins, with tasks behind it in its own queue.
        let workers = runtime.metrics().workers;
        let stuck: Vec<_> = (0..workers)
            .map(|_| {
                let stop = Arc::clone(&stop);
                runtime.spawn(async move {
                    let behind = beat::spawn(async { 1 });
                    while !stop.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    behind.await.unwrap()
                })
            })
            .collect();
        let client = runtime.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for i in 0..20 {
                echo(&mut stream, i).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        runtime.block_on(client).unwrap();
        stop.store(true, SeqCst);
        for task in stuck {
            assert_eq!(runtime.block_on(task).unwrap(), 1);
        }
    });
}

/// A poll spins until a task runs that it has spawned itself: the watchdog passes its queue on.
#[test]
fn a_poll_that_waits_for_its_own_queue_gets_up() {
    at_each_size(|runtime| {
        for _ in 0..20 {
            let task = runtime.spawn(async {
                let done = Arc::new(AtomicBool::new(false));
                let inner = beat::spawn({
                    let done = Arc::clone(&done);
                    async move { done.store(true, SeqCst) }
                });
                while !done.load(SeqCst) {
                    std::hint::spin_loop();
                }
                inner.await.unwrap();
            });
            runtime.block_on(task).unwrap();
        }
    });
}

#[test]
fn what_goes_to_tokio_spawn_runs_too() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let foreign = tokio::spawn(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                beat::spawn(async { fib(10) }).await.unwrap()
            });
            assert_eq!(foreign.await.unwrap(), 55);
            let full = Full::of(&Handle::current());
            assert_eq!(tokio::spawn(async { 6 }).await.unwrap(), 6);
            full.0.store(true, SeqCst);
            // A join in there is legal as well.
            assert_eq!(tokio::spawn(async { fib(12) }).await.unwrap(), 144);
        });
    });
}

#[test]
fn block_on_inside_tokio_spawn_is_refused() {
    at_each_size(|runtime| {
        let foreign = runtime.block_on(async {
            tokio::spawn(async { common::panic_message(|| Handle::current().block_on(async {})) })
                .await
                .unwrap()
        });
        assert!(foreign.contains("Spawn the task with `beat::spawn`"), "{foreign}");
    });
}

#[test]
fn shutdown_drops_tasks_that_wait_for_timers_and_sockets() {
    at_each_size(|outer| {
        let runtime = common::runtime(outer.metrics().workers);
        let drops = Drops::default();
        runtime.block_on(async {
            let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
            let ready = common::Gate::new();
            for i in 0..40 {
                let (guard, listener, ready) = (drops.guard(), Arc::clone(&listener), Arc::clone(&ready));
                drop(beat::spawn(async move {
                    let _guard = guard;
                    if i == 39 {
                        ready.open();
                    }
                    if i % 2 == 0 {
                        tokio::time::sleep(Duration::from_secs(1000)).await;
                    } else {
                        let _ = listener.accept().await;
                    }
                }));
            }
            ready.wait().await;
        });
        drop(runtime);
        assert_eq!(drops.count(), 40);
    });
}

#[test]
fn the_plain_driver_runs_everything_but_io() {
    for workers in [1, 2, 4] {
        let builder = beat::Runtime::builder().worker_threads(workers).driver(beat::DriverKind::Plain);
        let runtime = builder.build().unwrap();
        common::within(Duration::from_secs(60), || {
            let full = Full::of(runtime.handle());
            let tasks: Vec<_> = (0..100).map(|i| runtime.spawn(async move { i })).collect();
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(runtime.block_on(task).unwrap(), i);
            }
            full.end(&runtime);
            let message = runtime.block_on(
                runtime
                    .spawn(async { common::panic_message(|| tokio::time::sleep(Duration::from_millis(1))) }),
            );
            assert!(message.unwrap().contains("no reactor running"));
        });
    }
}
