//! What a suite has measured: rows of figures, one for each contender, and the bars that Beat is held to.
//!
//! A bar is a ratio to a named peer of the same run wherever the original figure is a time: times are those of
//! one machine, ratios travel.

use std::time::{Duration, Instant};

use super::clock::CpuClock;
use crate::common::rounds::{Contender, Measured, Rounds};
use crate::common::table::Spread;

pub(crate) const BEAT: &str = "beat";
pub(crate) const SEQUENTIAL: &str = "sequential";

/// What one turn of a contender took, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) wall: f64,
    /// Of the whole process: everybody else's threads sleep meanwhile.
    pub(crate) cpu: f64,
}

impl Turn {
    /// Times a call. CPU time is the process's, so the call may have others work for it.
    pub(crate) fn of(run: impl FnOnce()) -> Self {
        let clock = CpuClock::own();
        let (cpu, began) = (clock.elapsed(), Instant::now());
        run();
        Self { wall: ns(began.elapsed()), cpu: ns(clock.elapsed().saturating_sub(cpu)) }
    }

    /// The same for each of so many operations.
    pub(crate) fn each(self, operations: u64) -> Self {
        Self { wall: self.wall / operations as f64, cpu: self.cpu / operations as f64 }
    }
}

pub(crate) fn ns(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// A contender of a suite: by name.
pub(crate) type Entrant<'a, T = Turn> = Contender<'a, T, &'static str>;

/// What makes a figure a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

/// One contender's figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) who: &'static str,
    pub(crate) value: Spread,
    /// What it is the median of, turn by turn. Empty if it is of all turns together.
    pub(crate) turns: Vec<f64>,
    /// In the row's unit.
    pub(crate) cpu: Option<f64>,
}

/// One question, and everybody's answer.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) figures: Vec<Figure>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, better: Better) -> Self {
        Self { what: what.into(), unit, better, figures: Vec::new() }
    }

    /// Times, in the unit that suits the shortest.
    pub(crate) fn of_turns(
        what: impl Into<String>,
        rounds: Rounds,
        measured: &Measured<Turn, &'static str>,
    ) -> Self {
        let walls = |turns: &Vec<Turn>| rounds.spread(turns.iter().map(|turn| turn.wall).collect()).median;
        let (unit, in_ns) = match measured.iter().map(|(_, turns)| walls(turns)).fold(f64::INFINITY, f64::min)
        {
            ..1e3 => ("ns", 1.0),
            ..1e6 => ("µs", 1e3),
            _ => ("ms", 1e6),
        };
        let mut row = Self::new(what, unit, Better::Less);
        for (who, turns) in measured {
            let of = |part: fn(&Turn) -> f64| turns.iter().map(|turn| part(turn) / in_ns).collect::<Vec<_>>();
            let turns = of(|turn| turn.wall);
            row.figures.push(Figure {
                who,
                value: rounds.spread(turns.clone()),
                turns,
                cpu: Some(Spread::of(of(|turn| turn.cpu)).median),
            });
        }
        row
    }

    /// A figure that is no turn's time, turn by turn.
    pub(crate) fn set(&mut self, who: &'static str, values: Vec<f64>) {
        self.figures.push(Figure { who, value: Spread::of(values.clone()), turns: values, cpu: None });
    }

    fn figure(&self, who: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.who == who)
    }

    pub(crate) fn median(&self, who: &str) -> Option<f64> {
        Some(self.figure(who)?.value.median)
    }

    pub(crate) fn cpu(&self, who: &str) -> Option<f64> {
        self.figure(who)?.cpu
    }

    /// Somebody's figure over another's: the median of the turns' ratios, for turns of the same number lie side by side and
    /// the machine changes from one to the next; of the medians, where their numbers differ or there are none.
    pub(crate) fn ratio(&self, who: &str, peer: &str) -> Option<f64> {
        let (own, theirs) = (self.figure(who)?, self.figure(peer)?);
        if own.turns.is_empty() || own.turns.len() != theirs.turns.len() {
            return Some(own.value.median / theirs.value.median);
        }
        let ratios = own.turns.iter().zip(&theirs.turns).map(|(own, theirs)| own / theirs);
        Some(Spread::of(ratios.collect()).median)
    }

    pub(crate) fn over_sequential(&self, who: &str) -> Option<f64> {
        self.ratio(who, SEQUENTIAL)
    }

    /// The best who is neither Beat, in any of its forms, nor the sequential program.
    pub(crate) fn best_peer(&self) -> Option<&Figure> {
        let is_peer = |who: &str| !who.starts_with(BEAT) && who != SEQUENTIAL;
        let peers = self.figures.iter().filter(|figure| is_peer(figure.who));
        let by_value = |a: &&Figure, b: &&Figure| a.value.median.total_cmp(&b.value.median);
        match self.better {
            Better::Less => peers.min_by(by_value),
            Better::More => peers.max_by(by_value),
        }
    }
}

