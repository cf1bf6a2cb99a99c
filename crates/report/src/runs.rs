//! Several runs that were asked for at once, in one table, one JUnit document, one Markdown text.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use textwrap::core::display_width;

use crate::headline::{self, Mark, Tone, as_u64};
use crate::junit::{document, suite, suite_of_none};
use crate::markdown::{inline, markdown as markdown_of_one};
use crate::terminal::{MIN_WIDTH, filled, paint};
use crate::units::{count, counted, one_line, shorten};
use crate::{Record, TerminalStyle};

/// The bytes of Markdown after which the table ends, and with the details of runs. A pull request
/// comment holds 65,536 characters.
const TABLE_MAX: usize = 32 * 1024;
const DETAILS_MAX: usize = 60 * 1024;
/// The most characters of what failed.
const WHY_MAX: usize = 240;

/// One of the runs.
#[derive(Debug, Clone)]
pub enum Attempt {
    /// It took place.
    Judged {
        /// What is known of it.
        record: Box<Record>,
        /// The folder with its report.
        folder: PathBuf,
    },
    /// It did not take place.
    NotRun {
        /// The scenario.
        scenario: String,
        /// The subject.
        subject: String,
        /// The seed.
        seed: u64,
        /// Why.
        reason: String,
    },
}

impl Attempt {
    fn record(&self) -> Option<&Record> {
        match self {
            Self::Judged { record, .. } => Some(record),
            Self::NotRun { .. } => None,
        }
    }

    fn scenario(&self) -> &str {
        match self {
            Self::Judged { record, .. } => &record.run.scenario,
            Self::NotRun { scenario, .. } => scenario,
        }
    }

    fn seed(&self) -> u64 {
        match self {
            Self::Judged { record, .. } => record.run.seed,
            Self::NotRun { seed, .. } => *seed,
        }
    }

    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Judged { folder, .. } => Some(folder),
            Self::NotRun { .. } => None,
        }
    }

    fn mark(&self) -> Mark {
        match self {
            Self::Judged { record, .. } => headline::verdict_mark(record),
            Self::NotRun { .. } => Mark {
                sign: "!",
                word: "NOT RUN",
                tone: Tone::Open,
            },
        }
    }

    /// What stands in the way of a pass, in a few words.
    fn why(&self) -> String {
        match self {
            Self::Judged { record, .. } => headline::in_short(record),
            Self::NotRun { reason, .. } => one_line(reason),
        }
    }
}

/// Renders the runs as a table: seed, verdict, report, and below that what failed.
///
/// `asked` is how many runs were asked for: what came up may have ended them early.
#[must_use]
pub fn terminal(attempts: &[Attempt], asked: usize, style: TerminalStyle) -> String {
    let several = several_scenarios(attempts);
    let name = |attempt: &Attempt| match several {
        true => format!("{} {}", one_line(attempt.scenario()), attempt.seed()),
        false => attempt.seed().to_string(),
    };
    let names: Vec<String> = attempts.iter().map(name).collect();
    let marks: Vec<String> = attempts.iter().map(verdict).collect();
    let heading = if several { "scenario, seed" } else { "seed" };
    let (first, second) = (widest(heading, &names), widest("verdict", &marks));
    let indent = first + second + 6;
    let mut lines = vec![
        tally(attempts, asked),
        format!(
            "  {:>first$}  {:second$}  report, and what failed",
            heading, "verdict"
        ),
    ];
    for ((attempt, name), mark) in attempts.iter().zip(&names).zip(&marks) {
        // Padded before it is coloured: colour takes no room.
        let mark = paint(style.color, &format!("{mark:second$}"), attempt.mark().tone);
        let mut told: Vec<String> = attempt
            .folder()
            .map(|folder| one_line(&folder.display().to_string()))
            .into_iter()
            .collect();
        let why = shorten(&attempt.why(), WHY_MAX);
        if !why.is_empty() {
            told.extend(filled(
                &why,
                style.width.max(MIN_WIDTH) - indent.min(MIN_WIDTH / 2),
            ));
        }
        let told = told.join(&format!("\n{:indent$}", ""));
        lines.push(
            format!("  {name:>first$}  {mark}  {told}")
                .trim_end()
                .to_owned(),
        );
    }
    lines.join("\n") + "\n"
}

fn verdict(attempt: &Attempt) -> String {
    let mark = attempt.mark();
    format!("{} {}", mark.sign, mark.word)
}

