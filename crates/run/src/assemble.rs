//! Puts together the record of a run from what was asked, done and seen.

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof_load::{Arrivals, Histograms};
use poolproof_oracle::{
    Ending, ErrorCategory, FaultEvent, GuaranteeStatus, OpRecord, Verdict, commits_in_doubt,
    counts, lag_limit_us, recovery_us,
};
use poolproof_report::{
    Connections, CutShort, Environment, ErrorCount, FaultReport, HistogramRecord, Latencies,
    LoadInfo, ObjectiveResult, PhaseSpan, PoolSettings, Record, RunInfo, SCHEMA_ID, SubjectRecord,
    Tool, timeline,
};

use crate::drive::Loaded;
use crate::execute::Run;
use crate::objectives::Measured;
use crate::observe::Observed;
use crate::output::SERVER_LOG;
use crate::stage::Stage;
use crate::time::{micros, signed_micros};

/// The most buckets that a timeline has.
const BUCKETS_MAX: u64 = 200;
/// The narrowest bucket, in microseconds.
const BUCKET_MIN_US: u64 = 100_000;

/// Puts the record together and gives the verdict.
pub(crate) fn assemble(run: &Run, stage: &Stage, loaded: &Loaded, observed: Observed) -> Record {
    let histograms = Histograms::from_records(&loaded.records, &loaded.seen.connect_us);
    let lag_p99 = Duration::from_micros(histograms.lag.value_at_quantile(0.99));
    let faults = fault_reports(run, loaded);
    let measured = Measured {
        objective: &run.options.scenario.objective,
        records: &loaded.records,
        faults: &faults,
        load_end: loaded.offered_for,
        lag_p99,
    };
    let performance_valid = measured.kept_up();
    let mut objectives = measured.judge();
    excuse(&mut objectives, &observed);
    let (verdict, mut reasons) = verdict(loaded, &observed, &objectives);
    if observed.server_lost {
        reasons.insert(0, server_lost(stage));
    }
    let store = observed.store.as_ref().ok();
    Record {
        schema: SCHEMA_ID.to_owned(),
        tool: Tool {
            name: "poolproof".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
        run: run_info(run, loaded, &observed),
        verdict,
        verdict_reasons: reasons,
        subject: subject(run, stage),
        environment: environment(run, stage),
        load: load_info(run),
        phases: phases(run, loaded),
        guarantees: observed.guarantees,
        objectives,
        performance_valid,
        lag_limit_us: lag_limit_us(micros(run.options.scenario.objective.target())),
        outcomes: counts(&loaded.records),
        errors: errors(&loaded.records),
        commits_in_doubt: commits_in_doubt(&loaded.records, store),
        connections: Connections::from_samples(&loaded.seen.samples),
        latencies: latencies(&histograms),
        timeline: buckets(loaded),
        faults,
    }
}

fn phases(run: &Run, loaded: &Loaded) -> Vec<PhaseSpan> {
    let offered = signed_micros(loaded.offered_for);
    let set_up = signed_micros(loaded.origin - run.began);
    let span = |name: &str, start_us, end_us| PhaseSpan {
        name: name.into(),
        start_us,
        end_us,
    };
    let now = signed_micros(loaded.origin.elapsed());
    vec![
        span("set-up", -set_up, 0),
        span("load", 0, offered),
        span("quiescence and judging", offered, now),
    ]
}

fn run_info(run: &Run, loaded: &Loaded, observed: &Observed) -> RunInfo {
    let options = &run.options;
    let partial = loaded.cut_short.map(|(why, at)| {
        let at = at.as_secs_f64();
        match why {
            CutShort::Interrupted => format!("interrupted {at:.1} s into the load"),
            CutShort::ServerLost => format!("the server died {at:.1} s into the load"),
        }
    });
    let lost = || "the server was gone when the load had ended".to_owned();
    let partial = partial.or_else(|| observed.server_lost.then(lost));
    RunInfo {
        id: run.id.clone(),
        scenario: options.scenario.name.clone(),
        title: options.scenario.title.clone(),
        seed: options.seed,
        started_at: loaded.started_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        duration_us: micros(loaded.offered_for),
        quiescence_us: loaded.quiescent_after.map(micros),
        partial,
        cut_short: cut_short(loaded, observed),
        replay: options.replay.clone(),
        schedule_sha256: run.schedule_sha256.clone(),
        scenario_sha256: options.scenario.sha256.clone(),
        notes: [&options.notes, &loaded.notes, &observed.notes]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
    }
}

fn subject(run: &Run, stage: &Stage) -> SubjectRecord {
    let info = stage.subject.info();
    let pool = &run.options.scenario.pool;
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

fn environment(run: &Run, stage: &Stage) -> Environment {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // An existing server keeps its own settings.
    let took = stage.server.capabilities().settings;
    let settings = took.then(|| run.options.scenario.postgres.settings.clone());
    Environment {
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        postgres: stage.info.version_text.clone(),
        postgres_source: stage.server.source(),
        postgres_settings: settings.unwrap_or_default(),
    }
}

fn load_info(run: &Run) -> LoadInfo {
    let mut workloads = BTreeMap::new();
    let mut endings = BTreeMap::new();
    for op in &run.schedule.ops {
        *workloads.entry(op.workload.to_string()).or_default() += 1;
        let ending = match op.ending {
            Ending::Commit => "commit",
            Ending::Rollback => "rollback",
            Ending::Panic => "panic",
            Ending::Cancel { .. } => "cancel",
        };
        *endings.entry(ending.to_owned()).or_default() += 1;
    }
    let arrivals = match run.spec.arrivals {
        Arrivals::Poisson => "open loop, Poisson",
        Arrivals::Uniform => "open loop, equal gaps",
    };
    LoadInfo {
        arrivals: arrivals.to_owned(),
        rate_per_s: run.spec.rate_per_s,
        deadline_us: micros(run.spec.deadline),
        workloads,
        endings,
    }
}

fn fault_reports(run: &Run, loaded: &Loaded) -> Vec<FaultReport> {
    let target = micros(run.options.scenario.objective.target());
    let load_end = micros(loaded.offered_for);
    let report = |event: &FaultEvent| FaultReport {
        recovery_us: recovery_us(&loaded.records, event.end_us, load_end, target),
        recovery_target_us: target,
        event: event.clone(),
    };
    loaded.faults.iter().map(report).collect()
}

/// A pool is not to blame for what it missed behind a proxy that was gone.
fn excuse(objectives: &mut [ObjectiveResult], observed: &Observed) {
    let Err(reason) = &observed.proxy else { return };
    for objective in objectives {
        if objective.status == GuaranteeStatus::Violated {
            objective.status = GuaranteeStatus::Void(reason.clone());
        }
    }
}

fn verdict(
    loaded: &Loaded,
    observed: &Observed,
    objectives: &[ObjectiveResult],
) -> (Verdict, Vec<String>) {
    let statuses: Vec<_> = objectives
        .iter()
        .map(|objective| objective.status.clone())
        .collect();
    // A fault that the end of the load cut short owes no effect either.
    let cut_short_us = loaded.cut_short.map(|(_, at)| micros(at));
    let owed =
        |fault: &&FaultEvent| fault.effect.seen || cut_short_us.is_none_or(|at| fault.end_us < at);
    let faults: Vec<_> = loaded.faults.iter().filter(owed).cloned().collect();
    let (verdict, reasons) = poolproof_oracle::verdict(&observed.guarantees, &statuses, &faults);
    // What was left out might have failed, so a run that was cut short passes nothing; and what a
    // lost server made of faults and objectives says nothing of the pool.
    let violated = |status: &GuaranteeStatus| *status == GuaranteeStatus::Violated;
    let stands = match cut_short(loaded, observed) {
        None => true,
        Some(CutShort::Interrupted) => verdict == Verdict::Fail,
        Some(CutShort::ServerLost) => observed.guarantees.iter().any(|g| violated(&g.status)),
    };
    let verdict = if stands {
        verdict
    } else {
        Verdict::Inconclusive
    };
    (verdict, reasons)
}

fn cut_short(loaded: &Loaded, observed: &Observed) -> Option<CutShort> {
    let known = loaded.cut_short.map(|(why, _)| why);
    known.or_else(|| observed.server_lost.then_some(CutShort::ServerLost))
}

/// Says why the server is gone, as far as that is known, and what to do.
fn server_lost(stage: &Stage) -> String {
    match stage.server.cause_of_death() {
        Some(cause) => {
            format!("the server died ({cause}); see {SERVER_LOG} beside the report, then run again")
        }
        None => "the server answers no more: see whether it is up and what its log says, then run \
                 again"
            .to_owned(),
    }
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
