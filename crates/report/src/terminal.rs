//! The verdict for a terminal: at most [`MAX_LINES`] lines, readable without colour.

use poolproof_oracle::Verdict;

use crate::headline::{self, Mark, Tone};
use crate::units::{count, duration, one_line, rate, shorten};
use crate::{FaultReport, HistogramRecord, Record};

/// The most lines that [`terminal`] returns.
pub const MAX_LINES: usize = 12;

/// What the line of guarantees needs.
const MIN_WIDTH: usize = 64;
/// Width of the column of labels.
const LABEL: usize = 12;
/// How many lines of findings are worth more than the details of operations and faults: two of
/// them, and how many more there are.
const FINDINGS_MIN: usize = 3;
/// How many lines operations and faults may take, the best first. The last leaves room for
/// two lines of findings whatever a record holds.
const SHAPES: [Shape; 3] = [Shape(2, 2), Shape(1, 2), Shape(1, 1)];

/// How a terminal wants its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Whether words and signs are coloured too. They always say all that colour says.
    pub color: Color,
    /// Characters per line; narrower than 64 counts as 64. The command that replays the run is
    /// never cut, so that it can be copied.
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

/// Renders the verdict in at most [`MAX_LINES`] lines, each ended by a newline.
#[must_use]
pub fn terminal(record: &Record, style: TerminalStyle) -> String {
    let painter = Painter {
        color: style.color,
        width: style.width.max(MIN_WIDTH),
    };
    let mut lines = painter.top(record);
    let findings = painter.findings(record);
    let room = MAX_LINES - lines.len() - findings.len().min(FINDINGS_MIN);
    let [best, rest @ ..] = SHAPES;
    let bottom = rest
        .into_iter()
        .fold(painter.bottom(record, best), |bottom, shape| {
            if bottom.len() <= room {
                bottom
            } else {
                painter.bottom(record, shape)
            }
        });
    let room = MAX_LINES - lines.len() - bottom.len();
    lines.extend(painter.fitting(findings, room));
    lines.extend(bottom);
    lines.join("\n") + "\n"
}

/// The most lines for the operations, and for the faults.
#[derive(Debug, Clone, Copy)]
struct Shape(usize, usize);

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

    fn bottom(&self, record: &Record, Shape(operations, faults): Shape) -> Vec<String> {
        let mut lines = vec![self.guarantees(record)];
        lines.extend(self.operations(record, operations));
        lines.extend(self.objectives(record));
        lines.extend(self.faults(record, faults));
        lines.push(self.line("latency", &latency(record)));
        lines.extend(connections(record).map(|text| self.line("connections", &text)));
        let replay = one_line(&record.run.replay);
        lines.push(format!("  {:LABEL$}{replay}", "replay"));
        lines
    }

    fn title(&self, record: &Record) -> String {
        let mark = headline::verdict_mark(record.verdict);
        let verdict = format!("{} {}", mark.sign, mark.word);
        let rest = format!(
            "  {}  {} · {} op/s for {} · seed {}",
            one_line(&record.run.scenario),
            one_line(&record.subject.name),
            rate(record.load.rate_per_s),
            duration(record.run.duration_us),
            record.run.seed,
        );
        let rest = shorten(&rest, self.width.saturating_sub(verdict.chars().count()));
        format!("{}{rest}", self.paint(&verdict, mark.tone))
    }

    fn line(&self, label: &str, text: &str) -> String {
        let text = shorten(text, self.width - LABEL - 2);
        format!("  {label:LABEL$}{text}")
    }

    /// A line whose text begins with a mark.
    fn marked(&self, mark: Mark, text: &str) -> String {
        let label = format!("{:LABEL$}", format!("{} {}", mark.sign, mark.word));
        let text = shorten(text, self.width - LABEL - 2);
        format!("  {}{text}", self.paint(&label, mark.tone))
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
        let tally = shorten(
            &tally(record),
            (self.width - LABEL - 2).saturating_sub(used),
        );
        format!("  {:LABEL$}{text}{tally}", "guarantees")
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
        (!told.is_empty()).then(|| self.line("objectives", &told.join(" · ")))
    }

    /// What ops came to; the commits in doubt get a line of their own when one does not hold it.
    fn operations(&self, record: &Record, most: usize) -> Vec<String> {
        let room = self.width - LABEL - 2;
        let fits = |text: &str| text.chars().count() <= room;
        let counts = ["broken off as planned", "planned"].map(|word| operations(record, word));
        let told = counts.iter().find(|text| fits(text)).unwrap_or(&counts[1]);
        let (Some(long), Some(short)) = (headline::doubts(record), headline::short_doubts(record))
        else {
            return vec![self.line("operations", told)];
        };
        let mut inline = counts.iter().map(|counts| format!("{counts}: {long}"));
        if let Some(inline) = inline.find(|text| fits(text)) {
            vec![self.line("operations", &inline)]
        } else if most == 1 {
            vec![self.line("operations", &format!("{}: {short}", counts[1]))]
        } else {
            let doubts = if fits(&long) { &long } else { &short };
            vec![self.line("operations", told), self.line("in doubt", doubts)]
        }
    }

    /// The faults on one line, or on two when one does not hold them.
    fn faults(&self, record: &Record, most: usize) -> Vec<String> {
        const SEPARATOR: &str = " · ";
        let room = self.width - LABEL - 2;
        let told: Vec<String> = record.faults.iter().map(fault).collect();
        if most == 1 && !told.is_empty() {
            return vec![self.line("faults", &told.join(SEPARATOR))];
        }
        let mut used = 0;
        let fitting = told.iter().take_while(|text| {
            used += text.chars().count() + SEPARATOR.chars().count();
            used <= room + SEPARATOR.chars().count()
        });
        let (first, second) = told.split_at(fitting.count().max(1).min(told.len()));
        [("faults", first), ("", second)]
            .into_iter()
            .filter(|(_, told)| !told.is_empty())
            .map(|(label, told)| self.line(label, &told.join(SEPARATOR)))
            .collect()
    }

    /// What went wrong, most important first.
    fn findings(&self, record: &Record) -> Vec<String> {
        let mut lines: Vec<String> = headline::violated(record)
            .map(|g| {
                let shown = g.evidence.first().unwrap_or(&g.summary);
                let text = format!(
                    "{} {}: {}",
                    g.guarantee.code(),
                    g.guarantee.title(),
                    one_line(shown)
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
            lines.extend(new.map(|reason| self.line("because", &one_line(reason))));
        }
        lines
    }

    /// As many lines as there is room for; the rest is counted.
    fn fitting(&self, mut lines: Vec<String>, room: usize) -> Vec<String> {
        if lines.len() > room {
            let hidden = lines.len() - (room - 1);
            lines.truncate(room - 1);
            let text = format!("{} more in the report", count(headline::as_u64(hidden)));
            lines.push(self.line("…", &text));
        }
        lines
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match (self.color, tone) {
            (Color::Never, _) => return text.to_owned(),
            (Color::Always, Tone::Good) => "32",
            (Color::Always, Tone::Bad) => "31",
            (Color::Always, Tone::Open) => "33",
        };
        format!("\u{1b}[1;{code}m{text}\u{1b}[0m")
    }
}

fn partial(record: &Record) -> Option<String> {
    let reason = record.run.partial.as_ref()?;
    Some(format!(
        "{}; this covers what happened until then",
        one_line(reason)
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
fn operations(record: &Record, planned: &str) -> String {
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
        some(o.planned_fail, planned),
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
        "response {} · acquire {} · lag p99 {}",
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
