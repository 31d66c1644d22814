//! A suite's section: printed as Markdown, and, if asked for, written into `docs/benchmarks.md`.
//!
//! The page has one section for each suite and profile, between two comments; a run replaces its own and leaves
//! the others as they are. Plots lie beside it, in `docs/benchmarks/`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::figures::{BEAT, Bar, Better, Group, Row, SEQUENTIAL};
use super::options::Options;
use super::plot;
use crate::Failure;
use crate::common::machine;

/// What a run of a suite has to say.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) suite: &'static str,
    /// What was done, in whole sentences.
    pub(crate) setup: String,
    pub(crate) groups: Vec<Group>,
    pub(crate) bars: Vec<Bar>,
}

impl Section {
    /// Prints the section, and writes it if the options say so.
    pub(crate) fn publish(&self, options: &Options) -> Result<(), Failure> {
        println!("{}", self.text(options, false)?);
        if !options.report {
            return Ok(());
        }
        let plots = plots()?;
        for group in self.groups.iter().filter(|group| plot::shows(group)) {
            plot::write(&plots.join(self.plot_name(group)), group)?;
        }
        write_section(self.suite, &self.text(options, true)?)
    }

    fn plot_name(&self, group: &Group) -> PathBuf {
        format!("{}-{}-{}.svg", self.suite, group.id, profile()).into()
    }

    fn text(&self, options: &Options, with_plots: bool) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        writeln!(out, "## {}, profile `{}`\n", self.suite, profile())?;
        writeln!(out, "{}.\n\n{}", machine::describe(), self.setup)?;
        if options.quick {
            writeln!(out, "\nA quick run: the inputs are small, so these are no figures to quote.")?;
        }
        for group in &self.groups {
            writeln!(out, "\n### {}\n", group.title)?;
            if with_plots && plot::shows(group) {
                writeln!(out, "![{}](benchmarks/{})\n", group.title, self.plot_name(group).display())?;
            }
            table(&mut out, &group.rows)?;
        }
        if !self.bars.is_empty() {
            bars(&mut out, &self.bars)?;
        }
        Ok(out)
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The folder of the plots, made if it is not there.
pub(super) fn plots() -> std::io::Result<PathBuf> {
    let plots = docs().join("benchmarks");
    fs::create_dir_all(&plots)?;
    Ok(plots)
}

/// Writes the section of a suite and this profile into the page.
pub(super) fn write_section(suite: &str, text: &str) -> Result<(), Failure> {
    let page = docs().join("benchmarks.md");
    let old = fs::read_to_string(&page)?;
    fs::write(&page, with_section(&old, &format!("{suite}-{}", profile()), text))?;
    println!("written: {}", page.display());
    Ok(())
}

/// The profile's name is that of the folder the program lies in.
pub(super) fn profile() -> String {
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent).and_then(Path::file_name);
    folder.map_or_else(|| "unknown".into(), |name| name.to_string_lossy().into_owned())
}

fn table(out: &mut String, rows: &[Row]) -> std::fmt::Result {
    writeln!(
        out,
        "| what | who | median [least..greatest] | unit | × sequential | × best peer | CPU |\n\
         |---|---|--:|---|--:|--:|--:|"
    )?;
    for row in rows {
        let best = row.best_peer().map(|figure| figure.who);
        for (index, figure) in row.figures.iter().enumerate() {
            let what = if index == 0 { row.what.as_str() } else { "" };
            let who = if figure.who == BEAT { "**Beat**" } else { figure.who };
            let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".into(), number);
            let over = |peer: &str| row.ratio(figure.who, peer).filter(|ratio| ratio.is_finite());
            let over_best = best.and_then(over).filter(|_| figure.who != SEQUENTIAL);
            writeln!(
                out,
                "| {what} | {who} | {} | {} | {} | {} | {} |",
                figure.value,
                row.unit,
                ratio(over(SEQUENTIAL)),
                ratio(over_best),
                ratio(figure.cpu),
            )?;
        }
    }
    Ok(())
}

fn bars(out: &mut String, bars: &[Bar]) -> std::fmt::Result {
    let reached = bars.iter().filter(|bar| bar.is_reached()).count();
    writeln!(out, "\n### Bars: {reached} of {} reached\n", bars.len())?;
    writeln!(out, "| bar | limit | measured | reached |\n|---|--:|--:|---|")?;
    for bar in bars {
        let sign = match bar.better {
            Better::Less => "≤",
            Better::More => "≥",
        };
        let reached = if bar.is_reached() { "yes" } else { "**no**" };
        let (limit, measured) = (number(bar.limit), number(bar.measured));
        writeln!(out, "| {} | {sign} {limit} | {measured} | {reached} |", bar.what)?;
    }
    Ok(())
}

/// To three digits.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// The page with this section in the place of its former self, or at the end.
fn with_section(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->\n"));
    let section = format!("{begin}{text}{end}");
    match (page.find(&begin), page.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{section}{}", &page[..from], &page[to + end.len()..])
        }
        _ => format!("{page}\n{section}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_its_former_place() {
        let page = with_section("# Benchmarks\n", "a", "one\n");
        let page = with_section(&page, "b", "two\n");
        assert!(page.starts_with("# Benchmarks"));
        let page = with_section(&page, "a", "three\n");
        assert!(!page.contains("one"));
        assert!(page.find("three").unwrap() < page.find("two").unwrap());
        assert_eq!(page.matches("<!-- end a -->").count(), 1);
    }
}
