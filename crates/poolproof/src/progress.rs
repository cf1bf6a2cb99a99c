//! What a run shows while it goes on: one line that moves on a terminal, plain lines elsewhere.
//!
//! All of it goes to standard error and none of it is coloured.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use poolproof_run::{Progress, Tick, format_duration};

use crate::output;

/// Width of the column of phase names.
const NAME: usize = 10;

/// How often the moving line is drawn anew between news.
const FRAME: Duration = Duration::from_millis(120);

/// Shows the news of a run.
#[derive(Debug)]
pub(crate) enum Reporter {
    /// Shows nothing.
    Quiet,
    /// One line for each phase and fault.
    Lines,
    /// The same lines, and below them one that moves.
    Moving(Option<ProgressBar>),
}

impl Reporter {
    /// Chooses by what standard error is.
    pub(crate) fn for_stderr(quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if quiet {
            Self::Quiet
        } else if io::stderr().is_terminal() && !dumb {
            Self::Moving(None)
        } else {
            Self::Lines
        }
    }

    /// Shows one piece of news.
    pub(crate) fn on(&mut self, news: &Progress) {
        match news {
            Progress::PhaseStarted { name, detail } => self.begin(name, detail),
            Progress::Tick(tick) => self.tick(tick),
            _ => {}
        }
        if let Some(line) = line(news) {
            if matches!(news, Progress::PhaseEnded { .. }) {
                self.close();
            }
            self.say(&line);
        }
    }

    /// Shows a line among the others.
    pub(crate) fn say(&mut self, line: &str) {
        match self {
            Self::Quiet => {}
            Self::Moving(bar) => {
                let line = wrapped(line, output::stderr_style().width);
                match bar {
                    Some(bar) => bar.println(line),
                    None => output::tell(&format!("{line}\n")),
                }
            }
            // Whoever reads a log wraps it as they like.
            Self::Lines => output::tell(&format!("{line}\n")),
        }
    }

    /// Takes the moving line away.
    pub(crate) fn close(&mut self) {
        if let Self::Moving(bar) = self
            && let Some(bar) = bar.take()
        {
            bar.finish_and_clear();
        }
    }

    fn begin(&mut self, name: &str, detail: &str) {
        self.close();
        if let Self::Moving(bar) = self {
            let style = ProgressStyle::with_template("  {spinner} {prefix} {wide_msg}")
                .expect("bug: the template is valid");
            let fresh = ProgressBar::new_spinner().with_style(style);
            fresh.set_prefix(format!("{name:NAME$}"));
            fresh.set_message(detail.to_owned());
            fresh.enable_steady_tick(FRAME);
            *bar = Some(fresh);
        }
    }

    fn tick(&mut self, tick: &Tick) {
        let Self::Moving(Some(bar)) = self else {
            return;
        };
        if bar.length().is_none() {
            // A bar this short leaves room for the counts in 80 columns.
            let style = ProgressStyle::with_template("  {spinner} {prefix} {bar:12} {wide_msg}")
                .expect("bug: the template is valid");
            bar.set_style(style.progress_chars("█▌░"));
            bar.set_length(millis(tick.duration));
        }
        bar.set_position(millis(tick.at.min(tick.duration)));
        bar.set_message(counts(tick));
    }
}

/// Breaks a line between words where a terminal would break it within one. A word that is longer
/// than a line stays whole, so that a path can be copied.
fn wrapped(line: &str, width: usize) -> String {
    let indent = " ".repeat(NAME + 3);
    let options = textwrap::Options::new(width.max(2 * indent.len()))
        .subsequent_indent(&indent)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(line, options)
}

/// The line that stays of a piece of news.
fn line(news: &Progress) -> Option<String> {
    match news {
        Progress::PhaseStarted { .. } | Progress::Tick(_) => None,
        Progress::PhaseEnded { name, detail, took } => Some(format!(
            "  {name:NAME$} {detail} ({})",
            format_duration(rounded(*took))
        )),
        Progress::FaultStarted { name, title, at } => {
            Some(format!("  {:>NAME$} {name}: {title}", clock(*at)))
        }
        Progress::FaultEnded { name, effect, at } => {
            Some(format!("  {:>NAME$} {name}: {effect}", clock(*at)))
        }
        Progress::Note(note) => Some(format!("  {:NAME$} {note}", "note")),
    }
}

fn counts(tick: &Tick) -> String {
    let failed = (tick.fail + tick.info + tick.shed).saturating_sub(tick.broken_off);
    format!(
        "{:.0} of {:.0} s · {} ok · {} broken off as planned · {failed} not ok · {} in flight",
        tick.at.min(tick.duration).as_secs_f64(),
        tick.duration.as_secs_f64(),
        tick.ok,
        tick.broken_off,
        tick.in_flight
    )
}

fn clock(at: Duration) -> String {
    format!("{:.1} s", at.as_secs_f64())
}

/// Three digits tell enough about how long a phase took.
fn rounded(took: Duration) -> Duration {
    let step = match took.as_millis() {
        0..100 => 1_000,
        100..10_000 => 10_000,
        _ => 100_000,
    };
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(micros / step * step)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_goes_on_below_its_details() {
        let line = "  load       57 operations: 57 ok, 0 failed, 0 shed, 0 in doubt; \
                    all ended 10 ms after the last arrival (1 s)";
        let expected = "  load       57 operations: 57 ok, 0 failed, 0 shed, 0 in doubt; all ended 10 ms\n             \
                        after the last arrival (1 s)";
        assert_eq!(wrapped(line, 80), expected);
        assert_eq!(wrapped(line, 200), line);
    }

    #[test]
    fn a_path_that_is_longer_than_a_line_stays_whole() {
        let path = "reports/".repeat(40);
        let shown = wrapped(&format!("  report     {path}"), 80);
        assert!(shown.contains(&path), "{shown}");
    }
}
