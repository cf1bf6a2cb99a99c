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
            Self::Moving(Some(bar)) => bar.println(line),
            Self::Lines | Self::Moving(None) => output::tell(&format!("{line}\n")),
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
            let style = ProgressStyle::with_template("  {spinner} {prefix} {bar:24} {wide_msg}")
                .expect("bug: the template is valid");
            bar.set_style(style.progress_chars("█▌░"));
            bar.set_length(millis(tick.duration));
        }
        bar.set_position(millis(tick.at.min(tick.duration)));
        bar.set_message(counts(tick));
    }
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
