//! Interleaved measurement: every contender has its turn before any has its next, so that a disturbance of
//! the machine falls upon all alike.
//!
//! Within a turn the order changes from one to the next. A *round* is the median of several turns in a row; a
//! figure is the median of the rounds, with the least and the greatest round as its spread. Differences from
//! and ratios to the sequential program are taken turn by turn, where both lie close together in time.

use super::table::{Column, Row, Spread};

/// How often to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) rounds: usize,
    /// Turns of each contender in a round.
    pub(crate) turns: usize,
}

/// Somebody's program: what one turn of it measures.
pub(crate) struct Contender<'a, T, W = Column> {
    pub(crate) who: W,
    pub(crate) turn: Box<dyn FnMut() -> T + 'a>,
}

impl<'a, T, W> Contender<'a, T, W> {
    pub(crate) fn new(who: W, turn: impl FnMut() -> T + 'a) -> Self {
        Self { who, turn: Box::new(turn) }
    }
}

/// What each contender measured, in the order of its turns.
pub(crate) type Measured<T, W = Column> = Vec<(W, Vec<T>)>;

impl Rounds {
    /// Gives everybody a turn for warming up, then all turns of all rounds.
    pub(crate) fn interleave<T, W: Copy>(self, mut contenders: Vec<Contender<'_, T, W>>) -> Measured<T, W> {
        for contender in &mut contenders {
            (contender.turn)();
        }
        let mut measured: Measured<T, W> = contenders.iter().map(|c| (c.who, Vec::new())).collect();
        let count = contenders.len();
        for turn in 0..self.rounds * self.turns {
            for step in 0..count {
                let step = if turn % 2 == 0 { step } else { count - 1 - step };
                let at = (turn + step) % count;
                measured[at].1.push((contenders[at].turn)());
            }
        }
        measured
    }

    /// A row with a figure for each contender: `figure` of its measurement.
    pub(crate) fn row<T>(
        self,
        what: impl Into<String>,
        unit: &'static str,
        measured: &Measured<T>,
        figure: impl Fn(&T) -> f64,
    ) -> Row {
        let mut row = Row::new(what, unit);
        for (column, turns) in measured {
            row.set(*column, self.spread(turns.iter().map(&figure).collect()));
        }
        row
    }

    /// A row with a figure for each contender but the sequential program: `figure` of its own measurement and
    /// the sequential one of the same turn.
    pub(crate) fn row_over_sequential(
        self,
        what: impl Into<String>,
        unit: &'static str,
        measured: &Measured<f64>,
        figure: impl Fn(f64, f64) -> f64,
    ) -> Row {
        let (_, sequential) = measured
            .iter()
            .find(|(column, _)| *column == Column::Sequential)
            .expect("the sequential program is always measured");
        let mut row = Row::new(what, unit);
        for (column, turns) in measured.iter().filter(|(column, _)| *column != Column::Sequential) {
            let figures = turns.iter().zip(sequential).map(|(&own, &sequential)| figure(own, sequential));
            row.set(*column, self.spread(figures.collect()));
        }
        row
    }

    /// The median of the rounds, and their spread.
    pub(crate) fn spread(self, turns: Vec<f64>) -> Spread {
        Spread::of(turns.chunks(self.turns).map(|round| Spread::of(round.to_vec()).median).collect())
    }
}
