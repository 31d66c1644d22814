//! The function under the attribute: its head is read and checked, its body is left alone.
//!
//! The body is carried as tokens, never parsed, so it reaches the compiler exactly as written: every
//! span points into the user's code, and a body that is still being typed in an editor does not
//! keep the rest from expanding.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, FnArg, Signature, Visibility, token};

use crate::mistakes::Mistakes;

/// A function item: outer attributes, visibility, signature and body.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: Body,
}

/// The braces and, unread, what they enclose.
pub(crate) struct Body {
    braces: token::Brace,
    inside: TokenStream,
}

impl Function {
    /// Records everything in the signature that keeps the function from being called without
    /// arguments and awaited. `attribute` is how messages name the attribute.
    pub(crate) fn check_signature(&self, attribute: &str, mistakes: &mut Mistakes) {
        let sig = &self.sig;
        if sig.asyncness.is_none() {
            let message = format!("`#[{attribute}]` needs an `async fn`: write `async` before `fn`");
            mistakes.add(syn::Error::new(sig.fn_token.span, message));
        }
        let mut reject = |part: &dyn ToTokens, what: &str| {
            let message = format!("a `#[{attribute}]` function cannot {what}");
            mistakes.add(syn::Error::new_spanned(part.to_token_stream(), message));
        };
        if let Some(keyword) = &sig.constness {
            reject(keyword, "be `const`");
        }
        if let Some(keyword) = &sig.unsafety {
            reject(keyword, "be `unsafe`");
        }
        if let Some(abi) = &sig.abi {
            reject(abi, "be `extern`");
        }
        if !sig.generics.params.is_empty() {
            reject(&sig.generics, "have generic parameters");
        }
        if !sig.inputs.is_empty() {
            reject(&sig.inputs, "take arguments");
        }
        if let Some(dots) = &sig.variadic {
            reject(dots, "be variadic");
        }
        if let Some(clause) = &sig.generics.where_clause {
            reject(clause, "have a `where` clause");
        }
    }

    /// Takes every other test attribute off and records it: two of them would run the test twice.
    pub(crate) fn remove_test_attributes(&mut self, attribute: &str, mistakes: &mut Mistakes) {
        self.attrs.retain(|attr| {
            let is_test = attr.path().segments.last().is_some_and(|last| last.ident == "test");
            if is_test {
                let message = format!("`#[{attribute}]` already makes this a test: remove this attribute");
                mistakes.add(syn::Error::new_spanned(attr, message));
            }
            !is_test
        });
    }

    /// Whether this is a method: then only the `impl` block around it can hold it.
    pub(crate) fn is_method(&self) -> bool {
        matches!(self.sig.inputs.first(), Some(FnArg::Receiver(_)))
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl Parse for Body {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let inside;
        let braces = syn::braced!(inside in input);
        Ok(Self { braces, inside: inside.parse()? })
    }
}

impl ToTokens for Body {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.braces.surround(tokens, |tokens| self.inside.to_tokens(tokens));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn signature_mistakes(item: TokenStream) -> Vec<String> {
        let mut mistakes = Mistakes::default();
        let function: Function = syn::parse2(item).expect("the test's function parses");
        function.check_signature("beat::main", &mut mistakes);
        mistakes.messages()
    }

    #[test]
    fn an_async_function_without_arguments_passes() {
        let item = quote!(
            pub(crate) async fn main() -> Result<(), E> {
                work().await
            }
        );
        assert!(signature_mistakes(item).is_empty());
    }

    #[test]
    fn every_mistake_of_a_signature_is_recorded() {
        let item = quote!(
            const unsafe extern "C" fn main<T>(a: T, ...)
            where
                T: Copy,
            {
            }
        );
        assert_eq!(
            signature_mistakes(item),
            [
                "`#[beat::main]` needs an `async fn`: write `async` before `fn`",
                "a `#[beat::main]` function cannot be `const`",
                "a `#[beat::main]` function cannot be `unsafe`",
                "a `#[beat::main]` function cannot be `extern`",
                "a `#[beat::main]` function cannot have generic parameters",
                "a `#[beat::main]` function cannot take arguments",
                "a `#[beat::main]` function cannot be variadic",
                "a `#[beat::main]` function cannot have a `where` clause",
            ]
        );
    }

    #[test]
    fn a_body_that_does_not_parse_is_kept_as_written() {
        let function: Function = syn::parse2(quote!(async fn main() { let x = list. ; })).unwrap();
        assert_eq!(function.body.to_token_stream().to_string(), "{ let x = list . ; }");
    }

    #[test]
    fn only_test_attributes_are_taken_off() {
        let item = quote! {
            #[test]
            #[should_panic]
            #[tokio::test]
            #[test_log]
            async fn f() {}
        };
        let mut function: Function = syn::parse2(item).unwrap();
        let mut mistakes = Mistakes::default();
        function.remove_test_attributes("beat::test", &mut mistakes);
        let kept: Vec<_> =
            function.attrs.iter().map(|attr| attr.path().to_token_stream().to_string()).collect();
        assert_eq!(kept, ["should_panic", "test_log"]);
        assert_eq!(mistakes.messages().len(), 2);
    }
}
