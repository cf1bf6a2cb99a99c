//! Markdown for a CI job summary or a pull request comment: verdict first, tables, details folded.

use std::fmt::{self, Write};

use poolproof_oracle::GuaranteeStatus;

use crate::headline;
use crate::units::{count, counted, duration, moment_u, one_line, percent, rate, shorten};
use crate::{HistogramRecord, Record};

/// A pull request comment holds 65,536 characters. These bounds keep the whole below that,
/// whatever a record holds.
const CELL_MAX: usize = 240;
const ROWS_MAX: usize = 24;
const EVIDENCE_MAX: usize = 3;

/// Renders a record as GitHub-flavoured Markdown, below 64 KiB.
///
/// # Panics
/// Never: writing to a string does not fail.
#[must_use]
pub fn markdown(record: &Record) -> String {
    let mut text = String::new();
    write_all(record, &mut text).expect("bug: a string takes all that is written to it");
    text
}

fn write_all(record: &Record, out: &mut String) -> fmt::Result {
    lead(record, out)?;
    guarantees(record, out)?;
    objectives(record, out)?;
    faults(record, out)?;
    latencies(record, out)?;
    errors(record, out)?;
    doubts(record, out)?;
    reproduce(record, out)
}

fn lead(record: &Record, out: &mut String) -> fmt::Result {
    let mark = headline::verdict_mark(record);
    let scenario = inline(&record.run.scenario);
    writeln!(out, "## {} {} · {scenario}\n", mark.sign, mark.word)?;
    writeln!(out, "{}\n", inline(&headline::sentence(record)))?;
    if let Some(text) = headline::without_recovery(record) {
        writeln!(out, "> **{text}.**\n")?;
    }
    if let Some(reason) = &record.run.partial {
        let cut_short = match record.outcomes.cut_short {
            0 => String::new(),
            n => format!("; {} cut short", counted(n, "operation")),
        };
        writeln!(
            out,
            "> **Partial run:** {}. It covers what happened until then{cut_short}.\n",
            inline(reason)
        )?;
    }
    if !record.performance_valid {
        writeln!(
            out,
            "> **Performance figures are not valid:** {}. Guarantees are judged all the same.\n",
            headline::lagged(record)
        )?;
    }
    for reason in record.verdict_reasons.iter().take(ROWS_MAX) {
        writeln!(out, "- {}", inline(reason))?;
    }
    if !record.verdict_reasons.is_empty() {
        out.push('\n');
    }
    let o = &record.outcomes;
    let doubts = headline::doubts(record).map_or_else(String::new, |d| format!(": {d}"));
    writeln!(
        out,
        "| operations | ok | broken off as planned | failed | shed | in doubt | connections, peak | \
         response p99 |"
    )?;
    writeln!(out, "|---:|---:|---:|---:|---:|---:|---:|---:|")?;
    writeln!(
        out,
        "| {} | {} ({}) | {} | {} | {} | {}{doubts} | {} | {} |\n",
        count(o.offered),
        count(o.ok),
        percent(o.ok, o.offered),
        count(o.planned_fail),
        count(o.unplanned_fail()),
        count(o.shed),
        count(o.info),
        headline::connections(record).unwrap_or_else(|| "–".to_owned()),
        quantile(&record.latencies.response, record.latencies.response.p99_us),
    )
}

fn guarantees(record: &Record, out: &mut String) -> fmt::Result {
    writeln!(out, "| | guarantee | result | checked | what was seen |")?;
    writeln!(out, "|---|---|---|---:|---|")?;
    for g in &record.guarantees {
        let mark = headline::status_mark(&g.status);
        let seen = headline::reason(&g.status).unwrap_or(&g.summary);
        let mut cell = inline(seen);
        for line in g.evidence.iter().take(EVIDENCE_MAX) {
            write!(cell, "<br>{}", inline(line))?;
        }
        let word = match g.status {
            GuaranteeStatus::Violated => format!("**{}** ({})", mark.word, count(g.violations)),
            _ => mark.word.to_owned(),
        };
        writeln!(
            out,
            "| {} | **{}** {} | {} {word} | {} | {cell} |",
            mark.sign,
            g.guarantee.code(),
            g.guarantee.title(),
            mark.sign,
            count(g.checked),
        )?;
    }
    out.push('\n');
    Ok(())
}

fn objectives(record: &Record, out: &mut String) -> fmt::Result {
    if record.objectives.is_empty() {
        return Ok(());
    }
    writeln!(out, "| objective | result | measured |")?;
    writeln!(out, "|---|---|---|")?;
    for o in record.objectives.iter().take(ROWS_MAX) {
        let mark = headline::status_mark(&o.status);
        let seen = headline::reason(&o.status).unwrap_or(&o.summary);
        writeln!(
            out,
            "| {} | {} {} | {} |",
            inline(&o.name),
            mark.sign,
            mark.word,
            inline(seen)
        )?;
    }
    more(record.objectives.len(), out)
}

