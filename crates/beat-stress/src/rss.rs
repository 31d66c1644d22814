//! How much memory the process has in use: at the start, in the middle and at the end of a run.

use std::fmt;
use std::fs;

/// A size in bytes; zero where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// What is resident now.
pub(crate) fn now() -> Size {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    // The smallest page there is; on a machine with larger ones all samples are too small by one factor.
    Size(statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096)
}

/// Samples of one run.
#[derive(Debug, Default)]
pub(crate) struct Rss {
    start: Option<Size>,
    middle: Option<Size>,
    end: Size,
}

impl Rss {
    /// A sample when so much of the run is done. The start comes after the first fiftieth.
    pub(crate) fn sample(&mut self, done: f64) {
        if done >= 0.02 {
            self.start.get_or_insert_with(now);
        }
        if done >= 0.5 {
            self.middle.get_or_insert_with(now);
        }
        if done >= 1.0 {
            self.end = now();
        }
    }

    /// Whether the second half of the run took more than a fifth and 16 MiB on top of the first.
    pub(crate) fn has_grown(&self) -> bool {
        let middle = self.middle.unwrap_or_default().0;
        self.end.0 > middle + middle / 5 + (16 << 20)
    }
}

impl fmt::Display for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, middle) = (self.start.unwrap_or_default(), self.middle.unwrap_or_default());
        write!(f, "{start} at the start, {middle} in the middle, {} at the end", self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_beyond_the_bar_is_seen() {
        let rss = |middle: u64, end: u64| Rss {
            start: None,
            middle: Some(Size(middle << 20)),
            end: Size(end << 20),
        };
        assert!(!rss(100, 136).has_grown());
        assert!(rss(100, 137).has_grown());
    }
}
