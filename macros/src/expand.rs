//! The item that takes the place of the annotated function.
//!
//! The user's `async fn` moves, as written, into a synchronous function of the same name, which
//! hands a runtime builder and the future to the `beat` crate:
//!
//! ```text
//! fn main() -> R {
//!     async fn main() -> R { ... }
//!     ::beat::__private::main(::beat::Runtime::builder().worker_threads(4), main())
//! }
//! ```
//!
//! Because the inner function keeps its return type, the compiler checks the body against it and
//! words and places its errors as it would without the attribute. An `async` block would lose that:
//! its type is known only at the call, so a mismatch points at generated code and `?` may need
//! annotations. The price is that the body cannot name the `Self` of an `impl` block around it.
//!
//! After any mistake the outer function only holds the inner one: it calls nothing, so that the
//! runtime crate, the return type and the arguments cannot cause follow-up errors, and `main` still
//! exists.

use proc_macro2::TokenStream;
use quote::quote;

use crate::function::Function;
use crate::mistakes::Mistakes;
use crate::options::{Options, Pinning};

/// Which of the two attributes is being expanded.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Attribute {
    Main,
    Test,
}

impl Attribute {
    /// The name by which messages call it.
    fn name(self) -> &'static str {
        match self {
            Self::Main => "beat::main",
            Self::Test => "beat::test",
        }
    }

    /// The function in `beat::__private` that runs the future.
    fn runner(self) -> TokenStream {
        match self {
            Self::Main => quote!(main),
            Self::Test => quote!(test),
        }
    }

    /// What stands before the user's own attributes.
    fn header(self) -> TokenStream {
        match self {
            Self::Main => TokenStream::new(),
            Self::Test => quote!(#[::core::prelude::v1::test]),
        }
    }
}

pub(crate) fn expand(attribute: Attribute, options: TokenStream, item: TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let options = Options::read(options, &mut mistakes);
    let expanded = match syn::parse2::<Function>(item.clone()) {
        Ok(function) => expand_function(attribute, &options, function, &mut mistakes),
        Err(_) => {
            let message = format!("`#[{}]` goes on an `async fn` with a body", attribute.name());
            mistakes.add(syn::Error::new_spanned(&item, message));
            item
        }
    };
    let errors = mistakes.into_compile_errors();
    quote!(#expanded #errors)
}

fn expand_function(
    attribute: Attribute,
    options: &Options,
    mut function: Function,
    mistakes: &mut Mistakes,
) -> TokenStream {
    function.check_signature(attribute.name(), mistakes);
    if attribute == Attribute::Test {
        function.remove_test_attributes(attribute.name(), mistakes);
    }
    if mistakes.is_empty() {
        running(attribute, options, &function)
    } else if function.is_method() {
        unchanged(&function)
    } else {
        holding(attribute, function)
    }
}

/// The outer function that starts a runtime and runs the inner one.
fn running(attribute: Attribute, options: &Options, function: &Function) -> TokenStream {
    let Function { attrs, vis, sig, body } = function;
    let (name, output) = (&sig.ident, &sig.output);
    let header = attribute.header();
    let runner = attribute.runner();
    let krate = crate_path(options);
    let builder = builder(options, &krate);
    quote! {
        #header
        #(#attrs)*
        #vis fn #name() #output {
            #[allow(clippy::future_not_send, clippy::unused_async)]
            #sig #body
            #krate::__private::#runner(#builder, #name())
        }
    }
}

/// The outer function after a mistake: it exists and shows the body to the compiler, but never
/// calls it. Qualifiers that the compiler would refuse beside `async` are gone from the inner one.
fn holding(attribute: Attribute, mut function: Function) -> TokenStream {
    function.sig.asyncness.get_or_insert_default();
    function.sig.constness = None;
    function.sig.abi = None;
    function.sig.variadic = None;
    let Function { attrs, vis, sig, body } = &function;
    let name = &sig.ident;
    let header = attribute.header();
    quote! {
        #header
        #(#attrs)*
        #vis fn #name() {
            #[allow(dead_code, clippy::future_not_send, clippy::unused_async)]
            #sig #body
        }
    }
}

