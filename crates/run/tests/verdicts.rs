//! Whole runs on real Postgres: every planted bug is found out by its guarantee, a pool without a
//! bug passes, and a run that is cut short says so.
//!
//! The scenario is the quickstart's in small: half the load, less than half the time. What is
//! judged is safety; figures of a debug build on a busy machine are not looked at.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use poolproof_oracle::{CutShort, Guarantee, GuaranteeStatus, Verdict};
use poolproof_report::Record;
use poolproof_run::{
    Bug, Finished, Interrupt, PostgresChoice, Progress, RemoteConsent, RunError, RunOptions,
    Scenario, SubjectKind, execute,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// One run at a time: two cores are one run's worth.
static TURN: Semaphore = Semaphore::const_new(1);

const COMPACT: &str = r#"
name = "compact"
title = "The quickstart in small"

[pool]
pool_size = 4
max_overflow = 6
pool_timeout = "700ms"
pre_ping = true

[load]
rate = 150
arrivals = "poisson"
duration = "8s"
deadline = "3s"
clean_checks = 0.2
cancel_within = "8ms"
endings = { commit = 80, rollback = 10, panic = 3, cancel = 7 }

[[load.workload]]
kind = "bank"
[[load.workload]]
kind = "write-set"

[[fault]]
name = "slow network"
kind = "latency"
at = "1s"
for = "3500ms"
latency = "60ms"
jitter = "10ms"

[[fault]]
name = "reset"
kind = "reset"
at = "1500ms"
commits_in_flight = 3

[[fault]]
name = "second reset"
kind = "reset"
at = "2200ms"
commits_in_flight = 3

[[fault]]
name = "third reset"
kind = "reset"
at = "2900ms"
commits_in_flight = 2

[[fault]]
name = "fourth reset"
kind = "reset"
at = "3500ms"
commits_in_flight = 3

[[fault]]
name = "silence"
kind = "silence"
at = "5s"
for = "1s"

[[fault]]
name = "killed backend"
kind = "terminate-backend"
at = "6500ms"
"#;

/// Nothing waits in the queue, nothing is sampled, and each cancellation meets a BEGIN that waits
/// for its answer.
const CANCELLED_BEGINS: &str = r#"
name = "cancelled-begins"
title = "Ops that are cancelled while their BEGIN is under way"

[pool]
pool_size = 10
max_overflow = 10
pool_timeout = "5s"
pre_ping = false

[load]
rate = 20
arrivals = "uniform"
duration = "5s"
deadline = "10s"
clean_checks = 0.0
cancel_within = "8ms"
endings = { commit = 70, cancel = 30 }

[[load.workload]]
kind = "bank"

[[fault]]
name = "slow network"
kind = "latency"
at = "1s"
for = "3s"
latency = "100ms"
"#;

/// Where the reports of this test binary go.
fn reports() -> PathBuf {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    DIR.get_or_init(|| TempDir::new().expect("a temporary directory"))
        .path()
        .to_owned()
}

fn options(scenario: &str, subject: SubjectKind, seed: u64) -> RunOptions {
    RunOptions {
        scenario: Scenario::parse("compact.toml", scenario).expect("the scenario has no problem"),
        postgres: PostgresChoice::Local,
        subject,
        seed,
        out: reports(),
        remote: RemoteConsent::default(),
        replay: format!("poolproof run compact.toml --seed {seed} --subject {subject}"),
        notes: Vec::new(),
        exit_code: |verdict, _| if verdict == Verdict::Pass { 0 } else { 1 },
    }
}

async fn run(subject: SubjectKind) -> Finished {
    run_scenario(COMPACT, subject).await
}

async fn run_scenario(scenario: &str, subject: SubjectKind) -> Finished {
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    let (_trigger, interrupt) = Interrupt::new();
    let finished = execute(options(scenario, subject, 7), &mut |_| {}, interrupt).await;
    finished.unwrap_or_else(|error| panic!("the run failed: {error:?}"))
}

fn violated(record: &Record) -> Vec<Guarantee> {
    let results = record.guarantees.iter();
    let violated = results.filter(|result| result.status == GuaranteeStatus::Violated);
    violated.map(|result| result.guarantee).collect()
}

/// Runs a planted bug and checks that the verdict names the guarantee that it breaks.
async fn found_out(bug: Bug, guarantee: Guarantee) {
    let Finished { record, .. } = run(SubjectKind::Planted(bug)).await;
    assert_eq!(record.verdict, Verdict::Fail);
    // The record tells what the caller made of the verdict.
    assert_eq!(record.run.exit_code, Some(1));
    let violated = violated(&record);
    assert!(
        violated.contains(&guarantee),
        "{bug:?} violated {violated:?}"
    );
    let named = record
        .verdict_reasons
        .iter()
        .any(|reason| reason.contains(guarantee.code()));
    assert!(named, "{:?}", record.verdict_reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_lease_is_found_out() {
    found_out(Bug::Leak, Guarantee::L1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_returned_in_a_transaction_is_found_out() {
    found_out(Bug::Dirty, Guarantee::C).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ok_after_a_rollback_is_found_out() {
    found_out(Bug::Lies, Guarantee::X).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_commit_is_found_out() {
    found_out(Bug::Twice, Guarantee::X).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_without_deadline_is_found_out() {
    found_out(Bug::Stuck, Guarantee::T).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ok_for_a_commit_in_doubt_is_found_out() {
    found_out(Bug::Optimist, Guarantee::X).await;
}

/// Stock sqlx lends a connection on within the transaction of a BEGIN that was cancelled. Whoever
/// gets that connection asks it because of what came before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_open_transaction_of_a_cancelled_begin_is_found_out_and_its_culprit_named() {
    let record = run_scenario(CANCELLED_BEGINS, SubjectKind::Sqlx)
        .await
        .record;
    let evidence: Vec<&String> = record
        .guarantees
        .iter()
        .filter(|result| result.guarantee == Guarantee::C)
        .flat_map(|result| &result.evidence)
        .collect();
    let is_named = |line: &&String| {
        line.contains(" on backend ")
            && line.contains(": a transaction was open; op ")
            && line.ends_with(", cancelled, had it before")
    };
    assert!(evidence.iter().any(is_named), "{evidence:?}");
    assert_eq!(record.verdict, Verdict::Fail);
}

/// The control: without a bug the same naive pool passes, so a planted run fails by its bug.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_naive_pool_without_a_bug_passes() {
    passes(SubjectKind::Naive).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_pool_passes() {
    passes(SubjectKind::Poolproof).await;
}

async fn passes(subject: SubjectKind) {
    let Finished { record, dir } = run(subject).await;
    let evidence: Vec<_> = record
        .guarantees
        .iter()
        .flat_map(|result| &result.evidence)
        .collect();
    assert_eq!(
        (record.verdict, violated(&record)),
        (Verdict::Pass, Vec::new()),
        "{:?} {evidence:?}",
        record.verdict_reasons
    );
    assert_eq!(record.faults.len(), 7);
    assert!(record.faults.iter().all(|fault| fault.event.effect.seen));
    let ambiguous = record
        .errors
        .iter()
        .any(|error| error.category == "ambiguous");
    assert!(ambiguous, "the resets met commits in flight");
    for file in [
        "result.json",
        "history.jsonl",
        "report.html",
        "report.md",
        "junit.xml",
    ] {
        let size = dir
            .join(file)
            .metadata()
            .map(|meta| meta.len())
            .unwrap_or_default();
        assert!(size > 0, "{file} is missing or empty");
    }
    let read = std::fs::read_to_string(dir.join("result.json")).expect("the record is there");
    assert_eq!(
        poolproof_report::parse(&read).expect("the record can be read again"),
        record
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_reports_what_it_has() {
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    let (trigger, interrupt) = Interrupt::new();
    let options = options(COMPACT, SubjectKind::Poolproof, 7);
    // In the middle of the slow network, so that there is a fault to heal.
    let mut stop_at = |news: Progress| {
        if let Progress::Tick(tick) = news
            && tick.at > Duration::from_millis(1_200)
        {
            trigger.trigger();
        }
    };
    let finished = execute(options, &mut stop_at, interrupt)
        .await
        .expect("there is a report");
    let cut_short = finished.record.run.cut_short;
    assert_eq!(cut_short, Some(CutShort::Interrupted));
    assert_eq!(finished.record.verdict, Verdict::Inconclusive);
    let partial = finished
        .record
        .run
        .partial
        .expect("the record is marked partial");
    assert!(partial.starts_with("interrupted "), "{partial}");
    assert_eq!(
        finished.record.faults.len(),
        1,
        "only the first fault had begun"
    );
    assert!(finished.dir.join("report.html").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_cannot_work_makes_the_run_invalid() {
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    let (_trigger, interrupt) = Interrupt::new();
    // As good as nothing commits, so the reset waits in vain for commits in flight.
    let scenario = COMPACT
        .replace(
            "commit = 80, rollback = 10, panic = 3, cancel = 7",
            "commit = 1, rollback = 1000000",
        )
        .replace("duration = \"8s\"", "duration = \"7s\"");
    let options = options(&scenario, SubjectKind::Naive, 7);
    let finished = execute(options, &mut |_| {}, interrupt)
        .await
        .expect("there is a report");
    assert_eq!(finished.record.verdict, Verdict::Invalid);
    let reset = finished
        .record
        .faults
        .iter()
        .find(|fault| fault.event.name == "reset");
    let effect = &reset.expect("the reset is in the report").event.effect;
    assert!(!effect.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_seed_names_one_list_of_ops() {
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    let mut hashes = Vec::new();
    for seed in [3, 3, 4] {
        let (_trigger, interrupt) = Interrupt::new();
        let calm = COMPACT
            .split("[[fault]]")
            .next()
            .expect("a head")
            .replace("\"8s\"", "\"1s\"");
        let options = options(&calm, SubjectKind::Naive, seed);
        let finished = execute(options, &mut |_| {}, interrupt)
            .await
            .expect("there is a report");
        hashes.push(finished.record.run.schedule_sha256);
    }
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}

/// Runs to an error, and returns what it says and its advice.
async fn refused(scenario: &str, subject: SubjectKind) -> (RunError, String) {
    let _turn = TURN.acquire().await.expect("the semaphore is never closed");
    let (_trigger, interrupt) = Interrupt::new();
    let refused = execute(options(scenario, subject, 7), &mut |_| {}, interrupt).await;
    let error = refused.expect_err("the run has nothing to judge");
    let help = error.help().unwrap_or_default();
    (error, help)
}

/// Otherwise the pool would be blamed (L6) for connections that the server does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_room_for_the_pool_is_refused() {
    let scenario = COMPACT.replace(
        "[load]",
        "[postgres]\nsettings = { max_connections = 10 }\n[load]",
    );
    let (error, help) = refused(&scenario, SubjectKind::Poolproof).await;
    assert_eq!(
        error.to_string(),
        "there are 7 connections left, and the pool may open 10, the run itself 4"
    );
    assert!(help.contains("max_connections"), "{help}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_that_needs_a_limit_is_refused_one_without() {
    let scenario = COMPACT.replace("max_overflow = 6", "max_overflow = -1");
    let (error, _) = refused(&scenario, SubjectKind::Sqlx).await;
    assert_eq!(
        error.to_string(),
        "sqlx cannot have the pool of this scenario"
    );
}
