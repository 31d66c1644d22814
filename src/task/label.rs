//! Where a task was spawned, and its name if it was given one: one word in every task.

use std::fmt;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

/// The spawn site, and the name.
///
/// *Target*: the word points to a `Location`, which lives as long as the process; or, with the bit [`NAMED`] set, to
/// a boxed [`Named`] of this label's own.
pub(crate) struct Label(NonNull<()>);

/// A site with a name, for the tasks that have one.
struct Named {
    site: &'static Location<'static>,
    name: Arc<str>,
}

/// Set by [`Label::new`] if there is a name. Both targets are aligned to more than one byte.
const NAMED: usize = 1;
const _: () = assert!(align_of::<Location<'static>>() > NAMED && align_of::<Named>() > NAMED);

// SAFETY: it stands for a `&'static Location` or a `Box<Named>`, which may go anywhere.
unsafe impl Send for Label {}
// SAFETY: shared, it gives access to a `Location` or to a `Named`, both `Sync`.
unsafe impl Sync for Label {}

impl Label {
    pub(crate) fn new(site: &'static Location<'static>, name: Option<Arc<str>>) -> Self {
        match name {
            None => Self(NonNull::from(site).cast()),
            Some(name) => {
                let named = NonNull::from(Box::leak(Box::new(Named { site, name })));
                Self(named.cast::<()>().map_addr(|address| address | NAMED))
            }
        }
    }

    pub(crate) fn site(&self) -> &'static Location<'static> {
        match self.named() {
            Some(named) => named.site,
            // SAFETY: *Target*: the bit is not set.
            None => unsafe { self.0.cast().as_ref() },
        }
    }

    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.named().map(|named| &named.name)
    }

    fn named(&self) -> Option<&Named> {
        let named = self.boxed()?;
        // SAFETY: *Target*: owned, and dropped with `self` only.
        Some(unsafe { named.as_ref() })
    }

    /// The box, if there is one.
    fn boxed(&self) -> Option<NonNull<Named>> {
        let address = self.0.addr().get();
        let pointer = self.0.as_ptr().map_addr(|address| address & !NAMED).cast();
        if address & NAMED == 0 { None } else { NonNull::new(pointer) }
    }
}

impl From<&'static Location<'static>> for Label {
    fn from(site: &'static Location<'static>) -> Self {
        Self::new(site, None)
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        if let Some(named) = self.boxed() {
            // SAFETY: *Target*: it was leaked by `new`, and is taken back once, here.
            drop(unsafe { Box::from_raw(named.as_ptr()) });
        }
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Label").field("site", self.site()).field("name", &self.name()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_word_with_or_without_a_name() {
        assert_eq!(size_of::<Option<Label>>(), size_of::<usize>());
        let site = Location::caller();
        let plain = Label::from(site);
        assert_eq!((plain.site(), plain.name()), (site, None));
        let name: Arc<str> = "named".into();
        let named = Label::new(site, Some(Arc::clone(&name)));
        assert_eq!((named.site(), named.name()), (site, Some(&name)));
        assert_eq!(Arc::strong_count(&name), 2);
        drop(named);
        assert_eq!(Arc::strong_count(&name), 1);
    }
}
