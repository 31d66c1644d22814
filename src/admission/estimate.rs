//! What a task of each spawn site needs, learned from the whole process's usage.
//!
//! Nobody says how much memory one task holds. But at each look the usage is about
//! `base + Σ running(site) × need(site)`, and over many looks the numbers running differ: the needs are the weights of a
//! linear filter, found by normalised least mean squares (Widrow and Hoff, 1960; Nagumo and Noda, 1967).
//! Learning happens while tasks are counted, so from the level low on, or where they name an estimate. Until then a
//! task is taken to need [`FIRST`].

use std::collections::HashMap;

/// What a task needs of which nothing is known, in bytes.
pub(crate) const FIRST: f64 = 256.0 * 1024.0;
/// How much of the error one look corrects.
const STEP: f64 = 0.5;
/// Sites beyond so many are not learned: they share [`FIRST`].
const MOST_SITES: usize = 1024;

#[derive(Debug)]
struct Site {
    running: u32,
    need: f64,
}

/// The sites by address.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    sites: HashMap<usize, Site>,
    base: Option<f64>,
}

impl Sites {
    /// What a task of the site is taken to need, in bytes.
    pub(crate) fn need(&self, site: usize) -> u64 {
        self.sites.get(&site).map_or(FIRST, |site| site.need) as u64
    }

    /// A task of the site begins to count.
    pub(crate) fn begin(&mut self, site: usize) {
        if self.sites.len() < MOST_SITES || self.sites.contains_key(&site) {
            self.sites.entry(site).or_insert(Site { running: 0, need: FIRST }).running += 1;
        }
    }

    /// It has ended.
    pub(crate) fn end(&mut self, site: usize) {
        if let Some(site) = self.sites.get_mut(&site) {
            site.running = site.running.saturating_sub(1);
        }
    }

    /// Learns from a look that found so many bytes in use.
    pub(crate) fn learn(&mut self, usage: u64) {
        let usage = usage as f64;
        let running = self.sites.values().map(|site| f64::from(site.running).powi(2)).sum::<f64>();
        let base = *self.base.get_or_insert(usage);
        let predicted: f64 =
            base + self.sites.values().map(|site| f64::from(site.running) * site.need).sum::<f64>();
        let correction = STEP * (usage - predicted) / (1.0 + running);
        self.base = Some((base + correction).max(0.0));
        for site in self.sites.values_mut() {
            site.need = (site.need + correction * f64::from(site.running)).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    #[test]
    fn two_sites_are_told_apart() {
        let mut sites = Sites::default();
        let mut random = 7_u32;
        for _ in 0..2000 {
            let mut pick = |below: u32| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 16) % below
            };
            let (small, large) = (pick(20), pick(6));
            (0..small).for_each(|_| sites.begin(1));
            (0..large).for_each(|_| sites.begin(2));
            let noise = f64::from(pick(200)) / 100.0 - 1.0;
            let usage = 50.0 + 2.0 * f64::from(small) + 20.0 * f64::from(large) + noise;
            sites.learn((usage * MIB) as u64);
            (0..small).for_each(|_| sites.end(1));
            (0..large).for_each(|_| sites.end(2));
        }
        let need = |site| sites.need(site) as f64 / MIB;
        assert!((1.5..2.5).contains(&need(1)), "small: {}", need(1));
        assert!((18.0..22.0).contains(&need(2)), "large: {}", need(2));
        assert_eq!(sites.need(3), FIRST as u64);
    }
}
