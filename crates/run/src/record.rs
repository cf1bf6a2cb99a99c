//! The record of a trial: what was asked, done, seen and judged, in the report's words.

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof_load::{Arrivals, Histograms};
use poolproof_oracle::{
    CutShort, Ended, Ending, ErrorCategory, FaultEvent, Judgement, OpRecord, Verdict,
    commits_in_doubt, counts,
};
use poolproof_report::{
    Connections, ErrorCount, FaultReport, HistogramRecord, Latencies, LoadInfo, PhaseSpan,
    PoolSettings, Record, RunInfo, SCHEMA_ID, SubjectRecord, Tool, timeline,
};
use tokio::time::Instant;

use crate::drive::Loaded;
use crate::evidence::Evidence;
use crate::time::{micros, signed_micros};
use crate::trial::Planned;

/// The most buckets that a timeline has.
const BUCKETS_MAX: u64 = 200;
/// The narrowest bucket, in microseconds.
const BUCKET_MIN_US: u64 = 100_000;

/// What the one who asked for the trial has to say about it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The command that replays the trial, without a password.
    pub(crate) replay: String,
    /// Remarks that were made before it.
    pub(crate) notes: Vec<String>,
    /// When it was asked for.
    pub(crate) began: Instant,
    /// Which code a program ends with for what the trial came to.
    pub(crate) exit_code: fn(Verdict, Option<CutShort>) -> u8,
}

