//! What goes with a piece of work to the thread that runs it: the caller's span, and its task-locals.
//!
//! | work | carries | taken |
//! |---|---|---|
//! | a half of a `join` | span, task-locals | when it is promoted, as of its fork |
//! | a job of a scope, `install`, a part of a broadcast | span, task-locals | when it is spawned |
//! | the halves of a loop of `beat::iter` | span (the rest as any half) | once, when the loop begins |
//! | a task, a closure | span | when it is spawned |
//!
//! A join that nobody steals pays nothing, so a fork leaves no note of what was current then. Promotion comes later, when
//! the first closure of the join may have entered more: that must not go with the second one. What makes it out:
//!
//! *Depth.* Whatever is entered notes the newest latent job of its thread. A job that was latent then is older than it.
//! The oldest latent job, which is the one to be promoted, is therefore older than what was entered if, and only if,
//! the job that was noted is still latent: jobs are promoted oldest first, and cannot be popped by a join whose first
//! closure has not returned.
//!
//! Task-locals are entered by Beat's own [`LocalKey`](crate::task::LocalKey). Of spans Beat hears by
//! [`Forks`](crate::tracing::Forks) only; without it a half gets the span that is current at the promotion.
//!
//! What other threads get is owned: clones of values and references to spans. A subscriber is foreign code, and called
//! at promotions, on the user's stack, before anything is changed. Its panics are contained: a joiner waits for what was
//! stolen, and a task for its end. A subscriber that itself forks on Beat is not provided for: its halves may get the span
//! of another fork.

pub(crate) mod values;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use tracing_core::dispatcher::{self, DefaultGuard, Dispatch};
use tracing_core::span::Id;

use crate::latent::{Depth, Owner};
use crate::local;
use crate::task::contained::Contained;
use values::Values;

thread_local! {
    /// The spans that [`Forks`](crate::tracing::Forks) has seen this thread enter, the current one last.
    static SPANS: RefCell<Vec<(Id, Depth)>> = const { RefCell::new(Vec::new()) };
}

/// A thread entered a span.
pub(crate) fn entered_span(id: &Id) {
    let depth = depth();
    let _ = SPANS.try_with(|spans| spans.borrow_mut().push((id.clone(), depth)));
}

/// A thread left a span: in any order.
pub(crate) fn exited_span(id: &Id) {
    let _ = SPANS.try_with(|spans| {
        let mut spans = spans.borrow_mut();
        if let Some(place) = spans.iter().rposition(|(other, _)| other == id) {
            spans.remove(place);
        }
    });
}

/// How deep in forks this thread is.
fn depth() -> Depth {
    // SAFETY: used within this call only.
    unsafe { local::latent() }.map_or(Depth::OUTSIDE, Owner::depth)
}

/// A reference to a span.
#[derive(Debug)]
struct Span {
    subscriber: Dispatch,
    id: Id,
}

impl Span {
    fn current() -> Option<Self> {
        let current = || {
            dispatcher::get_default(|subscriber| Some(Self::new(subscriber, subscriber.current_span().id()?)))
        };
        contained(current).flatten()
    }

    /// The one that was current when the oldest latent job was forked, as far as is known.
    fn of_oldest(owner: Owner<'_>) -> Option<Self> {
        dispatcher::get_default(|subscriber| {
            let current = subscriber.current_span();
            let current = current.id()?;
            let of_fork = SPANS.try_with(|spans| {
                let spans = spans.borrow();
                // Else they are those of another subscriber.
                if spans.last().map(|(id, _)| id) != Some(current) {
                    return Some(current.clone());
                }
                // Spans may be left in any order: what they note is looked for, and not at.
                let mut latent = owner.descend();
                let outside = spans.iter().rev().find(|(_, depth)| !latent.finds(*depth));
                outside.map(|(id, _)| id.clone())
            });
            // After the borrow: it calls the subscriber.
            of_fork.unwrap_or(None).map(|id| Self::new(subscriber, &id))
        })
    }

