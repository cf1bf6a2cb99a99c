//! The verdict for a terminal: a screen at most, readable without colour. What does not fit into a
//! line goes on in the next one; nothing is cut.

use poolproof_oracle::Verdict;
use textwrap::core::display_width;

use crate::headline::{self, Mark, Tone};
use crate::units::{count, duration, one_line, rate, shorten};
use crate::{FaultReport, HistogramRecord, Record};

/// What the line of guarantees needs.
pub(crate) const MIN_WIDTH: usize = 64;
/// Width of the column of labels.
const LABEL: usize = 12;
/// The most findings; the rest is counted.
const FINDINGS_MAX: usize = 6;
/// The most faults, and the most objectives; the rest is counted.
const ITEMS_MAX: usize = 12;
/// The most notes; the rest is counted.
const NOTES_MAX: usize = 4;
/// The most characters of a text that somebody else wrote. What we write ourselves is shorter.
const TEXT_MAX: usize = 400;
/// Stands between the parts of a line; a line is broken there first.
const SEPARATOR: &str = " · ";

/// How a terminal wants its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Whether words and signs are coloured too. They always say all that colour says.
    pub color: Color,
    /// Characters per line; narrower than 64 counts as 64. The command that replays the run stays
    /// on one line, so that it can be copied.
    pub width: usize,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// With ANSI escapes.
    Always,
    /// Plain text.
    Never,
}

/// Renders the verdict, each line ended by a newline.
#[must_use]
pub fn terminal(record: &Record, style: TerminalStyle) -> String {
    let painter = Painter {
        color: style.color,
        width: style.width.max(MIN_WIDTH),
    };
    let mut lines = painter.top(record);
    lines.extend(painter.findings(record));
    lines.extend(painter.bottom(record));
    lines.join("\n") + "\n"
}

struct Painter {
    color: Color,
    width: usize,
}

impl Painter {
    /// The verdict, and what must be known along with it.
    fn top(&self, record: &Record) -> Vec<String> {
        let mut lines = vec![self.title(record)];
        if let Some(text) = headline::without_recovery(record) {
            let mark = Mark {
                sign: "!",
                word: "recovery",
                tone: Tone::Open,
            };
            lines.push(self.marked(mark, &text));
        }
        lines.extend(partial(record).map(|text| self.line("partial", &text)));
        lines
    }

    fn bottom(&self, record: &Record) -> Vec<String> {
        let mut lines = vec![self.guarantees(record)];
        lines.extend(self.operations(record));
        lines.extend(self.objectives(record));
        lines.extend(self.faults(record));
        lines.push(self.line("latency", &latency(record)));
        lines.extend(connections(record).map(|text| self.line("connections", &text)));
        lines.extend(self.notes(record));
        let replay = one_line(&record.run.replay);
        lines.push(format!("  {:LABEL$}{replay}", "replay"));
        lines
    }

    fn title(&self, record: &Record) -> String {
        let mark = headline::verdict_mark(record);
        let verdict = format!("{} {}", mark.sign, mark.word);
        let rest = format!(
            "  {}  {} · {} op/s for {} · seed {}",
            one_line(&record.run.scenario),
            one_line(&record.subject.name),
            rate(record.load.rate_per_s),
            duration(record.run.duration_us),
            record.run.seed,
        );
        let lines = filled(&format!("{verdict}{rest}"), self.width - LABEL - 2);
        let text = hung(&lines);
        // The colour comes last, since it takes no room.
        text.replacen(&verdict, &self.paint(&verdict, mark.tone), 1)
    }

    fn line(&self, label: &str, text: &str) -> String {
        format!("  {label:LABEL$}{}", self.wrapped(text))
    }

    /// A line whose text begins with a mark.
    fn marked(&self, mark: Mark, text: &str) -> String {
        let label = format!("{:LABEL$}", format!("{} {}", mark.sign, mark.word));
        format!("  {}{}", self.paint(&label, mark.tone), self.wrapped(text))
    }

    /// Text beside its label, broken where a line is full.
    fn wrapped(&self, text: &str) -> String {
        hung(&filled(text, self.width - LABEL - 2))
    }

