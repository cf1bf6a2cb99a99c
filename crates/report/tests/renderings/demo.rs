//! Records to render: a run like the demo's from a small deterministic model of a pool under
//! faults, and its variants that fail, prove nothing, end early, or hold nothing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hdrhistogram::Histogram;
use poolproof_oracle::{
    CommitInDoubt, DoubtCause, ErrorCategory, FaultEffect, FaultEvent, Guarantee, GuaranteeResult,
    GuaranteeStatus, OpCounts, OpRecord, Outcome, Verdict, counts,
};
use poolproof_report::{
    Connections, CutShort, Environment, ErrorCount, FaultReport, HistogramRecord, Latencies,
    LoadInfo, ObjectiveResult, PhaseSpan, PoolSettings, Record, RunInfo, SCHEMA_ID, SubjectRecord,
    Tool, timeline,
};

use crate::model::{END, RESET_AT, SECOND, TERMINATED_AT, TIMEOUT, history, samples};

fn histogram(values: impl Iterator<Item = u64>) -> HistogramRecord {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for value in values {
        histogram.record(value).unwrap();
    }
    HistogramRecord::from_histogram(&histogram).unwrap()
}

fn latencies(ops: &[OpRecord]) -> Latencies {
    let ended = |op: &OpRecord| op.ended_us.unwrap();
    let got = || ops.iter().filter_map(|op| Some((op, op.acquired_us?)));
    Latencies {
        acquire: histogram(got().map(|(op, t)| t - op.started_us)),
        queue_wait: histogram(
            ops.iter()
                .map(|op| op.acquired_us.unwrap_or(ended(op)) - op.started_us),
        ),
        hold: histogram(got().map(|(op, t)| ended(op) - t)),
        response: histogram(
            ops.iter()
                .filter(|op| op.outcome == Outcome::Ok)
                .map(|op| ended(op) - op.intended_us),
        ),
        connect: histogram((0..34).map(|i| 2_100 + i * 137 % 1_900)),
        lag: histogram(ops.iter().map(|op| op.started_us - op.intended_us)),
    }
}

fn errors(ops: &[OpRecord]) -> Vec<ErrorCount> {
    let mut known: BTreeMap<ErrorCategory, ErrorCount> = BTreeMap::new();
    for error in ops.iter().filter_map(|op| op.error.as_ref()) {
        let planned = matches!(
            error.category,
            ErrorCategory::Cancelled | ErrorCategory::Panicked
        );
        let entry = known.entry(error.category).or_insert_with(|| ErrorCount {
            category: error.category.as_str().into(),
            count: 0,
            planned,
            example: error.message.clone(),
        });
        entry.count += 1;
    }
    let mut errors: Vec<ErrorCount> = known.into_values().collect();
    errors.sort_by_key(|e| std::cmp::Reverse(e.count));
    errors
}

fn doubts(ops: &[OpRecord]) -> Vec<CommitInDoubt> {
    ops.iter()
        .filter(|op| op.outcome == Outcome::Info)
        .map(|op| CommitInDoubt {
            op: op.id,
            commit_sent_us: op.commit_sent_us.unwrap(),
            applied: Some(op.id % 2 == 1),
            cause: Some(DoubtCause::Fault),
        })
        .collect()
}

fn fault(
    name: &str,
    title: &str,
    (start_us, end_us): (u64, u64),
    seen: (u64, &str),
) -> FaultReport {
    FaultReport {
        event: FaultEvent {
            name: name.into(),
            kind: name.into(),
            title: title.into(),
            start_us,
            end_us,
            effect: FaultEffect {
                seen: true,
                count: seen.0,
                unit: seen.1.into(),
                problem: None,
            },
            planned: None,
            within: Vec::new(),
        },
        recovery_us: Some(0),
        recovery_target_us: 250_000,
    }
}

fn faults() -> Vec<FaultReport> {
    let mut faults = vec![
        fault(
            "slow-network",
            "latency 40 ± 10 ms",
            (5 * SECOND, 8 * SECOND),
            (1_184_220, "bytes held"),
        ),
        fault(
            "reset-all",
            "reset of every link",
            (RESET_AT, RESET_AT),
            (15, "links reset"),
        ),
        fault(
            "silence",
            "nothing gets through",
            (11 * SECOND, 13 * SECOND),
            (15_310, "bytes held"),
        ),
        fault(
            "kill-backend",
            "one backend terminated in its transaction",
            (TERMINATED_AT, TERMINATED_AT),
            (1, "backend terminated"),
        ),
    ];
    faults[0].recovery_us = Some(1_300_000);
    faults[1].recovery_us = Some(2_800_000);
    faults[2].recovery_us = Some(400_000);
    faults
}

