//! The options of an attribute: `name = value`, separated by commas.
//!
//! [`Options::read`] first cuts the tokens at the commas and then reads each piece on its own, so a
//! mistake in one option says nothing about the others. An option whose value was wrong counts as
//! not given. What an option takes stands once, in [`KNOWN`]; the messages are made from it.

use std::str::FromStr;

use proc_macro2::{Literal, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitBool, LitInt, LitStr, Path, Token};

use crate::mistakes::Mistakes;

/// An option's name, what its value may be, and one value as an example.
struct Known {
    name: &'static str,
    takes: &'static str,
    example: &'static str,
}

/// Every option, in the order in which messages list them.
static KNOWN: [Known; 8] = [
    Known { name: "worker_threads", takes: "an integer from 1 to `usize::MAX`", example: "4" },
    Known { name: "flavor", takes: "\"multi_thread\" or \"current_thread\"", example: "\"multi_thread\"" },
    Known {
        name: "pinning",
        takes: "\"none\", \"cores\", \"physical_cores\", \"threads\", \"cache_group\" or \"node\"",
        example: "\"cores\"",
    },
    Known { name: "heartbeat_us", takes: "a number of microseconds from 1 to `u64::MAX`", example: "100" },
    Known { name: "thread_name", takes: "a string without NUL characters", example: "\"beat-worker\"" },
    Known {
        name: "thread_stack_size",
        takes: "a number of bytes from 1 to `usize::MAX`",
        example: "2_097_152",
    },
    Known { name: "start_paused", takes: "`true` or `false`", example: "true" },
    Known { name: "crate", takes: "the path of the `beat` crate", example: "::beat" },
];

/// The options that were given and had a good value.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) worker_threads: Option<Literal>,
    pub(crate) pinning: Option<Pinning>,
    pub(crate) heartbeat_us: Option<Literal>,
    pub(crate) thread_name: Option<LitStr>,
    pub(crate) thread_stack_size: Option<Literal>,
    pub(crate) start_paused: Option<LitBool>,
    pub(crate) crate_path: Option<Path>,
    flavor: Option<Flavor>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pinning {
    None,
    Cores,
    PhysicalCores,
    Threads,
    CacheGroup,
    Node,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flavor {
    MultiThread,
    CurrentThread,
}

impl Options {
    pub(crate) fn read(tokens: TokenStream, mistakes: &mut Mistakes) -> Self {
        let mut options = Self::default();
        let mut seen = Vec::new();
        for piece in cut_at_commas(tokens, mistakes) {
            if let Err(mistake) = options.read_one(piece, &mut seen) {
                mistakes.add(mistake);
            }
        }
        if let Err(mistake) = options.apply_flavor() {
            mistakes.add(mistake);
        }
        options
    }

    /// Reads one piece between commas. `seen` holds the names of those before it.
    fn read_one(&mut self, piece: TokenStream, seen: &mut Vec<&'static str>) -> syn::Result<()> {
        let Written { name, value } = syn::parse2(piece)?;
        let known = lookup(&name)?;
        if seen.contains(&known.name) {
            let message = format!("`{name}` is given twice: keep one");
            return Err(syn::Error::new(name.span(), message));
        }
        seen.push(known.name);
        let good = value.as_ref().is_some_and(|value| self.store(known.name, value));
        if good {
            return Ok(());
        }
        let Known { takes, example, .. } = known;
        let message = format!("`{name}` takes {takes}, as in `{name} = {example}`");
        Err(match value {
            Some(value) => syn::Error::new_spanned(value, message),
            None => syn::Error::new(name.span(), message),
        })
    }

    /// Stores a known option's value; false if it is not one that the option takes.
    fn store(&mut self, name: &str, value: &TokenStream) -> bool {
        fn keep<T>(field: &mut Option<T>, value: Option<T>) -> bool {
            *field = value;
            field.is_some()
        }
        match name {
            "worker_threads" => keep(&mut self.worker_threads, positive::<usize>(value)),
            "flavor" => keep(&mut self.flavor, flavor(value)),
            "pinning" => keep(&mut self.pinning, pinning(value)),
            "heartbeat_us" => keep(&mut self.heartbeat_us, positive::<u64>(value)),
            "thread_name" => keep(&mut self.thread_name, thread_name(value)),
            "thread_stack_size" => keep(&mut self.thread_stack_size, positive::<usize>(value)),
            "start_paused" => keep(&mut self.start_paused, syn::parse2(value.clone()).ok()),
            "crate" => keep(&mut self.crate_path, crate_path(value)),
            _ => unreachable!("`lookup` lets only names of `KNOWN` through"),
        }
    }

    /// `flavor = "current_thread"` is another way to ask for one worker, and contradicts any other
    /// number of them.
    fn apply_flavor(&mut self) -> syn::Result<()> {
        if self.flavor != Some(Flavor::CurrentThread) {
            return Ok(());
        }
        let one = Literal::usize_unsuffixed(1);
        let written = self.worker_threads.get_or_insert_with(|| one.clone());
        if written.to_string() == one.to_string() {
            return Ok(());
        }
        let message = "`flavor = \"current_thread\"` means one worker: \
                       remove it, or write `worker_threads = 1`";
        Err(syn::Error::new(written.span(), message))
    }
}

/// One option as it was written; `value` is absent if nothing follows the name.
struct Written {
    name: Ident,
    value: Option<TokenStream>,
}

impl Parse for Written {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let expected = |found: TokenStream| {
            let message = format!("an option is written `name = value`; {}", valid_names());
            syn::Error::new_spanned(found, message)
        };
        if !input.peek(Ident::peek_any) {
            return Err(expected(input.parse()?));
        }
        let name = input.call(Ident::parse_any)?;
        if input.is_empty() {
            return Ok(Self { name, value: None });
        }
        if !input.peek(Token![=]) {
            // A name still deserves to be called unknown before its form is looked at.
            lookup(&name)?;
            return Err(expected(input.parse()?));
        }
        input.parse::<Token![=]>()?;
        let value: TokenStream = input.parse()?;
        Ok(Self { name, value: (!value.is_empty()).then_some(value) })
    }
}

