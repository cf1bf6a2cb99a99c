//! What holds for every text that is read as a scenario.

use std::fmt::Write as _;
use std::time::Duration;

use poolproof_load::{Arrivals, Workload};
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
    let (pool, load, objective) = (&scenario.pool, &scenario.load, &scenario.objective);
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        text.write_fmt(args)
            .expect("bug: writing to a String failed");
        text.push('\n');
    };
    line(format_args!("name = {}", quoted(&scenario.name)));
    line(format_args!("title = {}", quoted(&scenario.title)));
    line(format_args!("[pool]\npool_size = {}", pool.pool_size));
    line(format_args!("max_overflow = {}", pool.max_overflow));
    line(format_args!(
        "pool_timeout = {}",
        seconds(pool.pool_timeout)
    ));
    line(format_args!("pre_ping = {}", pool.pre_ping));
    line(format_args!("[postgres.settings]"));
    for (name, value) in &scenario.postgres.settings {
        line(format_args!("{} = {}", quoted(name), quoted(value)));
    }
    line(format_args!(
        "[objective]\nresponse = {}",
        seconds(objective.response)
    ));
    if let Some(recovery) = objective.recovery {
        line(format_args!("recovery = {}", seconds(recovery)));
    }
    line(format_args!("[load]\nrate = {:?}", load.rate_per_s));
    let arrivals = match load.arrivals {
        Arrivals::Poisson => "poisson",
        Arrivals::Uniform => "uniform",
    };
    line(format_args!(
        "arrivals = {arrivals:?}\nduration = {}",
        seconds(load.duration)
    ));
    line(format_args!(
        "deadline = {}\nhold = {}",
        seconds(load.deadline),
        seconds(load.hold)
    ));
    line(format_args!("clean_checks = {:?}", load.clean_checks));
    line(format_args!(
        "cancel_within = {}",
        seconds(load.cancel_within)
    ));
    let endings = load.endings;
    line(format_args!(
        "endings = {{ commit = {}, rollback = {}, panic = {}, cancel = {} }}",
        endings.commit, endings.rollback, endings.panic, endings.cancel
    ));
    for weighted in &load.workloads {
        let kind = weighted.workload.name();
        line(format_args!(
            "[[load.workload]]\nkind = {kind:?}\nweight = {}",
            weighted.weight
        ));
        match weighted.workload {
            Workload::Bank {
                accounts,
                opening_balance,
            } => line(format_args!(
                "accounts = {accounts}\nopening_balance = {opening_balance}"
            )),
            Workload::WriteSet { tables } => line(format_args!("tables = {tables}")),
        }
    }
    for fault in &scenario.faults {
        line(format_args!("{}", written_fault(fault)));
    }
    text
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
        FaultKind::Bandwidth { rate_kb_s } => format!("rate = {rate_kb_s}"),
        FaultKind::Silence | FaultKind::Down => String::new(),
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
