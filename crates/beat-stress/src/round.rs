//! One round: runtimes, a program, an end.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use beat::{DriverKind, Handle, Runtime};

use crate::foreign::Service;
use crate::options::Options;
use crate::program::Place;
use crate::rng::Rng;
use crate::token::Round;

/// How the runtimes of a round end.
#[derive(Clone, Copy, Debug)]
enum End {
    /// When all is done: here nothing may be cancelled but what was aborted.
    Quiet,
    /// In the middle, each in its own way.
    Early,
}

/// Runs a round, and returns what it has counted.
pub(crate) fn run(options: &Options, number: u64, service: &Service) -> Arc<Round> {
    let mut rng = Rng::new(options.seed, number);
    // Many small programs, some large ones.
    let budget = match rng.below(20) {
        0 => 4_000,
        1..5 => 1_000,
        _ => 200,
    };
    let budget = 1 + rng.below(budget);
    let end = if rng.chance(50) { End::Quiet } else { End::Early };
    let last = match end {
        End::Quiet => u64::MAX,
        End::Early => 1 + rng.below(budget * 2),
    };
    let round = Arc::new(Round::new(options.seed, number, options.stay, last));
    let has_timers = !rng.chance(15);
    let runtimes: Vec<_> =
        (0..if rng.chance(25) { 2 } else { 1 }).map(|_| runtime(options, &mut rng, has_timers)).collect();
    let handles: Vec<Handle> = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
    let place = Place::new(&round, handles.clone(), service, has_timers);

    thread::scope(|scope| {
        let senders: Vec<_> = (0..1 + rng.below(3))
            .map(|_| {
                let (place, rng) = (&place, Rng::new(rng.next(), 0));
                scope.spawn(move || place.send(rng, budget))
            })
            .collect();
        match end {
            End::Quiet => {
                senders.into_iter().for_each(|sender| sender.join().expect("a sender does not panic"));
                wait_until_over(&round);
                for handle in &handles {
                    // A token goes with its future, which is counted a little later.
                    wait_until(|| handle.metrics().tasks_alive == 0);
                }
                round.close();
                drop(runtimes);
            }
            End::Early => {
                scope.spawn(|| {
                    senders.into_iter().for_each(|sender| sender.join().expect("a sender does not panic"));
                    round.end();
                });
                round.wait_for_end();
                round.close();
                for runtime in runtimes {
                    let rng = Rng::new(rng.next(), 0);
                    scope.spawn(move || shut_down(runtime, rng));
                }
            }
        }
    });
    drop(place);
    wait_until_over(&round);
    round
}

fn runtime(options: &Options, rng: &mut Rng, has_timers: bool) -> Runtime {
    let workers = 1 + rng.below(8) as usize;
    // Short heartbeats promote halves that are as short.
    let heartbeat = Duration::from_micros([1, 5, 20, 100][rng.below(4) as usize]);
    Runtime::builder()
        .worker_threads(options.workers.unwrap_or(workers))
        .heartbeat(heartbeat)
        .driver(if has_timers { DriverKind::default() } else { DriverKind::Plain })
        .build()
        .expect("the machine has room for a few threads")
}

/// Ends a runtime in one of the ways there are.
fn shut_down(runtime: Runtime, mut rng: Rng) {
    let handle = runtime.handle().clone();
    match rng.below(6) {
        0 | 1 => drop(runtime),
        2 => runtime.shutdown_timeout(Duration::from_micros(rng.below(5_000))),
        3 => runtime.shutdown_background(),
        4 => drop(handle.spawn(async move { drop(runtime) })),
        _ => drop(handle.spawn_blocking_parallel(move || drop(runtime))),
    }
}

fn wait_until_over(round: &Round) {
    wait_until(|| round.is_over());
}

/// Looks again and again; the guard sees to it that this ends.
fn wait_until(condition: impl Fn() -> bool) {
    let mut looks = 0;
    while !condition() {
        looks += 1;
        if looks < 20 { thread::yield_now() } else { thread::sleep(Duration::from_micros(100)) }
    }
}
