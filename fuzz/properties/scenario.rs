//! What holds for every text that is read as a scenario.

use std::fmt::Write as _;
use std::time::Duration;

use poolproof_load::{Arrivals, LoadSpec, WeightedWorkload, Workload};
use poolproof_run::{BackendTarget, FaultKind, FaultPlan, Problem, Scenario, ScenarioError};

/// What a message says besides the text that it repeats.
const WORDS_MAX: usize = 1000;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match Scenario::parse("fuzz.toml", text) {
        Ok(scenario) => accepted(text, &scenario),
        Err(error) => refused(text, &error),
    }
}

fn accepted(text: &str, scenario: &Scenario) {
    assert_eq!(scenario.source, text);
    let written = written(scenario);
    let again = Scenario::parse("fuzz.toml", &written)
        .unwrap_or_else(|error| panic!("written anew, it is refused: {error:?}"));
    let as_read = Scenario {
        source: written.clone(),
        sha256: again.sha256.clone(),
        ..scenario.clone()
    };
    assert_eq!(again, as_read, "{written}");
    for remark in &scenario.remarks {
        assert!(!remark.is_empty() && remark.len() <= WORDS_MAX, "{remark}");
    }
    sound(scenario);
    for duration in [1, 100, 1_000, 1_500, 20_000, 86_400_000] {
        squeezed(scenario, Duration::from_millis(duration));
    }
}

/// What the rest of the tool relies on.
fn sound(scenario: &Scenario) {
    let load = &scenario.load;
    assert!(scenario.pool.pool_size >= 1 && scenario.pool.max_overflow >= -1);
    assert!(!scenario.pool.pool_timeout.is_zero() && !load.deadline.is_zero());
    assert!(load.rate_per_s.is_finite() && load.rate_per_s > 0.0);
    assert!(load.hold < load.deadline && (0.0..=1.0).contains(&load.clean_checks));
    assert!((1.0..=f64::from(poolproof_run::MAX_OPS)).contains(&scenario.expected_ops()));
    assert!(load.workloads.iter().any(|workload| workload.weight > 0));
    assert!(scenario.schedule_end() <= load.duration);
    assert!(scenario.faults.is_sorted_by_key(|fault| fault.at));
    for fault in &scenario.faults {
        assert!(fault.at < load.duration && !fault.kind.title().is_empty());
        assert!(fault.duration.is_none_or(|lasts| !lasts.is_zero()));
    }
}

fn squeezed(scenario: &Scenario, duration: Duration) {
    match scenario.scaled_to(duration) {
        Ok((scaled, remark)) => {
            let fits = scaled.schedule_end() <= duration
                && scaled.faults.iter().all(|fault| fault.at < duration);
            assert!(fits, "{duration:?}: {:?}", scaled.faults);
            assert_eq!(remark.is_some(), scaled.faults != scenario.faults);
            assert!(scaled.faults.is_sorted_by_key(|fault| fault.at));
            for (fault, before) in scaled.faults.iter().zip(&scenario.faults) {
                assert_eq!(fault.duration.is_some(), before.duration.is_some());
                assert!(
                    fault.duration.is_none_or(|lasts| !lasts.is_zero()),
                    "{fault:?}"
                );
            }
        }
        Err(short) => {
            assert_eq!(short.duration, duration);
            assert!(short.least > duration, "{short}");
            let least = scenario.scaled_to(short.least);
            assert!(least.is_ok(), "{short:?} is not enough");
        }
    }
}

fn refused(text: &str, error: &ScenarioError) {
    assert!(!error.problems.is_empty(), "refused without a reason");
    assert!(
        error
            .problems
            .is_sorted_by_key(|problem| problem.span.start)
    );
    for problem in &error.problems {
        marked(text, problem);
        let related = problem.related.as_ref().map_or("", |(_, label)| label);
        let help = problem.help.as_deref().unwrap_or_default();
        for said in [&problem.message, &problem.label, help, related] {
            // A character may be repeated as an escape of up to ten.
            assert!(said.len() <= WORDS_MAX + 10 * text.len(), "{said}");
        }
        assert!(!problem.message.is_empty() && !problem.label.is_empty());
    }
}

/// Every place can be marked in the text.
fn marked(text: &str, problem: &Problem) {
    let related = problem.related.as_ref().map(|(span, _)| span);
    for span in std::iter::once(&problem.span).chain(related) {
        assert!(text.get(span.clone()).is_some(), "{problem:?}");
    }
}

