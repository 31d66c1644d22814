//! The scan of one file: read, split at line ends, search the pieces side by side.
//!
//! A file is read whole (a memory map would turn a file that shrinks meanwhile into a crash) and
//! cut into chunks of about [`CHUNK`] bytes. A parallel loop goes over the chunks: several workers
//! share a large file, and a cancelled search stops within one chunk.
//! Line numbers need the number of lines before a chunk; those are counted for all chunks at
//! once, when the first one has found something.
//!
//! A file larger than [`MAX_FILE`], with a NUL byte in its first [`SNIFFED`] bytes, or with a line
//! longer than [`MAX_LINE`] is no source text and is skipped.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use grep_matcher::Matcher;
use grep_searcher::{BinaryDetection, MmapChoice, Searcher, SearcherBuilder, Sink, SinkMatch};
use serde::Serialize;

use super::search::Search;

/// The largest file that is searched, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// The bytes that are searched between two looks at the cancellation.
const CHUNK: usize = 16 << 10;
/// The longest line of source text, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Where a NUL byte makes a file binary.
const SNIFFED: usize = 8 << 10;
/// The most text of a line that a row carries, in bytes.
pub(crate) const MAX_TEXT: usize = 400;
/// How much of a long line is shown before its first match, in bytes.
const LEAD: usize = 100;

/// One found line, as it goes to the client.
#[derive(Debug, Serialize)]
struct Row<'a> {
    path: &'a str,
    line: u64,
    /// The line in pieces: every second one, from the second on, is a match.
    parts: Vec<String>,
}

/// A file in memory.
struct Text<'a> {
    search: &'a Search,
    path: &'a Path,
    bytes: &'a [u8],
    chunks: &'a [Range<usize>],
    /// For each chunk, the lines before it.
    lines_before: OnceLock<Vec<u64>>,
}

impl Search {
    /// Searches one file.
    pub(crate) fn file(&self, path: &Path) {
        if self.is_over() {
            return;
        }
        let bytes = match read(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.count_skipped(),
            Err(error) => return self.count_unreadable(path, &error),
        };
        let chunks = match chunks(&bytes) {
            Some(chunks) if !is_binary(&bytes) => chunks,
            _ => return self.count_skipped(),
        };
        self.count_file();
        let text = Text { search: self, path, bytes: &bytes, chunks: &chunks, lines_before: OnceLock::new() };
        self.engine().for_each(&chunks, |chunk| text.search(chunk));
    }
}

impl Text<'_> {
    fn search(&self, chunk: &Range<usize>) {
        if self.search.is_over() {
            return;
        }
        let bytes = &self.bytes[chunk.clone()];
        let mut rows = Rows { text: self, chunk, path: None, out: Vec::new() };
        let searched = searcher().search_slice(self.search.matcher(), bytes, &mut rows);
        let out = rows.out;
        if !out.is_empty() {
            self.search.send(out);
        }
        if let Err(error) = searched {
            self.search.count_unreadable(self.path, &error);
        }
        self.search.count_bytes(bytes.len() as u64);
    }

    fn lines_before(&self, chunk: &Range<usize>) -> u64 {
        let counts = self.lines_before.get_or_init(|| {
            let mut lines = 0;
            let mut before = Vec::with_capacity(self.chunks.len());
            for chunk in self.chunks {
                before.push(lines);
                lines += memchr::memchr_iter(b'\n', &self.bytes[chunk.clone()]).count() as u64;
            }
            before
        });
        counts[self.chunks.partition_point(|before| before.start < chunk.start)]
    }
}

/// Turns the matches in one chunk into rows.
struct Rows<'a> {
    text: &'a Text<'a>,
    chunk: &'a Range<usize>,
    /// The path as shown, once it is needed.
    path: Option<String>,
    out: Vec<u8>,
}

impl Sink for Rows<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        let search = self.text.search;
        if search.is_over() || !search.claim_row() {
            return Ok(false);
        }
        let path = self.path.get_or_insert_with(|| search.shown(self.text.path));
        let in_chunk = found.line_number().unwrap_or(1);
        let row = Row {
            path,
            line: self.text.lines_before(self.chunk) + in_chunk,
            parts: parts(search.matcher(), found.bytes())?,
        };
        serde_json::to_writer(&mut self.out, &row)?;
        self.out.push(b'\n');
        Ok(true)
    }
}

fn searcher() -> Searcher {
    SearcherBuilder::new()
        .line_number(true)
        .bom_sniffing(false)
        .binary_detection(BinaryDetection::none())
        .memory_map(MmapChoice::never())
        // All text is in memory already. The smallest buffer, for one that is never filled.
        .heap_limit(Some(1))
        .build()
}

/// The file's bytes; `None` if it is too large.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > MAX_FILE {
        return Ok(None);
    }
    // One byte more than expected lets the end of the file be seen without growing.
    let mut bytes = Vec::with_capacity(len as usize + 1);
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE).then_some(bytes))
}