fn widest(heading: &str, cells: &[String]) -> usize {
    let widths = cells.iter().map(|cell| display_width(cell));
    widths.max().unwrap_or(0).max(heading.len())
}

/// Renders the runs as GitHub-flavoured Markdown, below 64 KiB: a table, and the whole of those that
/// did not pass as far as there is room. A single run that took place looks as it does alone.
///
/// # Panics
/// Never: writing to a string does not fail.
#[must_use]
pub fn markdown(attempts: &[Attempt], asked: usize) -> String {
    if let ([Attempt::Judged { record, .. }], 1) = (attempts, asked) {
        return markdown_of_one(record);
    }
    let mut text = String::new();
    write_table(attempts, asked, &mut text).expect(WRITTEN);
    let open: Vec<&Record> = attempts
        .iter()
        .filter(|attempt| attempt.mark().tone != Tone::Good)
        .filter_map(Attempt::record)
        .collect();
    for (nth, record) in open.iter().enumerate() {
        let whole = markdown_of_one(record);
        if text.len() + whole.len() > DETAILS_MAX {
            let hidden = counted(as_u64(open.len() - nth), "run");
            writeln!(
                text,
                "\n… and the details of {hidden} more in their folders"
            )
            .expect(WRITTEN);
            break;
        }
        let name = inline(&record.run.scenario);
        let seed = record.run.seed;
        let heading = format!("<details><summary>{name}, seed {seed}</summary>");
        write!(text, "\n{heading}\n\n{whole}\n</details>\n").expect(WRITTEN);
    }
    text
}

const WRITTEN: &str = "bug: a string takes all that is written to it";

fn write_table(attempts: &[Attempt], asked: usize, out: &mut String) -> fmt::Result {
    let open = attempts
        .iter()
        .filter(|a| a.mark().tone != Tone::Good)
        .count();
    let runs = counted(as_u64(attempts.len()), "run");
    match open {
        0 if attempts.len() == asked => writeln!(out, "## ✓ {runs} passed\n")?,
        0 => writeln!(out, "## ! {runs} of {} passed\n", count(as_u64(asked)))?,
        open => writeln!(out, "## ✗ {} of {runs} did not pass\n", count(as_u64(open)))?,
    }
    writeln!(out, "{}\n", tally(attempts, asked))?;
    writeln!(out, "| scenario | seed | verdict | what failed | report |")?;
    writeln!(out, "|---|---:|---|---|---|")?;
    for (nth, attempt) in attempts.iter().enumerate() {
        if out.len() > TABLE_MAX {
            let hidden = counted(as_u64(attempts.len() - nth), "run");
            return writeln!(out, "\n… and {hidden} more");
        }
        let folder = attempt.folder().map(|folder| folder.display().to_string());
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            inline(attempt.scenario()),
            attempt.seed(),
            verdict(attempt),
            inline(&attempt.why()),
            inline(&folder.unwrap_or_default()),
        )?;
    }
    Ok(())
}

/// Renders the runs as one JUnit document, with one suite per run.
#[must_use]
pub fn junit(attempts: &[Attempt]) -> String {
    let first = attempts.first().map(Attempt::seed);
    let same = attempts.iter().all(|attempt| Some(attempt.seed()) == first);
    let suites: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            let seed = (!same).then(|| attempt.seed());
            match attempt {
                Attempt::Judged { record, .. } => suite(record, seed),
                Attempt::NotRun {
                    scenario,
                    subject,
                    reason,
                    ..
                } => suite_of_none(scenario, subject, seed, reason),
            }
        })
        .collect();
    document(&suites)
}

fn several_scenarios(attempts: &[Attempt]) -> bool {
    let mut scenarios = attempts.iter().map(Attempt::scenario);
    let first = scenarios.next();
    scenarios.any(|scenario| Some(scenario) != first)
}

/// `5 of 20 runs: 4 PASS, 1 FAIL`.
fn tally(attempts: &[Attempt], asked: usize) -> String {
    let mut words: Vec<(&str, u64)> = Vec::new();
    for attempt in attempts {
        let word = attempt.mark().word;
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, n)) => *n += 1,
            None => words.push((word, 1)),
        }
    }
    let told: Vec<String> = words
        .iter()
        .map(|(word, n)| format!("{} {word}", count(*n)))
        .collect();
    let runs = counted(as_u64(asked), "run");
    let of = match attempts.len() {
        all if all == asked => String::new(),
        some => format!("{} of ", count(as_u64(some))),
    };
    format!("{of}{runs}: {}", told.join(", "))
}