fn faults(record: &Record, out: &mut String) -> fmt::Result {
    if record.faults.is_empty() {
        return Ok(());
    }
    writeln!(out, "| fault | when | effect | recovery |")?;
    writeln!(out, "|---|---|---|---|")?;
    for f in record.faults.iter().take(ROWS_MAX) {
        let mark = headline::fault_mark(f);
        let when = if f.event.end_us > f.event.start_us {
            format!(
                "{} – {}",
                moment_u(f.event.start_us),
                moment_u(f.event.end_us)
            )
        } else {
            moment_u(f.event.start_us)
        };
        let off_plan =
            headline::off_plan(f).map_or_else(String::new, |text| format!(" ({})", inline(&text)));
        writeln!(
            out,
            "| **{}** {} | {when}{off_plan} | {} {}: {} | {} |",
            inline(&f.event.name),
            inline(&f.event.title),
            mark.sign,
            mark.word,
            inline(&headline::effect(f)),
            headline::recovery(f),
        )?;
    }
    more(record.faults.len(), out)
}

fn latencies(record: &Record, out: &mut String) -> fmt::Result {
    let l = &record.latencies;
    let rows = [
        ("response", &l.response),
        ("acquire", &l.acquire),
        ("queue wait", &l.queue_wait),
        ("hold", &l.hold),
        ("connect", &l.connect),
        ("generator lag", &l.lag),
    ];
    writeln!(out, "<details><summary>Latency</summary>\n")?;
    writeln!(out, "| | count | p50 | p90 | p99 | p99.9 | max |")?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|---:|")?;
    for (name, h) in rows {
        let [p50, p90, p99, p999, max] =
            [h.p50_us, h.p90_us, h.p99_us, h.p999_us, h.max_us].map(|us| quantile(h, us));
        writeln!(
            out,
            "| {name} | {} | {p50} | {p90} | {p99} | {p999} | {max} |",
            count(h.count)
        )?;
    }
    writeln!(out, "\n</details>\n")
}

fn errors(record: &Record, out: &mut String) -> fmt::Result {
    if record.errors.is_empty() {
        return Ok(());
    }
    writeln!(out, "<details><summary>Errors by category</summary>\n")?;
    writeln!(out, "| category | count | first one |")?;
    writeln!(out, "|---|---:|---|")?;
    for e in record.errors.iter().take(ROWS_MAX) {
        let planned = if e.planned { " (planned)" } else { "" };
        writeln!(
            out,
            "| {}{planned} | {} | {} |",
            inline(&e.category),
            count(e.count),
            inline(&e.example)
        )?;
    }
    more(record.errors.len(), out)?;
    writeln!(out, "</details>\n")
}

fn doubts(record: &Record, out: &mut String) -> fmt::Result {
    let all = &record.commits_in_doubt;
    if all.is_empty() {
        return Ok(());
    }
    let heading = counted(headline::as_u64(all.len()), "commit");
    writeln!(out, "<details><summary>{heading} in doubt</summary>\n")?;
    writeln!(
        out,
        "| op | COMMIT written at | in doubt by | the tables say |"
    )?;
    writeln!(out, "|---:|---:|---|---|")?;
    for c in all.iter().take(ROWS_MAX) {
        let found = match c.applied {
            Some(true) => "applied",
            Some(false) => "not applied",
            None => "could not be read",
        };
        writeln!(
            out,
            "| {} | {} | {} | {found} |",
            c.op,
            moment_u(c.commit_sent_us),
            headline::doubt_cause(c),
        )?;
    }
    more(all.len(), out)?;
    writeln!(out, "</details>\n")
}

fn reproduce(record: &Record, out: &mut String) -> fmt::Result {
    let r = &record.run;
    let e = &record.environment;
    writeln!(out, "<details><summary>Reproduce</summary>\n")?;
    writeln!(out, "{}\n", code_block(&r.replay))?;
    writeln!(
        out,
        "seed {} · schedule {} · {} {} · {} · {}, {} · {} · {} op/s, {}\n",
        r.seed,
        inline(&shorten(&r.schedule_sha256, 17)),
        inline(&record.tool.name),
        inline(&record.tool.version),
        inline(&e.postgres),
        inline(&e.os),
        counted(u64::from(e.cores), "core"),
        inline(&headline::settings(record)),
        rate(record.load.rate_per_s),
        inline(&record.load.arrivals),
    )?;
    for note in r.notes.iter().take(ROWS_MAX) {
        writeln!(out, "- {}", inline(note))?;
    }
    if !r.notes.is_empty() {
        out.push('\n');
    }
    writeln!(out, "</details>")
}

fn more(len: usize, out: &mut String) -> fmt::Result {
    out.push('\n');
    match len.checked_sub(ROWS_MAX) {
        None | Some(0) => Ok(()),
        Some(hidden) => writeln!(
            out,
            "… and {} more in result.json\n",
            count(headline::as_u64(hidden))
        ),
    }
}

fn quantile(histogram: &HistogramRecord, us: u64) -> String {
    if histogram.count == 0 {
        "–".to_owned()
    } else {
        duration(us)
    }
}

/// Foreign text inside a line or a table cell, stripped of any meaning to Markdown or HTML.
pub(crate) fn inline(text: &str) -> String {
    let mut escaped = String::new();
    for c in shorten(&one_line(text), CELL_MAX).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // `@` would notify somebody, `#` would link an issue.
            '@' | '#' => {
                escaped.push(c);
                escaped.push('\u{2060}');
            }
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// A block of code whose fence is longer than any in the text.
fn code_block(text: &str) -> String {
    let text = shorten(&one_line(text), 4_000);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}sh\n{text}\n{fence}")
}
