//! Usage, level and admissions over time, as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::run::{LEVELS, Run, Sample};
use crate::Failure;

const SIZE: (u32, u32) = (960, 300);
const USAGE: RGBColor = RGBColor(70, 110, 180);
const LEVEL: RGBColor = RGBColor(201, 58, 83);
const MADE: RGBColor = RGBColor(46, 139, 87);

/// One chart for each engine, one below the other.
pub(super) fn write(file: &Path, limit: u64, runs: &[(&str, &Run)]) -> Result<(), Failure> {
    let size = (SIZE.0, SIZE.1 * runs.len().max(1) as u32);
    let area = SVGBackend::new(file, size).into_drawing_area();
    area.fill(&WHITE)?;
    for (area, (engine, run)) in area.split_evenly((runs.len().max(1), 1)).iter().zip(runs) {
        let end = run.samples.last().map_or(1.0, |last| last.at.max(1.0));
        let most = (limit >> 20) as f64 * 1.1;
        let killed = if run.killed { ", killed" } else { "" };
        let mut chart = ChartBuilder::on(area)
            .caption(format!("{engine}{killed}"), ("sans-serif", 18))
            .margin(8)
            .x_label_area_size(32)
            .y_label_area_size(56)
            .right_y_label_area_size(64)
            .build_cartesian_2d(0.0..end, 0.0..most)?
            .set_secondary_coord(0.0..end, 0.0..40.0);
        chart.configure_mesh().x_desc("seconds").y_desc("MiB").light_line_style(TRANSPARENT).draw()?;
        chart.configure_secondary_axes().y_desc("thumbnails a second; level × 10").draw()?;
        let limit = (limit >> 20) as f64;
        chart.draw_series(LineSeries::new([(0.0, limit), (end, limit)], BLACK.stroke_width(1)))?;
        let usage = run.samples.iter().map(|sample| (sample.at, (sample.usage >> 20) as f64));
        chart
            .draw_series(AreaSeries::new(usage, 0.0, USAGE.mix(0.25)).border_style(USAGE))?
            .label("usage")
            .legend(key(USAGE));
        chart
            .draw_secondary_series(LineSeries::new(made(&run.samples), &MADE))?
            .label("made a second")
            .legend(key(MADE));
        let level = run.samples.iter().filter_map(|sample| Some((sample.at, sample.level? as f64 * 10.0)));
        chart
            .draw_secondary_series(LineSeries::new(level, &LEVEL))?
            .label(format!("level, {} to {}", LEVELS[0], LEVELS[4]))
            .legend(key(LEVEL));
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    }
    area.present()?;
    Ok(())
}

fn key(color: RGBColor) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color)
}

/// Thumbnails a second, over a second each.
fn made(samples: &[Sample]) -> Vec<(f64, f64)> {
    let before = |at: f64| samples.iter().rev().find(|sample| sample.at <= at - 1.0);
    samples
        .iter()
        .filter_map(|sample| {
            let before = before(sample.at)?;
            Some((sample.at, (sample.made - before.made) as f64 / (sample.at - before.at)))
        })
        .collect()
}
