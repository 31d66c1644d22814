//! `#[beat::main]` and `#[beat::test]`: an `async fn` becomes a function that starts a runtime and
//! runs it.
//!
//! Use them through the `beat` crate (feature `macros`), which re-exports both and holds the
//! functions that their expansion calls.
//!
//! # How an attribute passes through
//! 1. [`options`] reads what stands between the parentheses.
//! 2. [`function`] reads the function's head and keeps its body as it was written.
//! 3. [`expand`] wraps the function in a synchronous one of the same name.
//!
//! Each step hands its complaints to the same [`mistakes::Mistakes`] and carries on, so one build
//! shows everything there is to mend, and the body stays visible to the compiler and the editor.

mod expand;
mod function;
mod mistakes;
mod options;

// While this crate's own tests build, a root function called `main` or `test` would take the place
// of the harness's (rust-lang/rust#62127).
#[cfg(not(test))]
use {expand::Attribute, proc_macro::TokenStream};

/// Runs an `async fn` on a new Beat runtime and returns what it returns.
///
/// Put it on `async fn main()`. The function takes no arguments and may return whatever `main` may:
/// nothing, a `Result`, an `ExitCode`, `impl Termination` or `!`. The first runtime that
/// `#[beat::main]` starts is the global one, which `beat::join` and friends use from any thread.
/// On another free function than `main` it works as well; each call then starts a runtime and
/// blocks the calling thread until the function is done. The body moves into a function of its
/// own, so inside an `impl` block it cannot name `Self`.
///
/// # Options
/// All are optional, separated by commas; a value is a literal.
///
/// | option | value | meaning |
/// |---|---|---|
/// | `worker_threads` | integer, 1 or more | how many workers the runtime starts |
/// | `flavor` | `"multi_thread"` or `"current_thread"` | as tokio's users know it: `"multi_thread"` changes nothing, `"current_thread"` means `worker_threads = 1` |
/// | `pinning` | `"none"`, `"cores"`, `"physical_cores"`, `"threads"`, `"cache_group"` or `"node"` | whether and how workers are bound to CPUs: see `beat::Pinning` |
/// | `heartbeat_us` | microseconds, 1 or more | the heartbeat: how often a worker offers the oldest waiting half of a `join` to the others |
/// | `thread_name` | string | the name of the worker threads |
/// | `thread_stack_size` | bytes, 1 or more | the stack of each worker thread |
/// | `start_paused` | `true` or `false` | whether tokio's clock begins paused, for tests; needs the feature `test-util` |
/// | `crate` | path, bare or as a string | where the `beat` crate is found; `::beat` unless given |
///
/// An option that is not given keeps the default of `beat::Runtime::builder`.
///
/// # Examples
/// ```
/// #[beat::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let text = beat::spawn_blocking(|| std::fs::read_to_string("Cargo.toml")).await??;
///     println!("{} bytes", text.len());
///     Ok(())
/// }
/// ```
///
/// ```
/// #[beat::main(worker_threads = 2, pinning = "cores", heartbeat_us = 100)]
/// async fn main() {}
/// ```
///
/// It stands for:
///
/// ```ignore
/// // What is written in its place: no program to be run by itself.
/// fn main() {
///     async fn main() {}
///     let builder = beat::Runtime::builder()
///         .worker_threads(2)
///         .pinning(beat::Pinning::Cores)
///         .heartbeat(std::time::Duration::from_micros(100));
///     // Here the runtime is built, made the global one, and runs `main()` to its end.
/// }
/// ```
///
/// # Errors
/// Each of these is a compile error at the place of the mistake, and all of them are reported in
/// one build: an option that is unknown, given twice or has a wrong value;
/// `flavor = "current_thread"` with more than one worker; a function that is not `async`, or that has arguments, generic parameters, a
/// `where` clause, or is `const`, `unsafe` or `extern`.
///
/// # Panics
/// The expanded function panics if the runtime cannot be started, and when the body panics.
#[cfg(not(test))]
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Attribute::Main, options.into(), item.into()).into()
}

/// Makes an `async fn` a test that runs on a Beat runtime of its own.
///
/// The function takes no arguments and may return whatever a `#[test]` may. Attributes such as
/// `#[should_panic]` and `#[ignore]` keep their meaning. Tests run side by side, each with its own
/// runtime; none of these is the global one.
///
/// # Options
/// The options of [`macro@main`], with the same meaning.
///
/// # Examples
/// ```
/// #[beat::test]
/// async fn a_task_returns_its_value() -> Result<(), beat::JoinError> {
///     assert_eq!(beat::spawn(async { 6 * 7 }).await?, 42);
///     Ok(())
/// }
///
/// #[beat::test(worker_threads = 1)]
/// #[should_panic(expected = "no luck")]
/// async fn a_panic_is_the_tests_own() {
///     panic!("no luck");
/// }
/// ```
///
/// # Errors
/// The compile errors of [`macro@main`], and one for a second test attribute on the same function:
/// `#[beat::test]` brings `#[test]` along.
///
/// # Panics
/// The test fails if the runtime cannot be started, and when the body panics.
#[cfg(not(test))]
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Attribute::Test, options.into(), item.into()).into()
}
