//! Random programs: items that spawn items, wait for them, fork, panic and end each other.
//!
//! An item is a task, a closure or a blocking closure; what it does follows from its [`Plan`], and that from the
//! plan of the item that spawned it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use beat::{AbortOnDropHandle, Handle, JoinError, JoinHandle};

use crate::foreign::Service;
use crate::rng::Rng;
use crate::token::{Round, Token};

/// The payload of a panic that belongs to the program.
struct Planned;

/// Says nothing of panics that are planned; any other is a failure, and ends the process after its message.
pub(crate) fn silence_planned_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Planned>() {
            report(info);
            eprintln!("FAILED: a panic that nobody planned");
            std::process::abort();
        }
    }));
}

/// Panics when dropped, unless that would end the process.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_any(Planned);
        }
    }
}

/// What an item returns.
pub(crate) struct Value {
    id: u64,
    bomb: Option<Bomb>,
    token: Token,
}

impl Value {
    /// Somebody has got it, whose business it is not to let it explode.
    fn take(mut self, id: u64) {
        std::mem::forget(self.bomb.take());
        if self.id != id {
            self.token.round().fail("a handle has given the value of another item");
        }
    }
}

/// What follows from an item's seed before it runs.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    /// How many items it may spawn, its children's included.
    budget: u64,
    depth: u32,
}

/// Where items live: the runtimes of a round.
#[derive(Clone)]
pub(crate) struct Place {
    round: Arc<Round>,
    runtimes: Arc<[Handle]>,
    /// The item's own.
    here: usize,
    service: Service,
    has_timers: bool,
}

/// An item that has not begun.
struct Item {
    place: Place,
    plan: Plan,
    // Last: what the others spawn while they are dropped is counted before the round can be over.
    token: Token,
}

/// Deeper items wait for nobody with their thread: each takes a thread.
const DEEPEST_BLOCK: u32 = 6;

impl Place {
    pub(crate) fn new(
        round: &Arc<Round>,
        runtimes: Vec<Handle>,
        service: &Service,
        has_timers: bool,
    ) -> Self {
        let (round, service) = (Arc::clone(round), service.clone());
        Self { round, runtimes: runtimes.into(), here: 0, service, has_timers }
    }

    fn runtime(&self) -> &Handle {
        &self.runtimes[self.here]
    }

    fn token(&self, excused: bool) -> Token {
        Token::new(&self.round, excused)
    }

    /// Sends items in, as a foreign thread does, and waits for some.
    pub(crate) fn send(&self, mut rng: Rng, budget: u64) {
        // The runtime may end while a foreign thread waits, and its timers with it.
        let without_timers = Self { has_timers: false, ..self.clone() };
        let mut body = Body { place: self, rng: &mut rng, depth: 0, held: Vec::new() };
        body.spawn_all(budget);
        if body.rng.chance(30) {
            let _entered = self.runtime().enter();
            body.place = &without_timers;
            let joined = catch_unwind(AssertUnwindSafe(|| body.fork()));
            self.expect_planned(joined);
        }
        for awaited in std::mem::take(&mut body.held) {
            self.runtime().block_on(awaited);
        }
    }

    /// A panic must be one of the program's.
    fn expect_planned<T>(&self, result: std::thread::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(payload) if payload.is::<Planned>() => None,
            Err(_) => self.round.fail("a payload that is nobody's"),
        }
    }
}

/// A handle that somebody awaits.
pub(crate) struct Awaited {
    handle: Ended,
    id: u64,
    may_be_cancelled: bool,
    round: Arc<Round>,
}

enum Ended {
    Handle(JoinHandle<Value>),
    AbortOnDrop(AbortOnDropHandle<Value>),
}

impl Future for Awaited {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let result = match &mut this.handle {
            Ended::Handle(handle) => Pin::new(handle).poll(cx),
            Ended::AbortOnDrop(handle) => Pin::new(handle).poll(cx),
        };
        result.map(|result| this.resolve(result))
    }
}

impl Awaited {
    fn resolve(&self, result: Result<Value, JoinError>) {
        let round = &self.round;
        match result {
            Ok(value) => {
                value.take(self.id);
                round.values.fetch_add(1, SeqCst);
            }
            Err(error) if error.is_panic() => {
                if !error.into_panic().is::<Planned>() {
                    round.fail("a handle has given a panic that is nobody's");
                }
                round.panics.fetch_add(1, SeqCst);
            }
            Err(_) => {
                if !self.may_be_cancelled && !round.is_closing() {
                    round.fail("an item was cancelled that nobody had aborted");
                }
                round.cancelled.fetch_add(1, SeqCst);
            }
        }
    }
}