fn guarantees(ops: u64) -> Vec<GuaranteeResult> {
    let told = [
        (
            1,
            "4,812 leases issued, 4,812 returned, 0 out at quiescence".to_owned(),
        ),
        (
            5,
            "5 backends at quiescence, all idle, no transaction open, no lock held".to_owned(),
        ),
        (
            15,
            "15 of 15 connections held at once after 38 ms (allowed 1.25 s)".to_owned(),
        ),
        (
            481,
            "every tenth borrower asked the server what it found".to_owned(),
        ),
        (
            64,
            "64 accounts, 6,400,000 in all; 39 snapshots during the run agree".to_owned(),
        ),
        (
            1_604,
            "1,604 write sets over 4 tables, each whole or absent".to_owned(),
        ),
        (ops, format!("{ops} ops against the op log")),
        (
            ops,
            format!("{ops} calls, none beyond its deadline plus 250 ms"),
        ),
    ];
    Guarantee::ALL
        .into_iter()
        .zip(told)
        .map(|(guarantee, (checked, summary))| GuaranteeResult {
            guarantee,
            status: GuaranteeStatus::Held,
            checked,
            violations: 0,
            summary,
            evidence: Vec::new(),
        })
        .collect()
}

fn run_info() -> RunInfo {
    RunInfo {
        id: "k3f9a1".into(),
        scenario: "quickstart".into(),
        title:
            "A slow, reset and silent network and a lost backend under 400 operations per second"
                .into(),
        seed: 42,
        started_at: "2026-03-02T09:14:07Z".into(),
        duration_us: END,
        quiescence_us: Some(212_000),
        partial: None,
        cut_short: None,
        exit_code: None,
        replay: "poolproof run scenarios/quickstart.toml --subject poolproof --seed 42".into(),
        schedule_sha256: "9f2c1d7be03a5f6c8d41e0b7a2935c6f1e84d7093ab26c5df8701e94b3a6d2c5".into(),
        scenario_sha256: "51b0c7e2f98a4d36be10957cd2f3a8840e6b19c7d5a2f3e4881c06b7d9e0f1a3".into(),
        notes: vec!["fsync is on: a commit that the server acknowledged was on disk.".into()],
    }
}

