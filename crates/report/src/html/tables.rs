//! Guarantees, objectives, commits in doubt, faults, latencies, errors: as tables.

use maud::{Markup, html};

use super::{invalid_tag, quantile, status};
use crate::headline;
use crate::units::{count, counted, duration, moment_u, one_line};
use crate::{HistogramRecord, Record};

/// A page with more rows than this helps nobody; the rest is in the record.
const ROWS_MAX: usize = 200;

pub(super) fn guarantees(record: &Record) -> Markup {
    html! {
        section aria-labelledby="guarantees" {
            h2 #guarantees { "Guarantees" }
            div.scroll {
                table.stack {
                    thead { tr {
                        th scope="col" { "guarantee" }
                        th scope="col" { "result" }
                        th.number scope="col" { "checked" }
                        th.number scope="col" { "violations" }
                        th scope="col" { "what was checked, and the evidence" }
                    } }
                    tbody {
                        @for g in &record.guarantees {
                            tr {
                                th scope="row" { b.code { (g.guarantee.code()) } span { (g.guarantee.title()) } }
                                td data-label="result" { (status(headline::status_mark(&g.status))) }
                                td.number data-label="checked" { (count(g.checked)) }
                                td.number data-label="violations" { (count(g.violations)) }
                                td.prose {
                                    (one_line(headline::reason(&g.status).unwrap_or(&g.summary)))
                                    (evidence(&g.evidence, g.violations))
                                }
                            }
                        }
                    }
                }
            }
            @if record.guarantees.is_empty() { p.empty { "No guarantee was judged." } }
            (objectives(record))
            (doubts(record))
        }
    }
}

fn evidence(lines: &[String], violations: u64) -> Markup {
    let shown = lines.len().min(ROWS_MAX);
    let hidden = violations.saturating_sub(headline::as_u64(shown));
    html! {
        @if shown > 0 {
            ul.evidence {
                @for line in &lines[..shown] { li { (one_line(line)) } }
                @if hidden > 0 { li.remark { "… and " (count(hidden)) " more" } }
            }
        }
    }
}

