//! Guarantees, objectives, commits in doubt, faults, latencies, errors: as tables.

use maud::{Markup, html};

use super::{invalid_tag, quantile, status};
use crate::headline;
use crate::units::{count, counted, duration, moment_u, one_line};
use crate::{HistogramRecord, Record};

/// A page with more rows than this helps nobody; the rest is in the record.
const ROWS_MAX: usize = 200;
const EVIDENCE_MAX: usize = 50;
const LAG: &str = "generator lag";

pub(super) fn guarantees(record: &Record) -> Markup {
    html! {
        section aria-labelledby="guarantees" {
            h2 #guarantees { "Guarantees" }
            @if record.guarantees.is_empty() {
                p.empty { "No guarantee was judged." }
            } @else {
                (guarantee_table(record))
            }
            (objectives(record))
            (doubts(record))
        }
    }
}

fn guarantee_table(record: &Record) -> Markup {
    html! {
        div.scroll {
            table.stack.guarantees {
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
                            td.result { (status(headline::status_mark(&g.status))) }
                            td.number.aside data-label="checked" { (count(g.checked)) }
                            td.number.aside data-label="violations" { (count(g.violations)) }
                            td.prose {
                                (one_line(headline::reason(&g.status).unwrap_or(&g.summary)))
                                (evidence(&g.evidence, g.violations))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn evidence(lines: &[String], violations: u64) -> Markup {
    let shown = lines.len().min(EVIDENCE_MAX);
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
            div.scroll {
                table.stack.objectives aria-labelledby="objectives" {
                    thead { tr {
                        th scope="col" { "objective" }
                        th scope="col" { "result" }
                        th scope="col" { "target and measurement" }
                    } }
                    tbody {
                        @for o in &record.objectives {
                            tr {
                                th scope="row" { (one_line(&o.name)) }
                                td.result { (status(headline::status_mark(&o.status))) }
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
                "COMMIT was written, and its caller never got the answer: a fault or the deadline took it, "
                "or the caller was cancelled, as planned. Looked up in the op log afterwards: " b { (headline::doubts(record).unwrap_or_default()) } "."
            }
            details open[all.len() <= 12] {
                summary { (counted(headline::as_u64(all.len()), "commit")) " in doubt, and how each resolved" }
                div.scroll {
                    table.compact aria-labelledby="doubts" {
                        thead { tr {
                            th.number scope="col" { "op" }
                            th.number scope="col" { "COMMIT written at" }
                            th scope="col" { "in doubt by" }
                            th scope="col" { "the op log says" }
                        } }
                        tbody {
                            @for c in all.iter().take(ROWS_MAX) {
                                tr {
                                    td.number { (c.op) }
                                    td.number { (moment_u(c.commit_sent_us)) }
                                    td { (headline::doubt_cause(c)) }
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
                (recovery_rule(record))
                div.scroll {
                    table.stack {
                        thead { tr {
                            th scope="col" { "fault" }
                            th scope="col" { "when" }
                            th scope="col" { "effect" }
                            th.number scope="col" { "recovery" }
                        } }
                        tbody {
                            @for f in record.faults.iter().take(ROWS_MAX) {
                                tr {
                                    th scope="row" { b.code { (one_line(&f.event.name)) } span { (one_line(&f.event.title)) } }
                                    td.when data-label="when" {
                                        (when(f.event.start_us, f.event.end_us))
                                        @if let Some(text) = headline::off_plan(f) { " (" (text) ")" }
                                    }
                                    td data-label="effect" {
                                        (status(headline::fault_mark(f))) " " (headline::effect(f))
                                    }
                                    td.number data-label="recovery" { b { (headline::recovery(f)) } }
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

fn recovery_rule(record: &Record) -> Markup {
    let mut targets: Vec<u64> = record.faults.iter().map(|f| f.recovery_target_us).collect();
    targets.sort_unstable();
    targets.dedup();
    let targets: Vec<String> = targets.into_iter().take(3).map(duration).collect();
    html! {
        p.remark {
            "A fault counts only when its effect was seen. Recovery runs from its end to the start of "
            "the first second in which every operation under way came back within " (targets.join(" or "))
            " and the rate of answers was back."
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
        (LAG, "actual minus intended start", &l.lag),
    ];
    let strips = Strips::over(rows.iter().map(|(_, _, h)| *h));
    html! {
        section aria-labelledby="latency" {
            h2 #latency { "Latency" }
            (invalid_tag(record))
            div.scroll {
                table {
                    thead { tr {
                        th scope="col" { "" span.hidden { "what" } }
                        @for name in ["p50", "p90", "p99", "p99.9", "max", "mean", "min", "count"] {
                            th.number scope="col" { (name) }
                        }
                        th scope="col" { "p50 ━ p99 ─ max, log scale" }
                    } }
                    tbody {
                        @for (name, meaning, h) in rows {
                            // The lag is what tells that the others do not count; it does.
                            @let counts = record.performance_valid || name == LAG;
                            tr class=(if counts { "valid" } else { "not-valid" }) {
                                th scope="row" { b { (name) } span { (meaning) } }
                                (quantiles(h))
                                td.number { (count(h.count)) }
                                td.strip-cell { (strips.draw(name, h)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn quantiles(h: &HistogramRecord) -> Markup {
    html! {
        td.number.time { (quantile(h, h.p50_us)) }
        td.number.time { (quantile(h, h.p90_us)) }
        td.number.time { b { (quantile(h, h.p99_us)) } }
        td.number.time { (quantile(h, h.p999_us)) }
        td.number.time { (quantile(h, h.max_us)) }
        td.number.time { (mean(h)) }
        td.number.time { (quantile(h, h.min_us)) }
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

/// The log scale that the strips of all rows share, in decades.
struct Strips {
    low: f64,
    high: f64,
}

impl Strips {
    fn over<'a>(histograms: impl Iterator<Item = &'a HistogramRecord>) -> Self {
        let decades = |us: u64| (us.max(1) as f64).log10();
        let (low, high) = histograms
            .filter(|h| h.count > 0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), h| {
                (low.min(decades(h.p50_us)), high.max(decades(h.max_us)))
            });
        let low = if low.is_finite() { low.floor() } else { 0.0 };
        Self {
            low,
            high: high.max(low + 1.0),
        }
    }

    fn place(&self, us: u64) -> String {
        let at = ((us.max(1) as f64).log10() - self.low) / (self.high - self.low);
        format!("{:.1}%", at.clamp(0.0, 1.0) * 100.0)
    }

    /// Draws one row: thick from the median to p99, thin from there to the largest value.
    fn draw(&self, name: &str, h: &HistogramRecord) -> Markup {
        let [p50, p99, max] = [h.p50_us, h.p99_us, h.max_us].map(|us| self.place(us));
        html! {
            @if h.count > 0 {
                svg.strip role="img" width="100%" height="14" aria-label=(format!("{name} from p50 to max")) {
                    line.strip-tail x1=(p99) x2=(max) y1="7" y2="7" {}
                    line.strip-body x1=(p50) x2=(p99) y1="7" y2="7" {}
                    line.strip-median x1=(p50) x2=(p50) y1="2" y2="12" {}
                    line.strip-median x1=(p99) x2=(p99) y1="2" y2="12" {}
                }
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