fn lookup(name: &Ident) -> syn::Result<&'static Known> {
    if let Some(known) = KNOWN.iter().find(|known| name == known.name) {
        return Ok(known);
    }
    Err(syn::Error::new(name.span(), format!("unknown option `{name}`; {}", valid_names())))
}

fn valid_names() -> String {
    let names: Vec<_> = KNOWN.iter().map(|known| format!("`{}`", known.name)).collect();
    format!("the options are {}", names.join(", "))
}

/// The pieces between top-level commas. A comma may end the list; one with nothing before it is a
/// mistake.
fn cut_at_commas(tokens: TokenStream, mistakes: &mut Mistakes) -> Vec<TokenStream> {
    let mut pieces = Vec::new();
    let mut piece = TokenStream::new();
    for token in tokens {
        match token {
            TokenTree::Punct(comma) if comma.as_char() == ',' => {
                if piece.is_empty() {
                    mistakes.add(syn::Error::new(comma.span(), "there is no option before this comma"));
                } else {
                    pieces.push(std::mem::take(&mut piece));
                }
            }
            token => piece.extend([token]),
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// An integer of type `T`, at least 1. A suffix is dropped, so that `4u8` counts too.
fn positive<T: FromStr + From<u8> + PartialOrd>(value: &TokenStream) -> Option<Literal>
where
    T::Err: std::fmt::Display,
{
    let written: LitInt = syn::parse2(value.clone()).ok()?;
    let number: T = written.base10_parse().ok()?;
    if number < T::from(1) {
        return None;
    }
    let mut literal: Literal = written.base10_digits().parse().ok()?;
    literal.set_span(written.span());
    Some(literal)
}

fn string(value: &TokenStream) -> Option<LitStr> {
    syn::parse2(value.clone()).ok()
}

fn flavor(value: &TokenStream) -> Option<Flavor> {
    match string(value)?.value().as_str() {
        "multi_thread" => Some(Flavor::MultiThread),
        "current_thread" => Some(Flavor::CurrentThread),
        _ => None,
    }
}

fn pinning(value: &TokenStream) -> Option<Pinning> {
    match string(value)?.value().as_str() {
        "none" => Some(Pinning::None),
        "cores" => Some(Pinning::Cores),
        "physical_cores" => Some(Pinning::PhysicalCores),
        "threads" => Some(Pinning::Threads),
        "cache_group" => Some(Pinning::CacheGroup),
        "node" => Some(Pinning::Node),
        _ => None,
    }
}

/// A name that the operating system's threads can carry: `std` panics at a NUL.
fn thread_name(value: &TokenStream) -> Option<LitStr> {
    string(value).filter(|name| !name.value().contains('\0'))
}

/// A path, bare or inside a string as tokio has it.
fn crate_path(value: &TokenStream) -> Option<Path> {
    use syn::parse::Parser as _;
    match string(value) {
        Some(quoted) => quoted.parse_with(Path::parse_mod_style).ok(),
        None => Path::parse_mod_style.parse2(value.clone()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::{ToTokens as _, quote};

    fn read(tokens: TokenStream) -> (Options, Vec<String>) {
        let mut mistakes = Mistakes::default();
        let options = Options::read(tokens, &mut mistakes);
        (options, mistakes.messages())
    }

    fn good(tokens: TokenStream) -> Options {
        let (options, mistakes) = read(tokens);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        options
    }

    fn mistake(tokens: TokenStream) -> String {
        let (_, mut mistakes) = read(tokens);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        mistakes.remove(0)
    }

    #[test]
    fn nothing_given_leaves_all_to_the_builder() {
        let options = good(quote!());
        assert!(options.worker_threads.is_none());
        assert!(options.pinning.is_none());
        assert!(options.heartbeat_us.is_none());
        assert!(options.thread_name.is_none());
        assert!(options.thread_stack_size.is_none());
        assert!(options.start_paused.is_none());
        assert!(options.crate_path.is_none());
    }

    #[test]
    fn every_option_is_read() {
        let options = good(quote! {
            worker_threads = 4usize,
            flavor = "multi_thread",
            pinning = "cores",
            heartbeat_us = 1_000,
            thread_name = "w",
            thread_stack_size = 0x10_0000,
            start_paused = true,
            crate = "a::b",
        });
        assert_eq!(options.worker_threads.unwrap().to_string(), "4");
        assert_eq!(options.pinning, Some(Pinning::Cores));
        assert_eq!(options.heartbeat_us.unwrap().to_string(), "1000");
        assert_eq!(options.thread_name.unwrap().value(), "w");
        assert_eq!(options.thread_stack_size.unwrap().to_string(), "1048576");
        assert!(options.start_paused.unwrap().value);
        assert_eq!(options.crate_path.unwrap().to_token_stream().to_string(), "a :: b");
    }

    #[test]
    fn a_bare_crate_path_is_as_good_as_a_quoted_one() {
        for path in [quote!(crate = ::a::b), quote!(crate = "::a::b")] {
            let path = good(path).crate_path.unwrap();
            assert_eq!(path.to_token_stream().to_string(), ":: a :: b");
        }
        assert!(good(quote!(crate = crate)).crate_path.is_some());
    }

    #[test]
    fn current_thread_is_one_worker() {
        for tokens in [
            quote!(flavor = "current_thread"),
            quote!(flavor = "current_thread", worker_threads = 1),
            quote!(worker_threads = 0x1, flavor = "current_thread"),
        ] {
            assert_eq!(good(tokens).worker_threads.unwrap().to_string(), "1");
        }
        let message = mistake(quote!(worker_threads = 2, flavor = "current_thread"));
        assert!(message.contains("means one worker"), "{message}");
    }

    #[test]
    fn a_wrong_value_names_what_the_option_takes() {
        for tokens in [
            quote!(worker_threads = 0),
            quote!(worker_threads = -1),
            quote!(worker_threads = "4"),
            quote!(worker_threads = 2 + 2),
            quote!(worker_threads = 99999999999999999999999),
            quote!(worker_threads =),
            quote!(worker_threads),
        ] {
            let message = mistake(tokens);
            assert!(message.starts_with("`worker_threads` takes an integer"), "{message}");
            assert!(message.ends_with("`worker_threads = 4`"), "{message}");
        }
        for tokens in [
            quote!(flavor = "single"),
            quote!(flavor = multi_thread),
            quote!(pinning = true),
            quote!(heartbeat_us = 1.5),
            quote!(heartbeat_us = 0),
            quote!(thread_name = 'w'),
            quote!(thread_name = "a\0b"),
            quote!(thread_stack_size = 0),
            quote!(start_paused = 1),
            quote!(start_paused = "true"),
            quote!(crate = 5),
            quote!(crate = "not a path"),
            quote!(crate = ""),
        ] {
            let message = mistake(tokens);
            assert!(message.contains("` takes "), "{message}");
        }
    }

    #[test]
    fn the_example_of_every_option_is_a_good_value() {
        for Known { name, example, .. } in &KNOWN {
            good(format!("{name} = {example}").parse().unwrap());
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        for tokens in [quote!(threads = 4), quote!(threads), quote!(threads(4)), quote!(a::b = 4)] {
            let message = mistake(tokens);
            assert!(message.starts_with("unknown option"), "{message}");
            for Known { name, .. } in &KNOWN {
                assert!(message.contains(name), "{message}");
            }
        }
    }

    #[test]
    fn another_form_is_answered_with_the_right_one() {
        for tokens in [quote!(4), quote!(worker_threads(4)), quote!(worker_threads: 4)] {
            let message = mistake(tokens);
            assert!(message.starts_with("an option is written `name = value`"), "{message}");
        }
    }

    #[test]
    fn each_mistake_is_reported_and_the_good_options_stay() {
        let (options, mistakes) = read(quote! {
            , color = 3, pinning = "rows", worker_threads = 2, worker_threads = 3, start_paused = 5, 7
        });
        assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
        assert_eq!(options.worker_threads.unwrap().to_string(), "2");
        assert!(options.pinning.is_none());
    }

    #[test]
    fn each_kind_of_pinning_has_a_word() {
        for (word, pinning) in [
            ("none", Pinning::None),
            ("cores", Pinning::Cores),
            ("physical_cores", Pinning::PhysicalCores),
            ("threads", Pinning::Threads),
            ("cache_group", Pinning::CacheGroup),
            ("node", Pinning::Node),
        ] {
            assert_eq!(good(quote!(pinning = #word)).pinning, Some(pinning));
        }
    }
}
