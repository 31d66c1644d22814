//! The complaints of one expansion, kept in the order they were found.
//!
//! A reader that meets a mistake records it here and goes on with the next thing, so that nothing
//! hides behind the first mistake. At the end all of them become `compile_error!` calls, each at
//! its own place.

use proc_macro2::TokenStream;

/// What was wrong so far; `None` while nothing was.
#[derive(Default)]
pub(crate) struct Mistakes(Option<syn::Error>);

impl Mistakes {
    pub(crate) fn add(&mut self, mistake: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(mistake),
            None => self.0 = Some(mistake),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn into_compile_errors(self) -> TokenStream {
        self.0.map(syn::Error::into_compile_error).unwrap_or_default()
    }

    /// The messages alone, for tests.
    #[cfg(test)]
    pub(crate) fn messages(self) -> Vec<String> {
        self.0.into_iter().flatten().map(|mistake| mistake.to_string()).collect()
    }
}
