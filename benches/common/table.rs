//! The table: a line for each question, a column for each contender.

use std::fmt;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// The same program without a scheduler.
    Sequential,
    Beat,
    Rayon,
    Chili,
    Tokio,
}

impl Column {
    pub(crate) const ALL: [Self; 5] = [Self::Sequential, Self::Beat, Self::Rayon, Self::Chili, Self::Tokio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Beat => "beat",
            Self::Rayon => "rayon",
            Self::Chili => "chili",
            Self::Tokio => "tokio",
        }
    }

    /// The column of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }
}

/// A median with the least and the greatest value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// # Panics
    ///
    /// If there are no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { median: quantile(&values, 0.5), min: values[0], max: values[values.len() - 1] }
    }
}

/// The value below which that part of the sorted values lies.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Three digits, by the median: the ends of the spread are as coarse.
        let digits = match self.median.abs() {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        let Self { median, min, max } = self;
        write!(f, "{median:.digits$} [{min:.digits$}..{max:.digits$}]")
    }
}

/// One question.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    cells: [Option<Spread>; Column::ALL.len()],
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str) -> Self {
        Self { what: what.into(), unit, cells: [None; Column::ALL.len()] }
    }

    pub(crate) fn set(&mut self, column: Column, cell: Spread) {
        self.cells[column as usize] = Some(cell);
    }

    pub(crate) fn get(&self, column: Column) -> Option<Spread> {
        self.cells[column as usize]
    }
}

/// Prints rows as Markdown.
pub(crate) fn print(rows: &[Row]) {
    let names = Column::ALL.map(Column::name).join(" | ");
    println!("| what | {names} | unit |");
    println!("|---|{}---|", "--:|".repeat(Column::ALL.len()));
    for row in rows {
        let cells = row.cells.map(|cell| cell.map_or_else(|| "–".into(), |cell| cell.to_string()));
        println!("| {} | {} | {} |", row.what, cells.join(" | "), row.unit);
    }
}
