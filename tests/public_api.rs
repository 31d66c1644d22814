//! The public API is the one that is written down, and every part of it has an example.
//!
//! Both read what rustdoc says of the library with all features, as JSON: an unstable format, which a stable toolchain
//! gives all the same when `RUSTC_BOOTSTRAP` asks for it. With a toolchain whose format is another one than the
//! `public-api` crate of `Cargo.lock` knows, the tests say so and pass.
//!
//! `BEAT_BLESS=1 cargo test --test public_api` writes the listing anew.

#![cfg(target_os = "linux")]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use serde_json::Value;

/// What is written down.
const LISTING: &str = "docs/public-api.txt";

/// rustdoc's JSON; made once for both tests. `None` where the library cannot be built with all features.
fn json() -> Option<&'static Path> {
    static JSON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let json = JSON.get_or_init(|| {
        let has_hwloc = Command::new("pkg-config").args(["--exists", "hwloc >= 2.8"]).status();
        if !has_hwloc.is_ok_and(|status| status.success()) {
            println!("skipped: all features need libhwloc (Debian: libhwloc-dev, libudev-dev, pkg-config)");
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // A folder of its own: the one that this very test was built in may be locked.
        let target = root.join("target/public-api");
        let output = Command::new(env!("CARGO"))
            .args(["rustdoc", "--package", "beat", "--lib", "--all-features", "--target-dir"])
            .arg(&target)
            .args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints", "allow"])
            .current_dir(root)
            .env("RUSTC_BOOTSTRAP", "1")
            // The instrumentation that the test itself may be built with.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTDOCFLAGS")
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(target.join("doc/beat.json"))
    });
    json.as_deref()
}

/// The listing: `None` if this toolchain's format is not known.
fn listing() -> Option<String> {
    let api = public_api::Builder::from_rustdoc_json(json()?)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build();
    match api {
        Ok(api) => Some(api.items().map(|item| format!("{item}\n")).collect()),
        Err(error) => {
            println!("skipped: rustdoc's JSON of this toolchain is not understood ({error})");
            None
        }
    }
}

#[test]
fn the_public_api_is_the_one_that_is_written_down() {
    let Some(listing) = listing() else { return };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(LISTING);
    if env::var_os("BEAT_BLESS").is_some() {
        fs::write(&page, &listing).unwrap();
    }
    let written = fs::read_to_string(&page).unwrap_or_default();
    let of = |text: &'_ str| text.lines().map(String::from).collect::<HashSet<_>>();
    let (is, was) = (of(&listing), of(&written));
    let missing = listing.lines().filter(|line| !was.contains(*line)).map(|line| format!("+ {line}\n"));
    let gone = written.lines().filter(|line| !is.contains(*line)).map(|line| format!("- {line}\n"));
    assert!(
        listing == written,
        "the public API is not the one in {LISTING}; if that is meant, run this test with BEAT_BLESS=1:\n{}",
        missing.chain(gone).collect::<String>()
    );
}

/// An item that users can name.
struct Item {
    name: String,
    /// The number of the page that it is on: its own, or that of the type or trait that it is part of.
    page: u64,
    docs: String,
}

/// The code of a page's examples.
fn examples(docs: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    docs.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        inside ^= is_fence;
        inside && !is_fence
    })
}

/// Whether a line of an example uses the item, or implements it.
fn uses(line: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap_or_default();
    let line = line.split("//").next().unwrap_or_default();
    let forms = [format!(".{name}("), format!("::{name}("), format!("::{name})"), format!("fn {name}(")];
    forms.iter().any(|form| line.contains(form)) || line.contains(&format!("type {name} ="))
}

#[test]
fn every_public_item_has_an_example() {
    let (Some(_), Some(json)) = (listing(), json()) else { return };
    let crate_: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    let index = crate_["index"].as_object().expect("rustdoc's JSON has an index");
    let mut walk = Walk { index, items: Vec::new(), seen: HashSet::new() };
    for id in children(&index[&crate_["root"].to_string()]["inner"]["module"]["items"]) {
        walk.visit(id);
    }
    let mut pages = HashMap::<u64, Vec<&str>>::new();
    for item in &walk.items {
        pages.entry(item.page).or_default().extend(examples(&item.docs));
    }
    let has_one = |item: &&Item| {
        item.docs.contains("```") || pages[&item.page].iter().any(|line| uses(line, &item.name))
    };
    let (with, without): (Vec<_>, Vec<_>) = walk.items.iter().partition(has_one);
    let without: Vec<_> = without.iter().map(|item| &item.name).collect();
    println!("{} items with an example", with.len());
    assert!(with.len() > 200, "the walk has lost its way");
    assert!(without.is_empty(), "{} items have no example: {without:#?}", without.len());
}

/// Walks rustdoc's JSON from the root of the crate.
struct Walk<'a> {
    index: &'a serde_json::Map<String, Value>,
    items: Vec<Item>,
    seen: HashSet<u64>,
}

impl Walk<'_> {
    fn visit(&mut self, id: &Value) {
        let Some(item) = self.index.get(&id.to_string()) else { return };
        let is_hidden = item["attrs"].as_array().is_some_and(|all| all.iter().any(is_hiding));
        if item["visibility"] != "public" || is_hidden {
            return;
        }
        let (kind, inner) =
            item["inner"].as_object().and_then(|inner| inner.iter().next()).expect("one kind");
        if kind == "use" {
            return self.reexport(inner);
        }
        self.found(id, item, kind, inner);
    }

    /// A re-export of the crate's own. One of another crate is documented there.
    fn reexport(&mut self, link: &Value) {
        let Some(target) = self.index.get(&link["id"].to_string()) else { return };
        if link["is_glob"] == true {
            for id in children(&target["inner"]["module"]["items"]) {
                self.visit(id);
            }
            return;
        }
        let (kind, inner) =
            target["inner"].as_object().and_then(|inner| inner.iter().next()).expect("one kind");
        self.found(&link["id"], target, kind, inner);
    }

    fn found(&mut self, id: &Value, item: &Value, kind: &str, inner: &Value) {
        let id = id.as_u64().expect("an id is a number");
        if !self.seen.insert(id) {
            return;
        }
        let name = name(item);
        match kind {
            // A module's page is its items'.
            "module" => return children(&inner["items"]).for_each(|id| self.visit(id)),
            "struct" | "enum" | "union" => {
                for block in children(&inner["impls"]) {
                    let block = &self.index[&block.to_string()]["inner"]["impl"];
                    if block["trait"].is_null() {
                        self.members(&block["items"], id, name, |item| item["visibility"] == "public");
                    }
                }
            }
            "trait" => self.members(&inner["items"], id, name, |_| true),
            _ => {}
        }
        self.push(name.to_owned(), id, item);
    }

    fn members(&mut self, ids: &Value, page: u64, of: &str, counts: fn(&Value) -> bool) {
        for id in children(ids) {
            let item = &self.index[&id.to_string()];
            if counts(item) {
                self.push(format!("{of}::{}", name(item)), page, item);
            }
        }
    }

    fn push(&mut self, name: String, page: u64, item: &Value) {
        let docs = item["docs"].as_str().unwrap_or_default().to_owned();
        self.items.push(Item { name, page, docs });
    }
}

fn name(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

fn children(ids: &Value) -> std::slice::Iter<'_, Value> {
    ids.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn is_hiding(attribute: &Value) -> bool {
    attribute.to_string().contains("hidden")
}