fn is_binary(bytes: &[u8]) -> bool {
    memchr::memchr(0, &bytes[..bytes.len().min(SNIFFED)]).is_some()
}

/// Cuts text after line ends, into pieces of [`CHUNK`] bytes or one line. `None`: a line is too
/// long.
fn chunks(bytes: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut chunks = Vec::with_capacity(bytes.len() / CHUNK + 1);
    let mut start = 0;
    while start < bytes.len() {
        let rest = &bytes[start..];
        let len = if rest.len() <= CHUNK {
            rest.len()
        } else if let Some(newline) = memchr::memrchr(b'\n', &rest[..CHUNK]) {
            newline + 1
        } else if let Some(newline) = memchr::memchr(b'\n', &rest[..rest.len().min(MAX_LINE)]) {
            newline + 1
        } else if rest.len() <= MAX_LINE {
            rest.len()
        } else {
            return None;
        };
        chunks.push(start..start + len);
        start += len;
    }
    Some(chunks)
}

/// Cuts a line into text, match, text, match, … text; of a long line the part around its first
/// match.
fn parts(matcher: &impl Matcher, line: &[u8]) -> io::Result<Vec<String>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let first = matcher.find(line).map_err(|error| io::Error::other(error.to_string()))?;
    let first = first.map_or(0, |found| found.start());
    let begin = if line.len() <= MAX_TEXT { 0 } else { boundary(line, first.saturating_sub(LEAD)) };
    let end = boundary(line, begin + MAX_TEXT);

    let mut parts = Vec::new();
    let mut at = begin;
    let visit = |found: grep_matcher::Match| {
        let (from, to) = (found.start().max(at), found.end().min(end));
        if from < to {
            parts.push(lossy(&line[at..from]));
            parts.push(lossy(&line[from..to]));
            at = to;
        }
        found.end() < end
    };
    matcher.find_iter_at(line, begin, visit).map_err(|error| io::Error::other(error.to_string()))?;
    parts.push(lossy(&line[at..end]));
    if begin > 0 {
        parts[0].insert(0, '…');
    }
    if end < line.len()
        && let Some(last) = parts.last_mut()
    {
        last.push('…');
    }
    Ok(parts)
}

/// The first place at or after `at` that does not cut a UTF-8 character.
fn boundary(line: &[u8], at: usize) -> usize {
    let is_inside = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    let at = at.min(line.len());
    at + line[at..].iter().take_while(is_inside).count()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(regex: &str, line: &str) -> Vec<String> {
        let matcher = grep_regex::RegexMatcher::new_line_matcher(regex).unwrap();
        parts(&matcher, line.as_bytes()).unwrap()
    }

    #[test]
    fn every_second_part_is_a_match() {
        assert_eq!(cut("[0-9]+", "a1b22\r\n"), ["a", "1", "b", "22", ""]);
        assert_eq!(cut("^a", "aa\n"), ["", "a", "a"]);
        assert_eq!(cut("\\bé\\b", "né é"), ["né ", "é", ""]);
    }

    #[test]
    fn an_empty_match_shows_the_line_without_a_highlight() {
        assert_eq!(cut("x*$", "abc\n"), ["abc"]);
    }

    #[test]
    fn a_long_line_is_shown_around_its_first_match() {
        let line = format!("{}needle{}", "é".repeat(1_000), "é".repeat(1_000));
        let parts = cut("needle", &line);
        assert_eq!(parts[1], "needle");
        assert!(parts[0].starts_with('…') && parts[2].ends_with('…'));
        assert!(parts.iter().all(|part| !part.contains('\u{fffd}')), "no character is cut");
        assert!(parts.concat().len() < MAX_TEXT + 20);
    }

    #[test]
    fn chunks_end_at_lines_and_lose_nothing() {
        for line in [1, 10, 1_000, CHUNK - 1, CHUNK, CHUNK + 1, MAX_LINE - 1] {
            let text = format!("{}\n", "x".repeat(line)).repeat(200_000 / line + 2);
            let chunks = chunks(text.as_bytes()).unwrap();
            let mut at = 0;
            for chunk in chunks {
                assert_eq!(chunk.start, at);
                assert!(chunk.len() <= CHUNK.max(line + 1));
                assert_eq!(text.as_bytes()[chunk.end - 1], b'\n');
                at = chunk.end;
            }
            assert_eq!(at, text.len());
        }
    }

    #[test]
    fn a_line_without_end_is_text_up_to_the_limit() {
        assert_eq!(chunks(&[b'x'; MAX_LINE]).unwrap().len(), 1);
        assert_eq!(chunks(&[b'x'; MAX_LINE + 1]), None);
        assert_eq!(chunks(b""), Some(vec![]));
    }
}
