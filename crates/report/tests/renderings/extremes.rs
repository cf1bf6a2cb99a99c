//! Records at the edge: texts that want to be markup, numbers without measure, lists without end.

use poolproof_oracle::{CommitInDoubt, GuaranteeStatus};
use poolproof_report::{Bucket, Record, json, parse};
use serde_json::Value;

use crate::demo;

/// Text that is active in HTML, Markdown, XML and on a terminal.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>|`*_[a](http://x)\u{1b}[31m\n# h\u{202e}&amp;";

/// Every free text of a record is hostile, keys of maps included.
pub(crate) fn hostile() -> Record {
    let mut record = demo::failed();
    record.run.partial = Some(String::new());
    record.faults[1].event.effect.seen = false;
    record.faults[1].event.effect.problem = Some(String::new());
    record.guarantees[1].status = GuaranteeStatus::Void(String::new());
    for map in [&mut record.load.workloads, &mut record.load.endings] {
        *map = [(HOSTILE.to_owned(), 1)].into();
    }
    record.environment.postgres_settings = [(HOSTILE.to_owned(), String::new())].into();
    record.timeline[3].errors = [(HOSTILE.to_owned(), 7)].into();
    let mut document: Value = serde_json::from_str(&json(&record)).unwrap();
    poison(&mut document);
    parse(&document.to_string()).unwrap()
}

/// Replaces every text but the words that the schema fixes.
fn poison(value: &mut Value) {
    const FIXED: [&str; 6] = ["schema", "hdr", "verdict", "guarantee", "status", "cause"];
    match value {
        Value::String(text) => HOSTILE.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(poison),
        Value::Object(fields) => fields
            .iter_mut()
            .filter(|(key, _)| !FIXED.contains(&key.as_str()))
            .for_each(|(_, inner)| poison(inner)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Every number is as large as it can be, and every list longer than anyone would show.
pub(crate) fn huge() -> Record {
    let mut record = demo::failed();
    let max = u64::MAX;
    record.run.seed = max;
    record.run.duration_us = max;
    record.run.quiescence_us = Some(max);
    record.load.rate_per_s = f64::MAX;
    record.load.deadline_us = max;
    record.subject.settings.pool_size = u32::MAX;
    record.subject.settings.max_overflow = i32::MAX;
    record.subject.settings.pool_timeout_us = max;
    record.outcomes.offered = max;
    record.outcomes.ok = max;
    record.outcomes.info = max;
    record.outcomes.stuck = max;
    record.connections.peak = Some(max);
    record.connections.opened = Some(max);
    record.latencies.response.max_us = max;
    record.latencies.response.p99_us = max;
    record.latencies.response.mean_us = f64::MAX;
    record.phases[0].start_us = i64::MIN;
    record.phases[0].end_us = i64::MAX;
    for result in &mut record.guarantees {
        result.checked = max;
        result.violations = max;
        result.evidence =
            vec!["one of many, told at some length to fill a line or two ".repeat(9); 500];
    }
    record.verdict_reasons = vec!["one reason of many, told at length".repeat(40); 500];
    record.run.notes = vec!["a note".repeat(100); 500];
    record.faults = record.faults.iter().cycle().take(60).cloned().collect();
    record.faults[0].event.end_us = max;
    record.faults[0].recovery_us = Some(max);
    record.errors = record.errors.iter().cycle().take(500).cloned().collect();
    record.objectives = record
        .objectives
        .iter()
        .cycle()
        .take(500)
        .cloned()
        .collect();
    let doubt = CommitInDoubt {
        op: max,
        commit_sent_us: max,
        applied: None,
        cause: None,
    };
    record.commits_in_doubt = vec![doubt; 5_000];
    record.timeline = (0..3_000).map(full_bucket).collect();
    record
}

fn full_bucket(i: u64) -> Bucket {
    let max = Some(u64::MAX);
    Bucket {
        start_us: i * 1_000_000,
        width_us: 1_000_000,
        offered: u64::MAX,
        ok: u64::MAX,
        errors: (0..20)
            .map(|c| (format!("category-{c}"), u64::MAX))
            .collect(),
        planned: [("panicked".to_owned(), u64::MAX)].into(),
        acquire_p50_us: max,
        acquire_p99_us: max,
        response_p50_us: max,
        response_p99_us: max,
        in_use: max,
        idle: max,
        waiting: max,
        opening: max,
        opened: max,
    }
}

/// A run in which nothing went well, and which says so in every line it can.
pub(crate) fn all_broken() -> Record {
    broken(usize::MAX)
}

/// The same with only so many violations.
pub(crate) fn broken(violations: usize) -> Record {
    let mut record = demo::failed();
    record.run.partial = Some("the server died for good at 12 s".into());
    record.performance_valid = false;
    for (i, result) in record.guarantees.iter_mut().enumerate() {
        result.violations = u64::from(i < violations);
        result.status = match result.violations {
            0 => GuaranteeStatus::Held,
            _ => GuaranteeStatus::Violated,
        };
    }
    record
}

/// One bucket, and nothing in it that could be left out.
pub(crate) fn one_bucket() -> Record {
    let mut record = demo::passed();
    record.timeline.truncate(1);
    let bucket = &mut record.timeline[0];
    bucket.acquire_p50_us = None;
    bucket.acquire_p99_us = None;
    bucket.response_p50_us = None;
    bucket.response_p99_us = None;
    bucket.in_use = None;
    bucket.idle = None;
    bucket.waiting = None;
    bucket.opening = None;
    bucket.opened = None;
    bucket.errors.clear();
    record.subject.settings.max_overflow = -1;
    record
}

/// A timeline of no width and a fault that ends before it begins, as only a broken file has them.
pub(crate) fn no_width() -> Record {
    let mut record = demo::passed();
    record.timeline.iter_mut().for_each(|b| {
        b.start_us = 0;
        b.width_us = 0;
    });
    record.faults[0].event.end_us = 0;
    record
}
