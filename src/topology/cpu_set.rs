//! Sets of CPUs, and the kernel's way to write them.

use std::fmt;
use std::io;
use std::str::FromStr;

use super::bad;

/// CPUs from this number on are not believed: no system has them, and a set takes a bit for each number below its last.
/// Source: the largest `NR_CPUS` of Linux is 8192.
pub(super) const MOST_CPUS: usize = 8192;

const BITS: usize = u64::BITS as usize;

/// A set of CPUs, by the numbers that the system gives them.
///
/// It is written and read as the kernel writes such sets: `0-3,8`.
///
/// ```
/// use beat::topology::CpuSet;
///
/// let given: CpuSet = "0-3,8".parse()?;
/// assert_eq!((given.len(), given.first()), (5, Some(0)));
/// assert!(given.contains(8) && !given.contains(4) && !given.is_empty());
///
/// let mut odd = CpuSet::new();
/// odd.extend([1, 3, 5]);
/// odd.insert(7);
/// odd.remove(5);
/// assert_eq!(given.intersection(&odd).iter().collect::<Vec<_>>(), [1, 3]);
/// assert_eq!(given.difference(&odd).to_string(), "0,2,8");
/// assert_eq!(given.union(&odd).to_string(), "0-3,7-8");
/// assert!(!odd.is_subset(&given));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CpuSet {
    /// Bit `i % 64` of word `i / 64` is CPU `i`. The last word is not zero: equal sets are equal here.
    words: Vec<u64>,
}

impl CpuSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// Adds a CPU. The set takes a bit for each number up to it.
    pub fn insert(&mut self, cpu: usize) {
        let word = cpu / BITS;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (cpu % BITS);
    }

    /// Takes a CPU out, if it is in.
    pub fn remove(&mut self, cpu: usize) {
        if let Some(word) = self.words.get_mut(cpu / BITS) {
            *word &= !(1 << (cpu % BITS));
            self.trim();
        }
    }

    /// Whether a CPU is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        self.words.get(cpu / BITS).is_some_and(|word| word & (1 << (cpu % BITS)) != 0)
    }

    /// How many CPUs are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no CPU is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The CPU with the least number.
    pub fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, &word)| {
            // Each step takes the lowest bit away.
            let rests = std::iter::successors(Some(word), |&rest| Some(rest & rest.wrapping_sub(1)));
            rests.take_while(|&rest| rest != 0).map(move |rest| place * BITS + rest.trailing_zeros() as usize)
        })
    }

    /// The CPUs that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::from_words(self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect())
    }

    /// The CPUs of this set that are not in the other one.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        Self::from_words(self.words.iter().zip(others).map(|(a, b)| a & !b).collect())
    }

    /// The CPUs that are in any of the two sets.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (mut all, less) =
            if self.words.len() < other.words.len() { (other.clone(), self) } else { (self.clone(), other) };
        for (word, more) in all.words.iter_mut().zip(&less.words) {
            *word |= more;
        }
        all
    }

    /// Whether every CPU of this set is in the other one.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.difference(other).is_empty()
    }

    /// The set with these words, the lowest CPUs first.
    pub(super) fn from_words(words: Vec<u64>) -> Self {
        let mut set = Self { words };
        set.trim();
        set
    }

    /// The CPUs as runs of neighbours: first and last.
    fn runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut cpus = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = cpus.next()?;
            let mut last = first;
            while cpus.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            Some((first, last))
        })
    }

    fn trim(&mut self) {
        let length = self.words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        self.words.truncate(length);
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.runs().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl FromStr for CpuSet {
    type Err = io::Error;

    /// Reads the kernel's form: numbers and ranges with commas between them, in any order; nothing is the empty set.
    fn from_str(text: &str) -> io::Result<Self> {
        let mut set = Self::new();
        let text = text.trim();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse(), last.trim().parse::<usize>()) {
                (Ok(first), Ok(last)) if first <= last && last < MOST_CPUS => set.extend(first..=last),
                _ => {
                    return Err(bad(format!(
                        "{part:?} is not a number or a range of CPUs: write them like 0-3,8, with numbers below \
                         {MOST_CPUS}"
                    )));
                }
            }
        }
        Ok(set)
    }
}

impl Extend<usize> for CpuSet {
    fn extend<T: IntoIterator<Item = usize>>(&mut self, cpus: T) {
        cpus.into_iter().for_each(|cpu| self.insert(cpu));
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<T: IntoIterator<Item = usize>>(cpus: T) -> Self {
        let mut set = Self::new();
        set.extend(cpus);
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_set_of_cpus_is_refused() {
        for text in ["x", "1-", "-1", "3-1", "1,,2", "1 2", "0-99999999999", "8192", "1-2-3"] {
            let error = text.parse::<CpuSet>().unwrap_err();
            assert!(error.to_string().contains("write them like 0-3,8"), "{text}: {error}");
        }
        assert_eq!(" \n".parse::<CpuSet>().unwrap(), CpuSet::new());
    }

    proptest! {
        #[test]
        fn it_is_a_set(a in prop::collection::btree_set(0..300_usize, 0..40), b in prop::collection::btree_set(0..300_usize, 0..40)) {
            let sets = [&a, &b].map(|set| set.iter().copied().collect::<CpuSet>());
            let list = |set: &CpuSet| set.iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(list(&sets[0]), a.clone());
            prop_assert_eq!(sets[0].len(), a.len());
            prop_assert_eq!(list(&sets[0].union(&sets[1])), &a | &b);
            prop_assert_eq!(list(&sets[0].intersection(&sets[1])), &a & &b);
            prop_assert_eq!(list(&sets[0].difference(&sets[1])), &a - &b);
            prop_assert_eq!(sets[0].is_subset(&sets[1]), a.is_subset(&b));
            prop_assert_eq!(&sets[0].to_string().parse::<CpuSet>().unwrap(), &sets[0]);
            let mut less = sets[0].clone();
            b.iter().for_each(|&cpu| less.remove(cpu));
            prop_assert_eq!(less, sets[0].difference(&sets[1]));
        }
    }
}