/// A method as it was, since `self` means nothing outside its `impl` block.
fn unchanged(function: &Function) -> TokenStream {
    let Function { attrs, vis, sig, body } = function;
    quote!(#(#attrs)* #vis #sig #body)
}

fn crate_path(options: &Options) -> TokenStream {
    match &options.crate_path {
        Some(path) => quote!(#path),
        None => quote!(::beat),
    }
}

/// The builder with one setter for each option that was given.
fn builder(options: &Options, krate: &TokenStream) -> TokenStream {
    let mut builder = quote!(#krate::Runtime::builder());
    if let Some(count) = &options.worker_threads {
        builder.extend(quote!(.worker_threads(#count)));
    }
    if let Some(pinning) = options.pinning {
        let variant = match pinning {
            Pinning::None => quote!(None),
            Pinning::Cores => quote!(Cores),
            Pinning::PhysicalCores => quote!(PhysicalCores),
            Pinning::Threads => quote!(Threads),
            Pinning::CacheGroup => quote!(CacheGroup),
            Pinning::Node => quote!(Node),
        };
        builder.extend(quote!(.pinning(#krate::Pinning::#variant)));
    }
    if let Some(micros) = &options.heartbeat_us {
        builder.extend(quote!(.heartbeat(::core::time::Duration::from_micros(#micros))));
    }
    if let Some(name) = &options.thread_name {
        builder.extend(quote!(.thread_name(#name)));
    }
    if let Some(bytes) = &options.thread_stack_size {
        builder.extend(quote!(.thread_stack_size(#bytes)));
    }
    if let Some(paused) = &options.start_paused {
        builder.extend(quote!(.start_paused(#paused)));
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(attribute: Attribute, options: TokenStream, item: TokenStream) -> syn::File {
        syn::parse2(expand(attribute, options, item)).expect("the expansion parses")
    }

    fn assert_same(actual: syn::File, expected: TokenStream) {
        let expected: syn::File = syn::parse2(expected).expect("the test's expectation parses");
        assert_eq!(quote!(#actual).to_string(), quote!(#expected).to_string());
    }

    #[test]
    fn main_wraps_the_function() {
        assert_same(
            expanded(
                Attribute::Main,
                quote!(worker_threads = 2, pinning = "cores", heartbeat_us = 50),
                quote! {
                    /// Docs.
                    pub async fn main() -> Result<(), E> { work().await? }
                },
            ),
            quote! {
                /// Docs.
                pub fn main() -> Result<(), E> {
                    #[allow(clippy::future_not_send, clippy::unused_async)]
                    async fn main() -> Result<(), E> { work().await? }
                    ::beat::__private::main(
                        ::beat::Runtime::builder()
                            .worker_threads(2)
                            .pinning(::beat::Pinning::Cores)
                            .heartbeat(::core::time::Duration::from_micros(50)),
                        main()
                    )
                }
            },
        );
    }

    #[test]
    fn test_adds_the_test_attribute_and_keeps_the_others() {
        assert_same(
            expanded(
                Attribute::Test,
                quote!(crate = my::beat, thread_name = "w", thread_stack_size = 9, start_paused = true),
                quote!(
                    #[should_panic]
                    async fn falls() {}
                ),
            ),
            quote! {
                #[::core::prelude::v1::test]
                #[should_panic]
                fn falls() {
                    #[allow(clippy::future_not_send, clippy::unused_async)]
                    async fn falls() {}
                    my::beat::__private::test(
                        my::beat::Runtime::builder()
                            .thread_name("w")
                            .thread_stack_size(9)
                            .start_paused(true),
                        falls()
                    )
                }
            },
        );
    }

    #[test]
    fn after_a_mistake_main_still_exists_and_holds_the_body() {
        assert_same(
            expanded(
                Attribute::Main,
                quote!(color = "red"),
                quote!(
                    const fn main(n: u32) -> u32 {
                        n
                    }
                ),
            ),
            {
                let errors = [
                    "unknown option `color`; the options are `worker_threads`, `flavor`, \
                     `pinning`, `heartbeat_us`, `thread_name`, `thread_stack_size`, \
                     `start_paused`, `crate`",
                    "`#[beat::main]` needs an `async fn`: write `async` before `fn`",
                    "a `#[beat::main]` function cannot be `const`",
                    "a `#[beat::main]` function cannot take arguments",
                ];
                quote! {
                    fn main() {
                        #[allow(dead_code, clippy::future_not_send, clippy::unused_async)]
                        async fn main(n: u32) -> u32 { n }
                    }
                    #(::core::compile_error!{ #errors })*
                }
            },
        );
    }

    #[test]
    fn after_a_mistake_a_method_stays_as_it_is() {
        let tokens = expand(
            Attribute::Test,
            quote!(),
            quote!(
                async fn check(&self) -> bool {
                    self.ok
                }
            ),
        );
        let written = quote!(
            async fn check(&self) -> bool {
                self.ok
            }
        )
        .to_string();
        assert!(tokens.to_string().starts_with(&written), "{tokens}");
    }

    #[test]
    fn another_item_stays_as_it_is() {
        assert_same(
            expanded(
                Attribute::Main,
                quote!(),
                quote!(
                    struct Main;
                ),
            ),
            quote! {
                struct Main;
                ::core::compile_error!{ "`#[beat::main]` goes on an `async fn` with a body" }
            },
        );
    }
}