/// What an item does is written once for both kinds: `.await` where it may, block where it must.
struct Body<'a> {
    place: &'a Place,
    rng: &'a mut Rng,
    depth: u32,
    /// Awaited at the end.
    held: Vec<Awaited>,
}

impl Body<'_> {
    /// Spawns children until the budget is gone.
    fn spawn_all(&mut self, mut budget: u64) {
        for _ in 0..64 {
            if budget == 0 {
                break;
            }
            let share = 1 + self.rng.below(budget);
            budget -= share;
            let awaited = self.spawn(share - 1);
            self.held.extend(awaited);
        }
    }

    /// Spawns a child; somebody else may get its handle.
    fn spawn(&mut self, budget: u64) -> Option<Awaited> {
        let mut place = self.place.clone();
        if self.rng.chance(30) {
            place.here = self.rng.below(place.runtimes.len() as u64) as usize;
        }
        let runtime = place.runtime().clone();
        let fate = self.rng.below(100);
        let is_aborted = fate < 25;
        let plan = Plan { seed: self.rng.next(), budget, depth: self.depth + 1 };
        let item = Item { plan, token: place.token(is_aborted), place };
        let handle = match self.rng.below(100) {
            0..60 => runtime.spawn(item.into_future()),
            60..92 => runtime.spawn_blocking_parallel(move || item.run()),
            _ => runtime.spawn_blocking(move || item.run()),
        };
        let round = Arc::clone(&self.place.round);
        let awaited = |handle| Awaited { handle, id: plan.seed, may_be_cancelled: is_aborted, round };
        match fate {
            0..5 => {
                drop(handle.abort_on_drop());
                None
            }
            5..11 => Some(awaited(Ended::AbortOnDrop(handle.abort_on_drop()))),
            11..17 => {
                handle.abort();
                Some(awaited(Ended::Handle(handle)))
            }
            17..25 => {
                self.place.service.abort(handle.abort_handle());
                Some(awaited(Ended::Handle(handle)))
            }
            25..30 => {
                self.place.service.wait_for(&runtime, awaited(Ended::Handle(handle)));
                None
            }
            30..50 => {
                drop(handle);
                None
            }
            _ => Some(awaited(Ended::Handle(handle))),
        }
    }

    /// A tree of forks whose halves are counted, or a scope whose jobs are.
    fn fork(&mut self) {
        let depth = self.rng.below(6) as u32;
        let seed = self.rng.next();
        let leaves = if self.rng.chance(30) {
            let leaves = AtomicU64::new(0);
            beat::scope(|scope| crowd(scope, self.place, seed, depth, &leaves));
            leaves.into_inner()
        } else {
            tree(self.place, seed, depth)
        };
        if leaves != 1 << depth {
            self.place.round.fail("a join has lost a half, or a scope a job");
        }
    }

    /// Blocks this thread on something.
    fn block(&mut self) {
        if self.depth > DEEPEST_BLOCK {
            return;
        }
        // Of any runtime, from any thread.
        let other = self.rng.below(self.place.runtimes.len() as u64) as usize;
        let runtime = &self.place.runtimes[other];
        match self.rng.below(4) {
            0 => runtime.block_on(self.place.service.gate(self.rng.next())),
            1 if self.place.has_timers => {
                // Of this one: the timers of a runtime that has ended panic.
                let time = Duration::from_micros(self.rng.below(1_500));
                self.place.runtime().block_on(async move { tokio::time::sleep(time).await });
            }
            2 => runtime.block_on(async { beat::yield_now().await }),
            _ => {
                if let Some(awaited) = self.spawn(0) {
                    runtime.block_on(awaited);
                }
            }
        }
    }
}

/// What lies at the end of forks: some work, seldom a panic or a wait.
fn leaf(place: &Place, rng: &mut Rng) {
    match rng.below(400) {
        0 => panic_any(Planned),
        1 => Body { place, rng, depth: DEEPEST_BLOCK, held: Vec::new() }.block(),
        n => (0..n % 64).for_each(|_| std::hint::spin_loop()),
    }
}

