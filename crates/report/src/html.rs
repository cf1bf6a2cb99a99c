//! The report as one HTML file: works offline, needs no script, follows the reader's colour scheme.
//!
//! `maud` escapes every value, and the page forbids itself scripts and any outside resource.

mod condense;
mod reproduce;
mod tables;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};
use poolproof_oracle::Verdict;

use crate::headline::{self, Tone};
use crate::units::{count, counted, duration, one_line, percent, rate};
use crate::{CutShort, HistogramRecord, Record};

const STYLE: &str = include_str!("html/style.css");
/// A reader who is told more than this at the top reads none of it.
const REASONS_MAX: usize = 20;
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Renders a record as one HTML document.
#[must_use]
pub fn html(record: &Record) -> String {
    let mark = headline::verdict_mark(record);
    let scenario = one_line(&record.run.scenario);
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (mark.word) " · " (scenario) " · poolproof" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (lead(record))
                    (tables::guarantees(record))
                    (timeline::section(record))
                    (tables::faults(record))
                    (tables::latencies(record))
                    (tables::errors(record))
                    (reproduce::section(record))
                    (reproduce::notes(record))
                }
                footer {
                    (one_line(&record.tool.name)) " " (one_line(&record.tool.version))
                    " · run " (one_line(&record.run.id)) " · " (record.schema)
                }
            }
        }
    };
    page.into_string()
}

fn lead(record: &Record) -> Markup {
    let mark = headline::verdict_mark(record);
    let settings = &record.subject.settings;
    markup! {
        header class=(format!("lead {}", tone_class(mark.tone))) {
            p.crumbs {
                b { (one_line(&record.run.scenario)) }
                @if !record.run.title.is_empty() { span { (one_line(&record.run.title)) } }
            }
            h1 {
                span.verdict { span.sign aria-hidden="true" { (mark.sign) } (mark.word) }
                span.sentence {
                    (headline::sentence(record))
                    @if let Some(text) = headline::without_recovery(record) { " " b { (text) "." } }
                }
            }
            (notices(record))
            (key_numbers(record))
            p.setup {
                code { (one_line(&record.subject.name)) }
                " with pool_size " b { (settings.pool_size) }
                ", max_overflow " b { (settings.max_overflow) }
                ", pool_timeout " b { (duration(settings.pool_timeout_us)) }
                " · " (one_line(&record.load.arrivals)) ", "
                b { (rate(record.load.rate_per_s)) " ops/s" }
                " for " b { (duration(record.run.duration_us)) }
                " · seed " b { (record.run.seed) }
                " · " (one_line(&record.run.started_at))
            }
        }
    }
}

/// What a reader must know before any figure.
fn notices(record: &Record) -> Markup {
    markup! {
        @if let Some(reason) = &record.run.partial {
            div.notice role="note" {
                strong { "◧ Partial run" }
                " It ended early: " (one_line(reason)) ". Everything below covers what happened until then."
            }
        }
        @if !record.performance_valid {
            div.notice role="note" {
                strong { "! Performance figures are not valid" }
                " The load generator could not keep its own schedule: " (headline::lagged(record))
                ". An objective that was met counts, since lag only makes times longer; guarantees are judged all the same."
            }
        }
        @if !record.verdict_reasons.is_empty() {
            ul.reasons {
                @for reason in record.verdict_reasons.iter().take(REASONS_MAX) { li { (one_line(reason)) } }
                @if let Some(hidden) = record.verdict_reasons.len().checked_sub(REASONS_MAX + 1) {
                    li.remark { "… and " (count(headline::as_u64(hidden + 1))) " more in result.json" }
                }
            }
        }
    }
}

fn key_numbers(record: &Record) -> Markup {
    let o = &record.outcomes;
    let response = &record.latencies.response;
    let not_ok = format!(
        "{} broken off as planned, {} failed, {} shed",
        count(o.planned_fail),
        count(o.unplanned_fail()),
        count(o.shed)
    );
    let doubts = headline::doubts(record).unwrap_or_else(|| match o.info {
        0 => "every outcome was known".to_owned(),
        _ => "not resolved".to_owned(),
    });
    let opened = match record.connections.opened {
        Some(n) => format!("{} opened in all", count(n)),
        None => "opened in all: the subject cannot tell".to_owned(),
    };
    let connections = headline::connections(record).unwrap_or_else(|| "–".to_owned());
    markup! {
        dl.key-numbers {
            (key_number("operations", &count(o.offered), &endings(record)))
            (key_number("ok", &count(o.ok), &format!("{} · {not_ok}", percent(o.ok, o.offered))))
            (key_number("in doubt", &count(o.info), &doubts))
            (key_number("connections, peak", &connections, &opened))
            div class=(validity_class(record)) {
                dt { "response p99" @if !record.performance_valid { " – not valid" } }
                dd.figure { (quantile(response, response.p99_us)) }
                dd.detail { "p50 " (quantile(response, response.p50_us)) " · generator lag p99 "
                    (quantile(&record.latencies.lag, record.latencies.lag.p99_us)) }
            }
        }
    }
}

fn endings(record: &Record) -> String {
    let o = &record.outcomes;
    let stuck = match o.stuck {
        0 => String::new(),
        n => format!(" · {} never ended", count(n)),
    };
    let cut_short = match o.cut_short {
        0 => String::new(),
        n => format!(" · {} cut short", count(n)),
    };
    format!(
        "{} committed, {} rolled back, {} and {}{stuck}{cut_short}",
        count(o.committed),
        count(o.rolled_back),
        counted(o.panicked, "panic"),
        counted(o.cancelled, "cancellation"),
    )
}

fn key_number(term: &str, figure: &str, detail: &str) -> Markup {
    markup! {
        div { dt { (term) } dd.figure { (figure) } dd.detail { (detail) } }
    }
}

fn validity_class(record: &Record) -> &'static str {
    if record.performance_valid {
        "valid"
    } else {
        "not-valid"
    }
}

/// Marks a section whose figures do not count.
fn invalid_tag(record: &Record) -> Markup {
    markup! {
        @if !record.performance_valid {
            p.tag { "! Not valid: the load generator lagged; see the notice at the top." }
        }
    }
}

fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Open => "open",
    }
}

/// A status as sign and word, in its colour.
fn status(mark: headline::Mark) -> Markup {
    markup! {
        span class=(format!("status {}", tone_class(mark.tone))) {
            span.sign aria-hidden="true" { (mark.sign) }
            (mark.word)
        }
    }
}

/// A quantile, or a dash where nothing was measured.
fn quantile(histogram: &HistogramRecord, us: u64) -> String {
    if histogram.count == 0 {
        "–".to_owned()
    } else {
        duration(us)
    }
}

/// The exit code and what it means, for those who see only the report.
fn exit_code(record: &Record) -> String {
    let meaning = match (record.run.cut_short, record.verdict) {
        (Some(CutShort::Interrupted), _) => "the run was interrupted",
        (_, Verdict::Fail) => "a guarantee or an objective was violated",
        (Some(CutShort::ServerLost), _) => "the server was lost",
        (None, Verdict::Pass) => "every guarantee that could be checked held",
        (None, Verdict::Inconclusive) => "something could not be judged",
        (None, Verdict::Invalid) => "the run cannot be trusted",
    };
    match record.run.exit_code {
        Some(code) => format!("{code}: {meaning}"),
        None => meaning.to_owned(),
    }
}