/// Rows about the same thing: a table and a plot.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    /// In file names.
    pub(crate) id: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl Group {
    pub(crate) fn row(&self, what: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.what == what)
    }
}

/// What Beat is held to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) limit: f64,
    pub(crate) better: Better,
}

impl Bar {
    pub(crate) fn is_reached(&self) -> bool {
        match self.better {
            Better::Less => self.measured <= self.limit,
            Better::More => self.measured >= self.limit,
        }
    }
}

/// The bars of a suite; what was not measured has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bars(pub(crate) Vec<Bar>);

impl Bars {
    pub(crate) fn at_most(&mut self, what: impl Into<String>, measured: Option<f64>, limit: f64) {
        self.push(what.into(), measured, limit, Better::Less);
    }

    pub(crate) fn at_least(&mut self, what: impl Into<String>, measured: Option<f64>, limit: f64) {
        self.push(what.into(), measured, limit, Better::More);
    }

    /// Beat's figure over that of a named peer.
    pub(crate) fn ratio_at_most(&mut self, row: Option<&Row>, peer: &str, limit: f64) {
        if let Some(row) = row {
            self.at_most(format!("{}: Beat ÷ {peer}", row.what), row.ratio(BEAT, peer), limit);
        }
    }

    pub(crate) fn ratio_at_least(&mut self, row: Option<&Row>, peer: &str, limit: f64) {
        if let Some(row) = row {
            self.at_least(format!("{}: Beat ÷ {peer}", row.what), row.ratio(BEAT, peer), limit);
        }
    }

    fn push(&mut self, what: String, measured: Option<f64>, limit: f64, better: Better) {
        if let Some(measured) = measured {
            self.0.push(Bar { what, measured, limit, better });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_turns_side_by_side() {
        let mut row = Row::new("x", "ns", Better::Less);
        // The machine has become slower.
        row.set(BEAT, vec![1.0, 2.0, 12.0]);
        row.set("a", vec![2.0, 8.0, 24.0]);
        row.set("pooled", vec![4.0]);
        assert_eq!([row.ratio(BEAT, "a"), row.ratio(BEAT, "pooled")], [Some(0.5); 2]);
        assert_eq!(row.ratio(BEAT, "absent"), None);
    }

    #[test]
    fn ratios_are_to_the_peers_of_the_same_row() {
        let mut row = Row::new("x", "ns", Better::Less);
        for (who, value) in [(BEAT, 2.0), (SEQUENTIAL, 1.0), ("a", 5.0), ("b", 4.0)] {
            row.set(who, vec![value]);
        }
        assert_eq!(row.best_peer().unwrap().who, "b");
        let mut bars = Bars::default();
        bars.ratio_at_most(Some(&row), "b", 0.5);
        bars.ratio_at_most(Some(&row), "b", 0.4);
        bars.ratio_at_most(Some(&row), "absent", 0.4);
        bars.ratio_at_most(None, "b", 0.4);
        assert_eq!(bars.0.iter().map(Bar::is_reached).collect::<Vec<_>>(), [true, false]);
    }
}
