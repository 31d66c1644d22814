//! The walk over a directory tree, by loops inside loops.
//!
//! A directory's entries are walked by a parallel loop; each file met is [scanned](super::scan) on the
//! spot. No thread lists names for the others.
//!
//! What is searched: regular files. What is not: names that begin with a dot, what `.gitignore`
//! and `.ignore` files at or below the root exclude, symbolic links, and directories nested
//! deeper than [`MAX_DEPTH`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::search::Search;

/// The deepest nesting of directories that is walked: the walk recurses.
pub(crate) const MAX_DEPTH: usize = 64;

impl Search {
    /// Walks one directory and all below it.
    pub(crate) fn directory(&self, dir: &Path, outer: &Rules<'_>) {
        if self.is_over() {
            return;
        }
        if outer.depth >= MAX_DEPTH {
            return self.count_unreadable(dir, &"it is nested too deep");
        }
        let entries = match self.list(dir) {
            Ok(entries) => entries,
            Err(error) => return self.count_unreadable(dir, &error),
        };
        let rules = outer.enter(dir, &entries);
        let visible: Vec<Entry> =
            entries.into_iter().filter(|entry| !entry.hidden && !rules.exclude(entry)).collect();
        self.entries(&visible, &rules);
    }

    pub(crate) fn entries(&self, entries: &[Entry], rules: &Rules<'_>) {
        self.engine().for_each(entries, |entry| match entry.is_dir {
            true => self.directory(&entry.path, rules),
            false => self.file(&entry.path),
        });
    }

    /// The directories and regular files in `dir`.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type() {
                // Neither links (they can lead in circles) nor pipes and devices (they block).
                Ok(kind) if !kind.is_dir() && !kind.is_file() => {}
                Ok(kind) => entries.push(Entry {
                    hidden: entry.file_name().as_encoded_bytes().starts_with(b"."),
                    is_dir: kind.is_dir(),
                    path: entry.path(),
                }),
                Err(error) => self.count_unreadable(&entry.path(), &error),
            }
        }
        Ok(entries)
    }
}

/// A directory or a regular file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) is_dir: bool,
    pub(crate) hidden: bool,
}

/// The ignore files from the root down to one directory: a list that lives on the walk's stack.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    own: Option<Gitignore>,
    outer: Option<&'a Rules<'a>>,
    depth: usize,
}

impl Rules<'_> {
    /// Outside the root: nothing is excluded.
    pub(crate) const NONE: Rules<'static> = Rules { own: None, outer: None, depth: 0 };

    fn enter<'a>(&'a self, dir: &Path, entries: &[Entry]) -> Rules<'a> {
        let mut builder = GitignoreBuilder::new(dir);
        for name in [".gitignore", ".ignore"] {
            let path = dir.join(name);
            if entries.iter().any(|entry| !entry.is_dir && entry.path == path) {
                // A line that is no pattern is skipped; the others count.
                let _ = builder.add(path);
            }
        }
        let own = builder.build().ok().filter(|rules| !rules.is_empty());
        Rules { own, outer: Some(self), depth: self.depth + 1 }
    }

    /// The innermost rule that says something about the entry decides.
    fn exclude(&self, entry: &Entry) -> bool {
        let mut rules = Some(self);
        while let Some(level) = rules {
            let said = level.own.as_ref().map(|own| own.matched(&entry.path, entry.is_dir));
            match said {
                Some(Match::Ignore(_)) => return true,
                Some(Match::Whitelist(_)) => return false,
                Some(Match::None) | None => rules = level.outer,
            }
        }
        false
    }
}
