//! Hints where a task or closure should start.

use super::JoinHandle;
use crate::scheduler::Shared;

/// Where a task or closure should start: a hint for [`spawn_on`](crate::spawn_on) and
/// [`spawn_blocking_parallel_on`](crate::spawn_blocking_parallel_on).
///
/// It is heard on machines with several NUMA nodes whose workers are bound to CPUs ([`Builder::pinning`]), and means nothing
/// elsewhere. There a worker of the node comes before others; if all of those are busy, another takes it. A task that is woken
/// later is queued where its waker is.
///
/// [`Builder::pinning`]: crate::Builder::pinning
///
/// ```
/// use beat::task::Near;
///
/// # #[beat::main]
/// # async fn main() {
/// let table = beat::spawn_blocking_parallel_on(Near::node(1), || (0..1_000_u64).collect::<Vec<_>>());
/// // Where the table was made, and its memory was touched first.
/// let near = Near::task(&table);
/// let table = table.await.unwrap();
/// let sum = beat::spawn_blocking_parallel_on(near, move || table.iter().sum::<u64>());
/// assert_eq!(sum.await.unwrap(), 499_500);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Near(Where);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Where {
    Node(usize),
    /// Where a task ran: a home of its runtime, if that has several.
    Home(Option<usize>),
}

impl Near {
    /// On a NUMA node, by its place in [`Topology::nodes`](crate::topology::Topology::nodes). One that has no worker of its own
    /// is no hint.
    pub fn node(node: usize) -> Self {
        Self(Where::Node(node))
    }

    /// Where a task or closure of the same runtime last began to run, by now. None if it has not, or is one of a
    /// [`LocalSet`](crate::LocalSet) or a blocking one: then this is no hint.
    pub fn task<T>(handle: &JoinHandle<T>) -> Self {
        Self(Where::Home(handle.meta().home()))
    }

    /// The home of a runtime's workers that is meant.
    pub(crate) fn home(self, shared: &Shared) -> Option<usize> {
        let neighbours = shared.config.distances.several_homes()?;
        match self.0 {
            Where::Node(node) => neighbours.home_of_node(node),
            // A handle of another runtime's task.
            Where::Home(home) => home.filter(|&home| home < neighbours.homes()),
        }
    }
}