    fn guarantees(&self, record: &Record) -> String {
        let mut used = 0;
        let mut text = String::new();
        for result in &record.guarantees {
            let mark = headline::status_mark(&result.status);
            let code = result.guarantee.code();
            used += code.len() + 4;
            text.push_str(&self.paint(&format!("{} {code}", mark.sign), mark.tone));
            text.push_str("  ");
        }
        let tally = tally(record);
        if LABEL + 2 + used + tally.len() > self.width {
            text = hung(&[text.trim_end().to_owned(), tally]);
        } else {
            text.push_str(&tally);
        }
        format!("  {:LABEL$}{text}", "guarantees")
    }

    fn objectives(&self, record: &Record) -> Option<String> {
        let told: Vec<String> = record
            .objectives
            .iter()
            .map(|o| {
                let mark = headline::status_mark(&o.status);
                let shown = headline::reason(&o.status).unwrap_or(&o.summary);
                format!(
                    "{} {} {}: {}",
                    mark.sign,
                    mark.word,
                    one_line(&o.name),
                    one_line(shown)
                )
            })
            .collect();
        self.items("objectives", &told)
    }

    /// What ops came to; the commits in doubt get a line of their own when one does not hold it.
    fn operations(&self, record: &Record) -> Vec<String> {
        let counts = operations(record);
        let Some(doubts) = headline::doubts(record) else {
            return vec![self.line("operations", &counts)];
        };
        let inline = format!("{counts}: {doubts}");
        if display_width(&inline) <= self.width - LABEL - 2 {
            vec![self.line("operations", &inline)]
        } else {
            vec![
                self.line("operations", &counts),
                self.line("in doubt", &doubts),
            ]
        }
    }

    fn faults(&self, record: &Record) -> Option<String> {
        if record.faults.is_empty() {
            return Some(self.line("faults", "none: nothing was broken"));
        }
        let told: Vec<String> = record.faults.iter().map(fault).collect();
        self.items("faults", &told)
    }

    /// What the reader should know beside the figures, such as connections of the run that were lost.
    fn notes(&self, record: &Record) -> Vec<String> {
        let notes = &record.run.notes;
        let mut lines: Vec<String> = notes
            .iter()
            .take(NOTES_MAX)
            .map(|note| self.line("note", &shorten(&one_line(note), TEXT_MAX)))
            .collect();
        let hidden = notes.len().saturating_sub(NOTES_MAX);
        lines.extend(more(hidden).map(|text| self.line("…", &text)));
        lines
    }

    /// A line of several items, of which there may be too many for anybody to read.
    fn items(&self, label: &str, items: &[String]) -> Option<String> {
        let hidden = items.len().saturating_sub(ITEMS_MAX);
        let shown = items.iter().take(ITEMS_MAX);
        let mut told: Vec<String> = shown.map(|item| shorten(item, TEXT_MAX)).collect();
        told.extend(more(hidden));
        (!told.is_empty()).then(|| self.line(label, &told.join(SEPARATOR)))
    }

    /// What went wrong, most important first.
    fn findings(&self, record: &Record) -> Vec<String> {
        let mut lines: Vec<String> = headline::violated(record)
            .map(|g| {
                let shown = one_line(g.evidence.first().unwrap_or(&g.summary));
                let shown = shorten(&shown, TEXT_MAX);
                let of = match g.violations {
                    0 | 1 => String::new(),
                    n => format!("{} violations, the first: ", count(n)),
                };
                let text = format!(
                    "{} {}: {of}{shown}",
                    g.guarantee.code(),
                    g.guarantee.title()
                );
                self.marked(headline::status_mark(&g.status), &text)
            })
            .collect();
        if !record.performance_valid {
            lines.push(self.line("not valid", &headline::lagged(record)));
        }
        if record.verdict != Verdict::Fail || lines.is_empty() {
            let known = record.run.partial.as_ref();
            let reasons = record.verdict_reasons.iter();
            let new = reasons.filter(|reason| Some(*reason) != known);
            lines.extend(new.map(|reason| {
                let reason = shorten(&one_line(reason), TEXT_MAX);
                self.line("because", &reason)
            }));
        }
        let hidden = lines.len().saturating_sub(FINDINGS_MAX);
        lines.truncate(FINDINGS_MAX);
        lines.extend(more(hidden).map(|text| self.line("…", &text)));
        lines
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        paint(self.color, text, tone)
    }
}

/// Colours a text.
pub(crate) fn paint(color: Color, text: &str, tone: Tone) -> String {
    let code = match (color, tone) {
        (Color::Never, _) => return text.to_owned(),
        (Color::Always, Tone::Good) => "32",
        (Color::Always, Tone::Bad) => "31",
        (Color::Always, Tone::Open) => "33",
    };
    format!("\u{1b}[1;{code}m{text}\u{1b}[0m")
}