fn objectives(record: &Record) -> Markup {
    html! {
        @if !record.objectives.is_empty() {
            h3 #objectives { "Objectives" }
            (invalid_tag(record))
            div.scroll {
                table.stack aria-labelledby="objectives" {
                    thead { tr {
                        th scope="col" { "objective" }
                        th scope="col" { "result" }
                        th scope="col" { "target and measurement" }
                    } }
                    tbody {
                        @for o in &record.objectives {
                            tr {
                                th scope="row" { (one_line(&o.name)) }
                                td data-label="result" { (status(headline::status_mark(&o.status))) }
                                td.prose {
                                    (one_line(&o.summary))
                                    @if let Some(reason) = headline::reason(&o.status) { " – " (one_line(reason)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn doubts(record: &Record) -> Markup {
    let all = &record.commits_in_doubt;
    html! {
        h3 #doubts { "Commits in doubt" }
        @if all.is_empty() {
            p { "None: of every COMMIT that was written, the caller learned the outcome." }
        } @else {
            p {
                "COMMIT was written, and the answer never came: the caller could not know. "
                "The op log could, afterwards: " b { (headline::doubts(record).unwrap_or_default()) } "."
            }
            details open[all.len() <= 12] {
                summary { (counted(headline::as_u64(all.len()), "commit")) " in doubt, and how each resolved" }
                div.scroll {
                    table.compact aria-labelledby="doubts" {
                        thead { tr {
                            th.number scope="col" { "op" }
                            th.number scope="col" { "COMMIT written at" }
                            th scope="col" { "the op log says" }
                        } }
                        tbody {
                            @for c in all.iter().take(ROWS_MAX) {
                                tr {
                                    td.number { (c.op) }
                                    td.number { (moment_u(c.commit_sent_us)) }
                                    td { (resolution(c.applied)) }
                                }
                            }
                        }
                    }
                }
                (more(all.len()))
            }
        }
    }
}

fn resolution(applied: Option<bool>) -> &'static str {
    match applied {
        Some(true) => "● applied",
        Some(false) => "○ not applied",
        None => "? the tables could not be read",
    }
}

fn more(len: usize) -> Markup {
    html! {
        @if len > ROWS_MAX {
            p.remark { "… and " (count(headline::as_u64(len - ROWS_MAX))) " more in result.json." }
        }
    }
}

pub(super) fn faults(record: &Record) -> Markup {
    html! {
        section aria-labelledby="faults" {
            h2 #faults { "Faults" }
            @if record.faults.is_empty() {
                p.empty { "No fault was injected." }
            } @else {
                div.scroll {
                    table.stack {
                        thead { tr {
                            th scope="col" { "fault" }
                            th scope="col" { "when" }
                            th scope="col" { "effect" }
                            th.number scope="col" { "recovery" }
                            th scope="col" { "counts as recovered when" }
                        } }
                        tbody {
                            @for f in record.faults.iter().take(ROWS_MAX) {
                                tr {
                                    th scope="row" { b.code { (one_line(&f.event.name)) } span { (one_line(&f.event.title)) } }
                                    td data-label="when" { (when(f.event.start_us, f.event.end_us)) }
                                    td data-label="effect" {
                                        (status(headline::fault_mark(f))) " " (headline::effect(f))
                                    }
                                    td.number data-label="recovery" { b { (headline::recovery(f)) } }
                                    td data-label="target" {
                                        "every operation of a second within " (duration(f.recovery_target_us))
                                    }
                                }
                            }
                        }
                    }
                }
                (more(record.faults.len()))
            }
        }
    }
}

fn when(start_us: u64, end_us: u64) -> String {
    if end_us > start_us {
        format!("{} – {}", moment_u(start_us), moment_u(end_us))
    } else {
        moment_u(start_us)
    }
}

pub(super) fn latencies(record: &Record) -> Markup {
    let l = &record.latencies;
    let rows = [
        (
            "response",
            "intended start to end, of what came to ok",
            &l.response,
        ),
        (
            "acquire",
            "start to connection, of what got one",
            &l.acquire,
        ),
        (
            "queue wait",
            "start to connection or to giving up",
            &l.queue_wait,
        ),
        ("hold", "connection to end", &l.hold),
        ("connect", "opening a connection", &l.connect),
        ("generator lag", "actual minus intended start", &l.lag),
    ];
    let highest = rows.iter().map(|(_, _, h)| h.max_us).max().unwrap_or(1);
    html! {
        section aria-labelledby="latency" {
            h2 #latency { "Latency" }
            (invalid_tag(record))
            div.scroll {
                table class=(super::validity_class(record)) {
                    thead { tr {
                        th scope="col" { "" span.hidden { "what" } }
                        th.number scope="col" { "count" }
                        th.number scope="col" { "min" }
                        th.number scope="col" { "mean" }
                        th.number scope="col" { "p50" }
                        th.number scope="col" { "p90" }
                        th.number scope="col" { "p99" }
                        th.number scope="col" { "p99.9" }
                        th.number scope="col" { "max" }
                        th scope="col" { "p50 ━ p99 ─ max, log scale" }
                    } }
                    tbody {
                        @for (name, meaning, h) in rows {
                            tr {
                                th scope="row" { b { (name) } span { (meaning) } }
                                td.number { (count(h.count)) }
                                td.number { (quantile(h, h.min_us)) }
                                td.number { (mean(h)) }
                                td.number { (quantile(h, h.p50_us)) }
                                td.number { (quantile(h, h.p90_us)) }
                                td.number { b { (quantile(h, h.p99_us)) } }
                                td.number { (quantile(h, h.p999_us)) }
                                td.number { (quantile(h, h.max_us)) }
                                td.strip-cell { (strip(name, h, highest)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn mean(h: &HistogramRecord) -> String {
    if h.count == 0 {
        return "–".to_owned();
    }
    match h.mean_us {
        us if us < 1e3 => format!("{} µs", crate::units::three_digits(us)),
        us if us < 1e6 => format!("{} ms", crate::units::three_digits(us / 1e3)),
        us => format!("{} s", crate::units::three_digits(us / 1e6)),
    }
}

/// From the median to the largest value, on the log scale that all rows share.
fn strip(name: &str, h: &HistogramRecord, highest: u64) -> Markup {
    let place = |us: u64| {
        let top = (highest.max(10) as f64).log10();
        let at = (us.max(1) as f64).log10() / top * 100.0;
        format!("{:.1}%", at.clamp(0.0, 100.0))
    };
    html! {
        @if h.count > 0 {
            svg.strip role="img" width="100%" height="14" aria-label=(format!("{name} from p50 to max")) {
                line.strip-tail x1=(place(h.p99_us)) x2=(place(h.max_us)) y1="7" y2="7" {}
                line.strip-body x1=(place(h.p50_us)) x2=(place(h.p99_us)) y1="7" y2="7" {}
                line.strip-median x1=(place(h.p50_us)) x2=(place(h.p50_us)) y1="2" y2="12" {}
                line.strip-median x1=(place(h.p99_us)) x2=(place(h.p99_us)) y1="2" y2="12" {}
            }
        }
    }
}

pub(super) fn errors(record: &Record) -> Markup {
    html! {
        section aria-labelledby="errors" {
            h2 #errors { "Errors" }
            @if record.errors.is_empty() {
                p.empty { "No operation ended in an error." }
            } @else {
                div.scroll {
                    table.stack {
                        thead { tr {
                            th scope="col" { "category" }
                            th.number scope="col" { "count" }
                            th scope="col" { "planned" }
                            th scope="col" { "the first one" }
                        } }
                        tbody {
                            @for e in record.errors.iter().take(ROWS_MAX) {
                                tr {
                                    th scope="row" { (one_line(&e.category)) }
                                    td.number data-label="count" { (count(e.count)) }
                                    td data-label="planned" { @if e.planned { "by the scenario" } @else { "no" } }
                                    td.prose { (one_line(&e.example)) }
                                }
                            }
                        }
                    }
                }
                (more(record.errors.len()))
            }
        }
    }
}