impl Evidence {
    /// Puts the record of the trial together.
    pub(crate) fn record(&self, judgement: Judgement, asked: &Asked) -> Record {
        let Self { trial, loaded, .. } = self;
        let store = self.observed.store.as_ref().ok();
        Record {
            schema: SCHEMA_ID.to_owned(),
            tool: Tool {
                name: "poolproof".into(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
            run: run_info(self, judgement.verdict, asked),
            faults: fault_reports(self, &judgement),
            verdict: judgement.verdict,
            verdict_reasons: judgement.reasons,
            subject: subject(self),
            environment: self.environment.clone(),
            load: load_info(trial),
            phases: phases(self, asked),
            guarantees: judgement.guarantees,
            objectives: judgement.objectives,
            performance_valid: judgement.performance_valid,
            lag_limit_us: trial.objectives().lag_limit_us(),
            outcomes: counts(&loaded.records),
            errors: errors(&loaded.records),
            commits_in_doubt: commits_in_doubt(&loaded.records, store),
            connections: Connections::from_samples(&loaded.seen.samples),
            latencies: latencies(&self.histograms),
            timeline: buckets(loaded),
        }
    }
}

fn phases(evidence: &Evidence, asked: &Asked) -> Vec<PhaseSpan> {
    let loaded = &evidence.loaded;
    let offered = signed_micros(loaded.offered_for);
    let set_up = signed_micros(loaded.origin - asked.began);
    let span = |name: &str, start_us, end_us| PhaseSpan {
        name: name.into(),
        start_us,
        end_us,
    };
    let looked_at = signed_micros(evidence.looked_at - loaded.origin);
    vec![
        span("set-up", -set_up, 0),
        span("load", 0, offered),
        span("quiescence and judging", offered, looked_at),
    ]
}

fn run_info(evidence: &Evidence, verdict: Verdict, asked: &Asked) -> RunInfo {
    let Evidence { trial, loaded, .. } = evidence;
    let scenario = &trial.trial.scenario;
    let cut_short = evidence.ended.cut_short();
    RunInfo {
        id: trial.id.clone(),
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        seed: trial.trial.seed,
        started_at: loaded.started_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        duration_us: micros(loaded.offered_for),
        quiescence_us: loaded.quiescent_after.map(micros),
        partial: partial(&evidence.ended),
        cut_short,
        exit_code: Some((asked.exit_code)(verdict, cut_short)),
        replay: asked.replay.clone(),
        schedule_sha256: trial.schedule_sha256.clone(),
        scenario_sha256: scenario.sha256.clone(),
        notes: [&asked.notes[..], &evidence.notes].concat(),
    }
}

/// Says when and why a trial ended early.
fn partial(ended: &Ended) -> Option<String> {
    let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
    match ended {
        Ended::Whole => None,
        Ended::Interrupted { at_us } => Some(format!(
            "interrupted {:.1} s into the load",
            seconds(*at_us)
        )),
        Ended::ServerLost {
            at_us: Some(at), ..
        } => Some(format!(
            "the server died {:.1} s into the load",
            seconds(*at)
        )),
        Ended::ServerLost { at_us: None, .. } => {
            Some("the server was gone when the load had ended".to_owned())
        }
    }
}

fn subject(evidence: &Evidence) -> SubjectRecord {
    let info = evidence.subject.clone();
    let pool = &evidence.trial.trial.scenario.pool;
    SubjectRecord {
        name: info.name,
        version: info.version,
        description: info.description,
        settings: PoolSettings {
            pool_size: pool.pool_size,
            max_overflow: pool.max_overflow,
            pool_timeout_us: micros(pool.pool_timeout),
            pre_ping: pool.pre_ping,
        },
    }
}

fn load_info(trial: &Planned) -> LoadInfo {
    let mut workloads = BTreeMap::new();
    let mut endings = BTreeMap::new();
    for op in &trial.schedule.ops {
        *workloads.entry(op.workload.to_string()).or_default() += 1;
        let ending = match op.ending {
            Ending::Commit => "commit",
            Ending::Rollback => "rollback",
            Ending::Panic => "panic",
            Ending::Cancel { .. } => "cancel",
        };
        *endings.entry(ending.to_owned()).or_default() += 1;
    }
    let spec = &trial.trial.scenario.load;
    let arrivals = match spec.arrivals {
        Arrivals::Poisson => "open loop, Poisson",
        Arrivals::Uniform => "open loop, equal gaps",
    };
    LoadInfo {
        arrivals: arrivals.to_owned(),
        rate_per_s: spec.rate_per_s,
        deadline_us: micros(spec.deadline),
        workloads,
        endings,
    }
}

fn fault_reports(evidence: &Evidence, judgement: &Judgement) -> Vec<FaultReport> {
    let recovery_target_us = evidence.trial.objectives().target_us();
    let faults = evidence.loaded.faults.iter();
    let report = |(event, recovery_us): (&FaultEvent, &Option<u64>)| FaultReport {
        recovery_us: *recovery_us,
        recovery_target_us,
        event: event.clone(),
    };
    faults.zip(&judgement.recoveries_us).map(report).collect()
}

/// Counts errors by category, what the scenario planned apart from what it did not.
fn errors(records: &[OpRecord]) -> Vec<ErrorCount> {
    let mut counts: BTreeMap<(ErrorCategory, bool), ErrorCount> = BTreeMap::new();
    for record in records {
        let Some(error) = &record.error else { continue };
        let planned = record.ended_as_planned();
        let entry = counts
            .entry((error.category, planned))
            .or_insert_with(|| ErrorCount {
                category: error.category.as_str().to_owned(),
                count: 0,
                planned,
                example: error.message.clone(),
            });
        entry.count += 1;
    }
    let mut errors: Vec<_> = counts.into_values().collect();
    errors.sort_by_key(|entry| std::cmp::Reverse(entry.count));
    errors
}

fn latencies(histograms: &Histograms) -> Latencies {
    let record = |histogram| {
        HistogramRecord::from_histogram(histogram).expect("bug: our histograms can be encoded")
    };
    Latencies {
        acquire: record(&histograms.acquire),
        queue_wait: record(&histograms.queue_wait),
        hold: record(&histograms.hold),
        response: record(&histograms.response),
        connect: record(&histograms.connect),
        lag: record(&histograms.lag),
    }
}

fn buckets(loaded: &Loaded) -> Vec<poolproof_report::Bucket> {
    let last_end = loaded
        .records
        .iter()
        .filter_map(|record| record.ended_us)
        .max()
        .unwrap_or(0);
    let end = micros(loaded.offered_for).max(last_end);
    let width = end.div_ceil(BUCKETS_MAX).div_ceil(BUCKET_MIN_US).max(1) * BUCKET_MIN_US;
    timeline(&loaded.records, &loaded.seen.samples, width, end)
}