/// Jobs that spawn jobs, as many leaves as `tree` has.
fn crowd<'s>(scope: &beat::Scope<'s>, place: &'s Place, seed: u64, depth: u32, leaves: &'s AtomicU64) {
    if depth == 0 {
        leaf(place, &mut Rng::new(seed, 0));
        leaves.fetch_add(1, SeqCst);
        return;
    }
    let mut seeds = Rng::new(seed, u64::MAX);
    for _ in 0..2 {
        // Dropped unrun if the closure is cancelled.
        let (token, seed) = (place.token(true), seeds.next());
        scope.spawn(move |scope| {
            token.begin();
            crowd(scope, place, seed, depth - 1, leaves);
            token.finish();
        });
    }
}

fn tree(place: &Place, seed: u64, depth: u32) -> u64 {
    let mut rng = Rng::new(seed, u64::from(depth));
    if depth == 0 {
        leaf(place, &mut rng);
        return 1;
    }
    let half = |seed| {
        // Dropped unrun if the other one panics, or the closure is cancelled.
        let token = place.token(true);
        let bomb = rng.chance(1).then(|| Bomb);
        move || {
            token.begin();
            let leaves = tree(place, seed, depth - 1);
            drop(bomb);
            token.finish();
            leaves
        }
    };
    let mut seeds = Rng::new(seed, u64::MAX);
    let mut half = half;
    let (a, b) = (half(seeds.next()), half(seeds.next()));
    let (a, b) = beat::join(a, b);
    a + b
}

impl Item {
    fn into_future(self) -> Pin<Box<dyn Future<Output = Value> + Send>> {
        Box::pin(self.run_async())
    }

    /// What both kinds of items begin with: the generator, and perhaps a bomb.
    fn begin(&self) -> (Rng, Option<Bomb>) {
        self.token.begin();
        let mut rng = Rng::new(self.plan.seed, 0);
        let bomb = rng.chance(2).then(|| Bomb);
        (rng, bomb)
    }

    /// What both kinds of items end with.
    fn end(self, mut rng: Rng, bomb: Option<Bomb>) -> Value {
        if rng.chance(3) {
            panic_any(Planned);
        }
        drop(bomb);
        let value_token = self.place.token(true);
        self.token.finish();
        Value { id: self.plan.seed, bomb: rng.chance(2).then(|| Bomb), token: value_token }
    }

    /// As a task.
    async fn run_async(self) -> Value {
        let (mut rng, bomb) = self.begin();
        let mut body = Body { place: &self.place, rng: &mut rng, depth: self.plan.depth, held: Vec::new() };
        if body.rng.chance(50) {
            body.spawn_all(self.plan.budget);
        }
        for _ in 0..body.rng.below(4) {
            match body.rng.below(100) {
                0..40 => beat::yield_now().await,
                40..60 => self.place.service.gate(body.rng.next()).await,
                60..63 if self.place.has_timers => {
                    tokio::time::sleep(Duration::from_micros(body.rng.below(1_500))).await;
                }
                63..80 => wake_many(body.rng.below(4)).await,
                80..90 => body.fork(),
                90..94 => body.block(),
                _ => {
                    if let Some(awaited) = body.spawn(0) {
                        awaited.await;
                    }
                }
            }
        }
        for awaited in std::mem::take(&mut body.held) {
            awaited.await;
        }
        drop(body);
        self.end(rng, bomb)
    }

    /// As a closure.
    fn run(self) -> Value {
        let (mut rng, bomb) = self.begin();
        let mut body = Body { place: &self.place, rng: &mut rng, depth: self.plan.depth, held: Vec::new() };
        body.spawn_all(self.plan.budget);
        for _ in 0..body.rng.below(3) {
            match body.rng.below(100) {
                0..60 => body.fork(),
                60..70 => beat::uncancellable(|| body.fork()),
                70..75 => {
                    // Swallows a panic, and perhaps a cancellation.
                    let _ = catch_unwind(AssertUnwindSafe(|| body.fork()));
                }
                75..85 => body.block(),
                _ => {
                    let awaited = body.spawn(0);
                    body.held.extend(awaited);
                }
            }
        }
        let may_block = body.depth <= DEEPEST_BLOCK && body.rng.chance(10);
        for awaited in std::mem::take(&mut body.held) {
            if may_block {
                self.place.runtime().block_on(awaited);
            } else {
                self.place.service.wait_for(self.place.runtime(), awaited);
            }
        }
        drop(body);
        self.end(rng, bomb)
    }
}

/// Pending so many times, with its waker called in different ways.
async fn wake_many(times: u64) {
    let mut left = times;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        let another = cx.waker().clone();
        another.wake();
        Poll::Pending
    })
    .await;
}
