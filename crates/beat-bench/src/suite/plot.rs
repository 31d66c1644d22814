//! A group's plot: everybody's figures as multiples of Beat's, on a logarithmic scale.
//!
//! A heading for each row, with Beat's own figure, and under it a bar for each of the others: from the line that
//! stands for Beat to the right if the figure is larger, to the left if it is smaller.

use std::path::Path;

use plotters::prelude::*;

use super::figures::{BEAT, Better, Group, Row};
use crate::Failure;

/// In pixels, like everything here.
const WIDTH: i32 = 900;
const LINE: i32 = 16;
const TOP: i32 = 34;
/// Where bars may begin, and end.
const BARS: (i32, i32) = (330, WIDTH - 60);

/// Whether there is anything to draw: figures of Beat's that are above zero.
pub(crate) fn shows(group: &Group) -> bool {
    group.rows.iter().any(|row| !lines(row).is_empty())
}

/// Draws a group that [shows] something into an SVG file.
pub(crate) fn write(path: &Path, group: &Group) -> Result<(), Failure> {
    let lines: Vec<_> = group.rows.iter().flat_map(lines).collect();
    let height = TOP + lines.len() as i32 * LINE + 8;
    let root = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("{}: multiples of Beat's", group.title);
    root.draw(&Text::new(title, (8, 8), ("sans-serif", 16)))?;
    let scale = Scale::over(lines.iter().filter_map(|line| line.ratio));
    let one = scale.at(1.0);
    for (index, line) in lines.iter().enumerate() {
        let y = TOP + index as i32 * LINE;
        root.draw(&Text::new(line.label.clone(), (8, y), ("sans-serif", 12)))?;
        let Some(ratio) = line.ratio else { continue };
        let (x, color) = (scale.at(ratio), if line.beat_is_better { BLUE } else { RED });
        let bar = [(one.min(x), y + 1), (one.max(x), y + LINE - 3)];
        root.draw(&Rectangle::new(bar, color.mix(0.6).filled()))?;
        root.draw(&Text::new(format!("{ratio:.2}"), (one.max(x) + 4, y), ("sans-serif", 12)))?;
    }
    root.draw(&PathElement::new([(one, TOP), (one, height - 8)], BLACK))?;
    root.present()?;
    Ok(())
}

#[derive(Debug)]
struct Line {
    label: String,
    /// `None` in a heading.
    ratio: Option<f64>,
    beat_is_better: bool,
}

fn lines(row: &Row) -> Vec<Line> {
    let Some(own) = row.median(BEAT).filter(|own| *own > 0.0) else { return Vec::new() };
    let heading = format!("{}: Beat {own:.1} {}", row.what, row.unit);
    let heading = Line { label: heading, ratio: None, beat_is_better: false };
    let others = row.figures.iter().filter(|figure| figure.who != BEAT);
    let others = others.filter_map(|figure| {
        let ratio = row.ratio(figure.who, BEAT).filter(|ratio| ratio.is_finite() && *ratio > 0.0)?;
        let beat_is_better = (ratio >= 1.0) == (row.better == Better::Less);
        Some(Line { label: format!("      {}", figure.who), ratio: Some(ratio), beat_is_better })
    });
    std::iter::once(heading).chain(others).collect()
}

/// From ratios to places.
#[derive(Debug)]
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    /// At least from a half to two.
    fn over(ratios: impl Iterator<Item = f64>) -> Self {
        let (least, most) =
            ratios.fold((0.5_f64, 2.0_f64), |(least, most), ratio| (least.min(ratio), most.max(ratio)));
        Self { least: least.ln(), most: most.ln() }
    }

    fn at(&self, ratio: f64) -> i32 {
        let (from, to) = BARS;
        let part = (ratio.ln() - self.least) / (self.most - self.least);
        from + (f64::from(to - from) * part) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_in_their_place() {
        let scale = Scale::over([0.1, 20.0].into_iter());
        assert_eq!(scale.at(0.1), BARS.0);
        assert_eq!(scale.at(20.0), BARS.1);
        assert!(scale.at(1.0) > BARS.0 && scale.at(1.0) < BARS.1);
    }
}