    fn new(subscriber: &Dispatch, id: &Id) -> Self {
        Self { subscriber: subscriber.clone(), id: subscriber.clone_span(id) }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        contained(|| self.subscriber.try_close(self.id.clone()));
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Carried {
    span: Option<Span>,
    values: Option<Values>,
}

impl Carried {
    /// What is current here.
    pub(crate) fn here() -> Self {
        Self { span: Span::current(), values: values::here() }
    }

    /// The current task-locals alone.
    pub(crate) fn values() -> Self {
        Self { span: None, values: values::here() }
    }

    /// The current span alone.
    pub(crate) fn span() -> Self {
        Self { span: Span::current(), values: None }
    }

    /// What was current when the oldest latent job was forked.
    pub(crate) fn of_oldest(owner: Owner<'_>) -> Self {
        if owner.is_empty() {
            return Self::nothing();
        }
        let span = contained(|| Span::of_oldest(owner)).flatten();
        Self { span, values: values::of_oldest(owner) }
    }

    fn nothing() -> Self {
        Self { span: None, values: None }
    }

    /// [`enter`](Self::enter), unless this is where it was forked: then it is in place.
    #[cfg(feature = "rayon")]
    pub(crate) fn enter_unless_at(&self, fork: Fork) -> Option<Entered> {
        (fork != Fork::here()).then(|| self.enter())
    }

    /// Puts it in place until the result is dropped, before this is.
    pub(crate) fn enter(&self) -> Entered {
        Entered {
            span: self.span.as_ref().and_then(EnteredSpan::new),
            _values: self.values.as_ref().map(values::Entered::new),
        }
    }
}

/// The thread on which something was forked, which waits for it.
#[cfg(feature = "rayon")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fork(usize);

#[cfg(feature = "rayon")]
impl Fork {
    pub(crate) fn here() -> Self {
        // A thread-local's address: no other thread's while this one is there.
        Self(SPANS.try_with(|spans| std::ptr::from_ref(spans) as usize).unwrap_or(0))
    }
}

/// What a ticket carries, for whoever wins it.
#[derive(Debug)]
pub(crate) struct Slot(Mutex<Option<Carried>>);

impl Slot {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn of(carried: Carried) -> Self {
        Self(Mutex::new(Some(carried)))
    }

    pub(crate) fn take(&self) -> Carried {
        let carried = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        carried.unwrap_or_else(Carried::nothing)
    }
}

/// Calls `f`, and what it spawns carries nothing.
#[cfg(feature = "hyper")]
pub(crate) fn without<R>(f: impl FnOnce() -> R) -> R {
    dispatcher::with_default(&Dispatch::none(), f)
}

/// What was carried is in place.
pub(crate) struct Entered {
    span: Option<EnteredSpan>,
    _values: Option<values::Entered>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            contained(|| drop(span));
        }
    }
}

struct EnteredSpan {
    /// The span's subscriber, if it is not this thread's anyway.
    default: Option<DefaultGuard>,
    subscriber: Dispatch,
    id: Id,
    /// Those that hid it, left meanwhile, the innermost first.
    left: Vec<Id>,
}

impl EnteredSpan {
    fn new(span: &Span) -> Option<Self> {
        contained(|| {
            let (subscriber, id) = (span.subscriber.clone(), span.id.clone());
            subscriber.enter(&id);
            // From here on it is left again, also if the subscriber panics.
            let mut entered = Self { default: None, subscriber, id, left: Vec::new() };
            entered.leave_what_hides_it();
            let is_seen = dispatcher::get_default(|here| here.current_span().id() == Some(&entered.id));
            entered.default = (!is_seen).then(|| dispatcher::set_default(&entered.subscriber));
            entered
        })
    }

    /// Leaves the spans that hide it. One that the thread is in already, deeper, does not become current again with some
    /// subscribers (`tracing_subscriber::Registry`).
    fn leave_what_hides_it(&mut self) {
        while self.left.len() < MOST_LEFT
            && let Some(current) = self.subscriber.current_span().id().filter(|current| **current != self.id)
        {
            self.left.push(current.clone());
            self.subscriber.exit(current);
        }
    }
}

impl Drop for EnteredSpan {
    fn drop(&mut self) {
        drop(self.default.take());
        contained(|| self.subscriber.exit(&self.id));
        for id in self.left.iter().rev() {
            contained(|| self.subscriber.enter(id));
        }
    }
}

/// How many spans are left at most for one that they hide: a subscriber may know no end of them.
const MOST_LEFT: usize = 64;

/// Calls a subscriber; `None` if it panics, which the panic hook reports.
fn contained<R>(f: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| drop(Contained::new(payload))).ok()
}