/// Fills lines with the parts of a text, as many as fit; what is longer than a line is broken at
/// its spaces.
pub(crate) fn filled(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut whole = false;
    for part in text.split(SEPARATOR) {
        let width = display_width(part) + display_width(SEPARATOR);
        match lines.last_mut() {
            Some(last) if whole && display_width(last) + width <= room => {
                last.push_str(SEPARATOR);
                last.push_str(part);
            }
            _ => {
                let part = broken(part, room);
                // Nothing follows the end of a part that took several lines.
                whole = part.len() == 1;
                lines.extend(part);
            }
        }
    }
    lines
}

fn broken(text: &str, room: usize) -> Vec<String> {
    let options = textwrap::Options::new(room)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let lines = textwrap::wrap(text, options);
    lines.into_iter().map(String::from).collect()
}

/// Joins lines so that all but the first begin below the text of their label.
fn hung(lines: &[String]) -> String {
    lines.join(&format!("\n{:1$}", "", LABEL + 2))
}

fn more(hidden: usize) -> Option<String> {
    (hidden > 0).then(|| format!("{} more in the report", count(headline::as_u64(hidden))))
}

fn partial(record: &Record) -> Option<String> {
    let reason = record.run.partial.as_ref()?;
    Some(format!(
        "{}; this covers what happened until then",
        shorten(&one_line(reason), TEXT_MAX)
    ))
}

fn tally(record: &Record) -> String {
    let mut words: Vec<(&str, u64)> = Vec::new();
    for result in &record.guarantees {
        let word = headline::status_mark(&result.status).word;
        match words.iter_mut().find(|(known, _)| *known == word) {
            Some((_, n)) => *n += 1,
            None => words.push((word, 1)),
        }
    }
    let told: Vec<String> = words
        .iter()
        .map(|(word, n)| format!("{n} {word}"))
        .collect();
    if told.is_empty() {
        "none checked".to_owned()
    } else {
        told.join(", ")
    }
}

/// What ops came to; those that ended as planned without an answer are called `planned`.
fn operations(record: &Record) -> String {
    let o = &record.outcomes;
    let some = |n: u64, what: &str| match n {
        0 => String::new(),
        n => format!(" · {} {what}", count(n)),
    };
    format!(
        "{}: {} ok · {} failed · {} shed{}{}{} · {} in doubt",
        count(o.offered),
        count(o.ok),
        count(o.unplanned_fail()),
        count(o.shed),
        some(o.planned_fail, "broken off as planned"),
        some(o.stuck, "stuck"),
        some(o.cut_short, "cut short"),
        count(o.info),
    )
}

fn fault(fault: &FaultReport) -> String {
    let name = one_line(&fault.event.name);
    if fault.event.effect.seen {
        let outside = headline::outside(fault).map_or_else(String::new, |o| format!(" ({o})"));
        format!("{name}{outside} {}", recovery(fault))
    } else {
        let mark = headline::fault_mark(fault);
        format!(
            "{} {name} {}: {}",
            mark.sign,
            mark.word,
            headline::effect(fault)
        )
    }
}

fn recovery(fault: &FaultReport) -> String {
    match fault.recovery_us {
        None => "not recovered".to_owned(),
        Some(0) => "back at once".to_owned(),
        Some(us) => format!("back in {}", duration(us)),
    }
}

fn latency(record: &Record) -> String {
    let l = &record.latencies;
    format!(
        "response, faults included, {} · acquire {} · lag p99 {}",
        quantiles(&l.response),
        quantiles(&l.acquire),
        duration(l.lag.p99_us)
    )
}

fn quantiles(histogram: &HistogramRecord) -> String {
    if histogram.count == 0 {
        return "none".to_owned();
    }
    format!(
        "p50 {} p99 {}",
        duration(histogram.p50_us),
        duration(histogram.p99_us)
    )
}

fn connections(record: &Record) -> Option<String> {
    let peak = headline::connections(record).map(|peak| format!("peak {peak}"));
    let opened = record
        .connections
        .opened
        .map(|n| format!("{} opened", count(n)));
    let told: Vec<String> = peak.into_iter().chain(opened).collect();
    (!told.is_empty()).then(|| format!("{} · {}", told.join(", "), headline::settings(record)))
}