/// Writes a scenario anew, with every value in it.
fn written(scenario: &Scenario) -> String {
    let (pool, objective) = (&scenario.pool, &scenario.objective);
    let mut lines = vec![
        format!("name = {}", quoted(&scenario.name)),
        format!("title = {}", quoted(&scenario.title)),
        format!("[pool]\npool_size = {}", pool.pool_size),
        format!("max_overflow = {}", pool.max_overflow),
        format!("pool_timeout = {}", seconds(pool.pool_timeout)),
        format!("pre_ping = {}", pool.pre_ping),
        "[postgres.settings]".to_owned(),
    ];
    for (name, value) in &scenario.postgres.settings {
        lines.push(format!("{} = {}", quoted(name), quoted(value)));
    }
    lines.push("[objective]".to_owned());
    if let Some(response) = objective.response {
        lines.push(format!("response = {}", seconds(response)));
    }
    if let Some(recovery) = objective.recovery {
        lines.push(format!("recovery = {}", seconds(recovery)));
    }
    lines.push(written_load(&scenario.load));
    lines.extend(scenario.load.workloads.iter().map(written_workload));
    lines.extend(scenario.faults.iter().map(written_fault));
    lines.join("\n")
}

fn written_load(load: &LoadSpec) -> String {
    let arrivals = match load.arrivals {
        Arrivals::Poisson => "poisson",
        Arrivals::Uniform => "uniform",
    };
    let endings = load.endings;
    [
        format!("[load]\nrate = {:?}", load.rate_per_s),
        format!("arrivals = {arrivals:?}"),
        format!("duration = {}", seconds(load.duration)),
        format!("deadline = {}", seconds(load.deadline)),
        format!("hold = {}", seconds(load.hold)),
        format!("clean_checks = {:?}", load.clean_checks),
        format!("cancel_within = {}", seconds(load.cancel_within)),
        format!("endings.commit = {}", endings.commit),
        format!("endings.rollback = {}", endings.rollback),
        format!("endings.panic = {}", endings.panic),
        format!("endings.cancel = {}", endings.cancel),
    ]
    .join("\n")
}

fn written_workload(weighted: &WeightedWorkload) -> String {
    let (kind, weight) = (weighted.workload.name(), weighted.weight);
    let parameters = match weighted.workload {
        Workload::Bank {
            accounts,
            opening_balance,
        } => format!("accounts = {accounts}\nopening_balance = {opening_balance}"),
        Workload::WriteSet { tables } => format!("tables = {tables}"),
    };
    format!("[[load.workload]]\nkind = {kind:?}\nweight = {weight}\n{parameters}")
}

fn written_fault(fault: &FaultPlan) -> String {
    let (name, kind, at) = (quoted(&fault.name), fault.kind.word(), seconds(fault.at));
    let lasts = fault
        .duration
        .map(|lasts| format!("for = {}\n", seconds(lasts)));
    let parameters = match fault.kind {
        FaultKind::Latency { latency, jitter } => {
            format!(
                "latency = {}\njitter = {}",
                seconds(latency),
                seconds(jitter)
            )
        }
        // A rate of 0 has a name of its own, which has no rate.
        FaultKind::Bandwidth { rate_kb_s: 0 } | FaultKind::Silence | FaultKind::Down => {
            String::new()
        }
        FaultKind::Bandwidth { rate_kb_s } => format!("rate = {rate_kb_s}"),
        FaultKind::Reset { commits_in_flight } => {
            format!("commits_in_flight = {commits_in_flight}")
        }
        FaultKind::TerminateBackend { target } => match target {
            BackendTarget::InTransaction => "target = \"in-transaction\"".to_owned(),
            BackendTarget::Idle => "target = \"idle\"".to_owned(),
            BackendTarget::Any => "target = \"any\"".to_owned(),
        },
    };
    let lasts = lasts.unwrap_or_default();
    format!("[[fault]]\nname = {name}\nkind = {kind:?}\nat = {at}\n{lasts}{parameters}")
}

/// A duration to the nanosecond.
fn seconds(duration: Duration) -> String {
    format!("\"{}.{:09}s\"", duration.as_secs(), duration.subsec_nanos())
}

/// A string as TOML has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(c)).expect("bug: writing to a String failed");
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