fn environment() -> Environment {
    Environment {
        os: "linux x86_64".into(),
        cores: 2,
        postgres: "PostgreSQL 15.18 on x86_64-pc-linux-gnu, 64-bit".into(),
        postgres_source: "local cluster, started for this run".into(),
        postgres_settings: [
            ("fsync", "on"),
            ("max_connections", "60"),
            ("synchronous_commit", "on"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into(),
    }
}

fn subject() -> SubjectRecord {
    SubjectRecord {
        name: "poolproof".into(),
        version: "poolproof-pool 0.1.0".into(),
        description: "poolproof's own pool over sqlx connections".into(),
        settings: PoolSettings {
            pool_size: 5,
            max_overflow: 10,
            pool_timeout_us: TIMEOUT,
            pre_ping: false,
        },
    }
}

fn load(outcomes: &OpCounts) -> LoadInfo {
    let third = outcomes.offered.div_ceil(3);
    let commits = outcomes.offered - outcomes.panicked - outcomes.cancelled - outcomes.rolled_back;
    LoadInfo {
        arrivals: "open loop, Poisson".into(),
        rate_per_s: 400.0,
        deadline_us: 3 * SECOND,
        workloads: [("bank", outcomes.offered - third), ("write-set", third)]
            .map(|(k, v)| (k.to_owned(), v))
            .into(),
        endings: [
            ("commit", commits),
            ("rollback", outcomes.rolled_back),
            ("panic", outcomes.panicked),
            ("cancel", outcomes.cancelled),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into(),
    }
}

/// A run like the demo's, in which everything held.
pub(crate) fn passed() -> Record {
    static MODELLED: LazyLock<Record> = LazyLock::new(model);
    MODELLED.clone()
}

fn model() -> Record {
    let ops = history();
    let samples = samples(&ops);
    let outcomes = counts(&ops);
    let phase = |name: &str, start_us: i64, end_us: i64| PhaseSpan {
        name: name.into(),
        start_us,
        end_us,
    };
    Record {
        schema: SCHEMA_ID.into(),
        tool: Tool {
            name: "poolproof".into(),
            version: "0.1.0".into(),
        },
        run: run_info(),
        verdict: Verdict::Pass,
        verdict_reasons: Vec::new(),
        subject: subject(),
        environment: environment(),
        load: load(&outcomes),
        phases: vec![
            phase("start", -812_000, 0),
            phase("load", 0, 20_000_000),
            phase("quiescence", 20_000_000, 20_212_000),
        ],
        guarantees: guarantees(outcomes.offered),
        objectives: vec![ObjectiveResult {
            name: "recovery".into(),
            summary: "every fault recovered within 5 s (slowest: 2.8 s)".into(),
            status: GuaranteeStatus::Held,
        }],
        performance_valid: true,
        lag_limit_us: 25_000,
        faults: faults(),
        outcomes,
        errors: errors(&ops),
        commits_in_doubt: doubts(&ops),
        connections: Connections::from_samples(&samples),
        latencies: latencies(&ops),
        timeline: timeline(&ops, &samples, 250_000, END),
    }
}

/// The same run of a pool that loses a commit and leaks.
pub(crate) fn failed() -> Record {
    let mut record = passed();
    record.verdict = Verdict::Fail;
    record.subject.name = "planted:lies".into();
    record.subject.description = "reports ok after a rollback, and forgets a lease".into();
    record.verdict_reasons = vec![
        "X violated: 4 acknowledged commits are not in the op log".into(),
        "L1 violated: 2 leases never came back".into(),
        "objective recovery missed".into(),
    ];
    violate(
        &mut record,
        Guarantee::L1,
        2,
        &[
            "the lease of op 2611, issued at 6.48 s, never came back",
            "the lease of op 2612, issued at 6.49 s, never came back",
        ],
    );
    violate(
        &mut record,
        Guarantee::X,
        4,
        &[
            "op 2614: reported ok at 6.503 s, its row is not in the op log",
            "op 2617: reported ok at 6.504 s, its row is not in the op log",
            "op 2622: reported ok at 6.504 s, its row is not in the op log",
        ],
    );
    let c = &mut record.guarantees[3];
    c.status =
        GuaranteeStatus::NotChecked("the subject cannot run a query before the transaction".into());
    c.checked = 0;
    record.objectives[0].status = GuaranteeStatus::Violated;
    record.objectives[0].summary = "every fault recovers within 5 s: reset-all did not".into();
    record.faults[1].recovery_us = None;
    record
}

fn violate(record: &mut Record, which: Guarantee, violations: u64, evidence: &[&str]) {
    let result = record
        .guarantees
        .iter_mut()
        .find(|g| g.guarantee == which)
        .unwrap();
    result.status = GuaranteeStatus::Violated;
    result.violations = violations;
    result.evidence = evidence.iter().map(|e| (*e).to_owned()).collect();
}

/// A run in which a fault had no effect and the generator lagged.
pub(crate) fn invalid() -> Record {
    let mut record = passed();
    record.verdict = Verdict::Invalid;
    record.performance_valid = false;
    record.verdict_reasons = vec![
        "fault reset-all had no effect: the proxy carried no link at 6.5 s".into(),
        "the load generator lagged: p99 41 ms, at most 25 ms is allowed".into(),
    ];
    let effect = &mut record.faults[1].event.effect;
    effect.seen = false;
    effect.count = 0;
    effect.problem = Some("the proxy carried no link".into());
    record.faults[1].recovery_us = None;
    record.latencies.lag = histogram((0..record.outcomes.offered).map(|i| 300 + i % 100 * 420));
    record.objectives[0].status = GuaranteeStatus::Void("the load generator lagged".into());
    record.guarantees[6].status =
        GuaranteeStatus::Void("no commit was in doubt: reset-all had no effect".into());
    record
}

/// The passed run with commits in doubt by faults and by cancellation, and with three of its four
/// faults not recovered from, which no objective forbids.
pub(crate) fn passed_without_recovery() -> Record {
    let mut record = passed();
    for fault in &mut record.faults[1..] {
        fault.recovery_us = None;
    }
    record.objectives.clear();
    let doubt = |op, applied, cause| CommitInDoubt {
        op,
        commit_sent_us: op * 2_500,
        applied: Some(applied),
        cause: Some(cause),
    };
    let by_faults = [(2_109, true), (2_113, true), (2_114, false)]
        .map(|(op, applied)| doubt(op, applied, DoubtCause::Fault));
    let by_cancellation = (0..13).map(|i| doubt(3_000 + i, i < 10, DoubtCause::Cancelled));
    record.commits_in_doubt = by_faults.into_iter().chain(by_cancellation).collect();
    record.outcomes.info = 16;
    record
}

/// A run that Ctrl-C ended after nine seconds.
pub(crate) fn partial() -> Record {
    let mut record = passed();
    record.verdict = Verdict::Inconclusive;
    record.run.partial = Some("interrupted by Ctrl-C at 9.2 s".into());
    record.run.cut_short = Some(CutShort::Interrupted);
    record.run.quiescence_us = None;
    record.run.duration_us = 9_200_000;
    record.verdict_reasons = vec!["interrupted by Ctrl-C at 9.2 s".into()];
    record.timeline.truncate(37);
    record.faults.truncate(2);
    for result in &mut record.guarantees[..3] {
        result.status = GuaranteeStatus::NotChecked("quiescence was not reached".into());
        result.checked = 0;
    }
    record
        .commits_in_doubt
        .iter_mut()
        .for_each(|c| c.applied = None);
    record
}

/// A run that ended before its first op.
pub(crate) fn empty() -> Record {
    let mut record = passed();
    record.verdict = Verdict::Inconclusive;
    record.guarantees.clear();
    record.objectives.clear();
    record.faults.clear();
    record.errors.clear();
    record.commits_in_doubt.clear();
    record.outcomes = OpCounts::default();
    record.connections = Connections::default();
    record.latencies = latencies(&[]);
    record.latencies.connect = histogram(std::iter::empty());
    record.timeline.clear();
    record.phases.clear();
    record.run.notes.clear();
    record.run.title.clear();
    record
}

/// The passed run under another seed.
pub(crate) fn with_seed(seed: u64) -> Record {
    let mut record = passed();
    record.run.seed = seed;
    record
}
