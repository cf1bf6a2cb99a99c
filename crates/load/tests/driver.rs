//! The driver on a fake subject: open loop, cancellation, panics, ops that never end.
//!
//! Time is paused, so a wait is exact but for the timer's tick of one millisecond.

#[path = "driver/fake.rs"]
mod fake;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake::{Fake, Step, commits, failed, schedule};
use poolproof_load::{BackendId, Finished, Histograms, OpEnd, Schedule, start};
use poolproof_oracle::{Ending, ErrorCategory, Op, OpRecord, Outcome};
use tokio::time::{Instant, timeout};

const TICK_US: u64 = 1_000;
const QUIESCENCE: Duration = Duration::from_secs(10);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs a whole load from now on.
async fn run(fake: &Arc<Fake>, schedule: Arc<Schedule>) -> Finished {
    let subject = Arc::<Fake>::clone(fake);
    let running = start(subject, schedule, Instant::now());
    running.finish(QUIESCENCE).await
}

/// Runs one op and returns its record.
async fn run_one(ending: Ending, script: Vec<Step>) -> OpRecord {
    let fake = Fake::new(move |_| script.clone());
    let mut finished = run(&fake, schedule(ms(1), &[ending])).await;
    assert_eq!(finished.records.len(), 1);
    finished.records.remove(0)
}

fn end(record: &OpRecord) -> OpEnd {
    OpEnd {
        outcome: record.outcome,
        error: record.error.clone(),
    }
}

/// The scenario of the two tests below: an op each 10 ms, and from 1 s to 3 s the only connection
/// is stuck; otherwise an op holds it for 1 ms.
fn stalled_from_1_s_to_3_s() -> Arc<Fake> {
    Fake::new(|op| {
        let held = if op.id == 100 { ms(2_000) } else { ms(1) };
        vec![Step::Queue, Step::Acquire, Step::Wait(held)]
    })
}

#[tokio::test(start_paused = true)]
async fn arrivals_follow_the_schedule_whatever_the_subject_does() {
    let fake = Fake::new(|_| vec![Step::Wait(ms(5_000))]);
    let running = start(fake, commits(ms(10), 100), Instant::now());
    running.arrivals_done().await;
    assert_eq!(running.gauges().started(), 100);
    assert_eq!(running.gauges().in_flight(), 100);

    let finished = running.finish(QUIESCENCE).await;
    assert_eq!(finished.records.len(), 100);
    for (id, record) in (0..).zip(&finished.records) {
        assert_eq!(record.id, id);
        assert_eq!(record.intended_us, id * 10_000);
        let lag_us = record.started_us - record.intended_us;
        assert!(lag_us <= TICK_US, "op {id} lags by {lag_us} us");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_hits_every_op_that_arrives_within_it() {
    // A closed loop would have sent one op into the stall and reported a p99 of 1 ms. Here the
    // 200 ops that arrive within 2 s wait for the rest of it, and so does the backlog after it.
    let finished = run(&stalled_from_1_s_to_3_s(), commits(ms(10), 1_000)).await;
    let histograms = Histograms::from_records(&finished.records, &[]);
    let response = &histograms.response;
    assert_eq!(response.len(), 1_000);
    let slower_than_a_second = response.len() - response.count_between(0, 1_000_000);
    assert!(
        (98..=120).contains(&slower_than_a_second),
        "{slower_than_a_second} ops waited more than a second"
    );
    let p99 = response.value_at_quantile(0.99);
    assert!((1_800_000..=2_010_000).contains(&p99), "p99 is {p99} us");
    assert!(histograms.lag.max() <= TICK_US);
}

#[tokio::test(start_paused = true)]
async fn latency_counts_from_the_intended_start_even_when_the_driver_is_late() {
    let fake = Fake::new(|_| vec![Step::Acquire, Step::Wait(ms(5))]);
    let origin = Instant::now();
    tokio::time::advance(ms(1_000)).await;
    let finished = start(fake, commits(ms(10), 50), origin)
        .finish(QUIESCENCE)
        .await;
    let histograms = Histograms::from_records(&finished.records, &[]);
    // The first op is late by the whole second, the last one by half of it.
    assert!(histograms.lag.max() >= 999_000);
    assert!(histograms.lag.min() >= 500_000);
    assert!(histograms.response.min() >= 505_000);
    assert!(histograms.acquire.max() <= TICK_US);
}

#[tokio::test(start_paused = true)]
async fn an_origin_in_the_future_delays_the_load() {
    let fake = Fake::new(|_| Vec::new());
    let running = start(fake, commits(ms(10), 1), Instant::now() + ms(500));
    let gauges = running.gauges();
    assert!(timeout(ms(499), running.arrivals_done()).await.is_err());
    assert_eq!(gauges.started(), 0);
    let finished = running.finish(QUIESCENCE).await;
    assert_eq!(finished.records.len(), 1);
    assert!(finished.records[0].started_us <= TICK_US);
}

#[tokio::test(start_paused = true)]
async fn what_a_subject_says_is_recorded_as_told() {
    // Lies are for the oracle to find: the driver must not repair them.
    let ends = [
        OpEnd::ok(),
        failed(Outcome::Fail, ErrorCategory::Serialization, "deadlock"),
        failed(Outcome::Info, ErrorCategory::Ambiguous, "reset"),
        failed(Outcome::Shed, ErrorCategory::Capacity, "timed out"),
    ];
    let told = ends.clone();
    let fake = Fake::new(move |op| {
        let end = told[usize::try_from(op.id).unwrap()].clone();
        vec![
            Step::Probe,
            Step::Wait(ms(2)),
            Step::Acquire,
            Step::End(end),
        ]
    });
    let running = start(fake, commits(ms(10), 4), Instant::now());
    let gauges = running.gauges();
    let records = running.finish(QUIESCENCE).await.records;
    assert_eq!(records.iter().map(end).collect::<Vec<_>>(), ends);
    for record in &records {
        assert_eq!(record.clean_probe.as_deref(), Some("answer"));
        assert_eq!(record.acquired_us, record.ended_us);
        let took_us = record.ended_us.unwrap() - record.started_us;
        assert!((2_000..=2_000 + TICK_US).contains(&took_us), "{took_us}");
        assert_eq!(record.deadline_us, 1_000_000);
    }
    let counts = [gauges.ok(), gauges.fail(), gauges.info(), gauges.shed()];
    assert_eq!(counts, [1, 1, 1, 1]);
    assert_eq!((gauges.started(), gauges.ended()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_op_ends_at_its_moment_and_is_classified_by_its_progress() {
    let cancel = Ending::Cancel { after_us: 7_500 };
    let cancelled = |outcome| failed(outcome, ErrorCategory::Cancelled, "planned");
    let cases = [
        (vec![Step::Never], cancelled(Outcome::Fail)),
        (vec![Step::Acquire, Step::Never], cancelled(Outcome::Fail)),
        (
            vec![Step::Acquire, Step::SendCommit, Step::Never],
            cancelled(Outcome::Info),
        ),
        (vec![Step::Wait(ms(7))], OpEnd::ok()),
    ];
    for (script, expected) in cases {
        let case = format!("{script:?}");
        let record = run_one(cancel, script).await;
        assert_eq!(end(&record), expected, "{case}");
        let took_us = record.ended_us.unwrap() - record.started_us;
        let expected_us = if expected == OpEnd::ok() {
            7_000
        } else {
            7_500
        };
        assert!(
            (expected_us..=expected_us + TICK_US).contains(&took_us),
            "{case} took {took_us} us"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_tells_the_backend_and_who_had_it_before_and_the_op_whether_it_is_suspect() {
    let backend = BackendId { pid: 47, birth: 0 };
    let fake = Fake::new(move |op| {
        let mut script = vec![Step::AcquireFrom(backend)];
        match op.ending {
            Ending::Cancel { .. } => script.push(Step::Never),
            Ending::Panic => script.push(Step::PlannedPanic),
            _ if op.id == 7 => {
                let end = failed(Outcome::Fail, ErrorCategory::Integrity, "duplicate");
                script.push(Step::End(end));
            }
            _ => script.push(Step::Settle),
        }
        script
    });
    let cancel = Ending::Cancel { after_us: 1 };
    let endings = [
        Ending::Commit,
        cancel,
        cancel,
        Ending::Rollback,
        Ending::Panic,
        Ending::Commit,
        Ending::Commit,
        Ending::Commit, // fails
        Ending::Commit,
    ];
    let records = run(&fake, schedule(ms(10), &endings)).await.records;
    let mut suspects = Vec::new();
    for record in &records {
        assert_eq!(record.backend_pid, Some(47));
        assert_eq!(record.previous_op, record.id.checked_sub(1));
        if record.clean_probe.as_deref() == Some("true") {
            suspects.push(record.id);
        }
    }
    assert_eq!(suspects, [2, 3, 5, 8]);
}

#[tokio::test(start_paused = true)]
async fn an_op_cancelled_at_once_is_polled_exactly_once() {
    // Of 64 ops each, since a driver that chose at random would be right every other time.
    let at_once = schedule(ms(1), &[Ending::Cancel { after_us: 0 }; 64]);
    let never = Fake::new(|_| vec![Step::Acquire, Step::Never]);
    for record in run(&never, Arc::clone(&at_once)).await.records {
        assert_eq!(record.acquired_us, Some(record.started_us));
        assert_eq!(record.ended_us, Some(record.started_us));
        assert_eq!(record.outcome, Outcome::Fail);
    }
    let ready = Fake::new(|_| Vec::new());
    for record in run(&ready, at_once).await.records {
        assert_eq!(end(&record), OpEnd::ok());
    }
}

#[tokio::test(start_paused = true)]
async fn panics_are_caught_and_told_apart() {
    let panicked = |outcome, message| failed(outcome, ErrorCategory::Panicked, message);
    let commit = Ending::Commit;
    let cases = [
        (
            Ending::Panic,
            vec![Step::Acquire, Step::PlannedPanic],
            panicked(Outcome::Fail, "planned"),
        ),
        (
            Ending::Panic,
            vec![Step::Panic("index out of range")],
            panicked(Outcome::Fail, "not planned: index out of range"),
        ),
        (
            commit,
            vec![Step::PlannedPanic],
            panicked(Outcome::Fail, "not planned: a panic without text"),
        ),
        (
            commit,
            vec![Step::SendCommit, Step::Panic("late")],
            panicked(Outcome::Info, "not planned: late"),
        ),
        (
            Ending::Cancel { after_us: 1 },
            vec![Step::PanicOnDrop("in drop"), Step::Never],
            panicked(Outcome::Fail, "not planned: in drop"),
        ),
    ];
    for (ending, script, expected) in cases {
        let case = format!("{ending:?} {script:?}");
        let record = run_one(ending, script).await;
        assert_eq!(end(&record), expected, "{case}");
        assert!(record.ended_us.is_some(), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_one_op_does_not_touch_the_others() {
    let fake = Fake::new(|op| match op.id {
        5 => vec![Step::Panic("only this one")],
        _ => vec![Step::Wait(ms(50))],
    });
    let records = run(&fake, commits(ms(10), 20)).await.records;
    let not_ok: Vec<u64> = records
        .iter()
        .filter(|record| record.outcome != Outcome::Ok)
        .map(|record| record.id)
        .collect();
    assert_eq!(not_ok, [5]);
    assert_eq!(records.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn ops_that_never_end_are_aborted_after_quiescence_and_recorded() {
    let fake = Fake::new(|op| match op.id {
        3 => vec![Step::Acquire, Step::Probe, Step::Never],
        4 => vec![Step::Acquire, Step::SendCommit, Step::Never],
        _ => Vec::new(),
    });
    let subject = Arc::<Fake>::clone(&fake);
    let running = start(subject, commits(ms(10), 10), Instant::now());
    let gauges = running.gauges();
    running.arrivals_done().await;
    let before = Instant::now();
    let finished = running.finish(QUIESCENCE).await;
    let took = before.elapsed();
    assert!(took >= QUIESCENCE, "{took:?}");
    assert!(took <= QUIESCENCE + ms(2), "{took:?}");

    assert_eq!(finished.quiescent_after, None);
    assert_eq!(finished.records.len(), 10);
    let stuck: Vec<_> = finished
        .records
        .iter()
        .filter(|record| record.ended_us.is_none())
        .map(|record| (record.id, end(record)))
        .collect();
    let never = |outcome| failed(outcome, ErrorCategory::Deadline, "never ended");
    assert_eq!(
        stuck,
        [(3, never(Outcome::Fail)), (4, never(Outcome::Info))]
    );
    let record = &finished.records[3];
    assert_eq!(record.acquired_us, Some(record.started_us));
    assert_eq!(record.clean_probe.as_deref(), Some("answer"));
    assert_eq!(gauges.in_flight(), 2);
    assert_eq!(fake.dropped.load(Ordering::Relaxed), 10);
}

/// The deadline of an op is 1 s, and a call may take 250 ms more.
#[tokio::test(start_paused = true)]
async fn an_op_that_is_given_up_before_its_deadline_is_cut_short() {
    for (wait, category) in [
        (ms(1_250), ErrorCategory::CutShort),
        (ms(1_252), ErrorCategory::Deadline),
    ] {
        let fake = Fake::new(|_| vec![Step::Acquire, Step::Never]);
        let running = start(fake, commits(ms(1), 1), Instant::now());
        running.arrivals_done().await;
        let records = running.finish(wait).await.records;
        assert_eq!(records[0].ended_us, None);
        assert_eq!(records[0].error.as_ref().unwrap().category, category);
        let cut_short = category == ErrorCategory::CutShort;
        assert_eq!(records[0].was_cut_short(), cut_short);
    }
}

/// The op ends 9 s after its start. The process is stopped for 20 s, 5 s after it: a wait of 10 s
/// is over by then, but half of it nobody could end anything.
#[tokio::test(start_paused = true)]
async fn what_was_due_while_the_process_was_stopped_gets_its_chance() {
    let fake = Fake::new(|_| vec![Step::Wait(ms(5_500)), Step::Wait(ms(3_500))]);
    let running = start(fake, commits(ms(1), 1), Instant::now());
    running.arrivals_done().await;
    let finish = running.finish(QUIESCENCE);
    let stop = async {
        tokio::time::sleep_until(Instant::now() + ms(5_000)).await;
        tokio::time::advance(ms(20_000)).await;
        std::future::pending().await
    };
    let finished = tokio::select! {
        finished = finish => finished,
        () = stop => unreachable!(),
    };
    // The first wait ends when the process goes on, the second 3.5 s later.
    let ended = finished.records[0].ended_us.unwrap();
    assert!((28_500_000..=28_510_000).contains(&ended), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn planned_ends_are_counted_apart() {
    let fake = Fake::new(|op| match op.ending {
        Ending::Panic => vec![Step::PlannedPanic],
        Ending::Cancel { .. } => vec![Step::SendCommit, Step::Never],
        _ => vec![Step::Panic("index out of range")],
    });
    let endings = [
        Ending::Panic,
        Ending::Cancel { after_us: 1 },
        Ending::Commit,
    ];
    let running = start(fake, schedule(ms(1), &endings), Instant::now());
    let gauges = running.gauges();
    running.finish(QUIESCENCE).await;
    let counts = (gauges.fail(), gauges.info(), gauges.broken_off());
    assert_eq!(counts, (2, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_op_that_panics_when_dropped_is_recorded_as_never_ended() {
    let record = run_one(
        Ending::Commit,
        vec![Step::PanicOnDrop("in abort"), Step::Never],
    )
    .await;
    assert_eq!(record.ended_us, None);
    assert_eq!(record.error.unwrap().message, "never ended");
}

#[tokio::test(start_paused = true)]
async fn quiescence_is_measured_from_the_last_start_to_the_last_end() {
    // Op 0 starts at 0 and ends last, at 3 s; op 9 starts last, at 90 ms.
    let fake = Fake::new(|op| vec![Step::Wait(ms(if op.id == 0 { 3_000 } else { 1 }))]);
    let quiescent_after = run(&fake, commits(ms(10), 10)).await.quiescent_after;
    let expected = ms(2_910);
    let measured = quiescent_after.unwrap();
    assert!(measured.abs_diff(expected) <= ms(1), "{measured:?}");
}

#[tokio::test(start_paused = true)]
async fn a_load_without_ops_finishes_at_once() {
    let before = Instant::now();
    let finished = run(&Fake::new(|_| Vec::new()), commits(ms(1), 0)).await;
    assert_eq!(finished.records, []);
    assert_eq!(finished.quiescent_after, Some(Duration::ZERO));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn stopped_arrivals_leave_the_started_ops_to_end() {
    let fake = Fake::new(|_| vec![Step::Wait(ms(500))]);
    let running = start(fake, commits(ms(10), 1_000), Instant::now());
    assert!(timeout(ms(105), running.arrivals_done()).await.is_err());
    running.stop_arrivals();
    running.arrivals_done().await;
    let finished = running.finish(QUIESCENCE).await;
    assert_eq!(finished.records.len(), 11);
    assert!(
        finished
            .records
            .iter()
            .all(|record| record.outcome == Outcome::Ok)
    );
}

#[tokio::test(start_paused = true)]
async fn commits_in_flight_counts_from_the_mark_to_the_end_of_the_op() {
    // Each op sends its COMMIT after 10 ms and ends after 30 ms more, by itself, by its
    // cancellation or in a panic.
    let fake = Fake::new(|op| {
        let last = match op.id {
            0 => Step::Wait(ms(30)),
            1 => Step::Never,
            _ => Step::Panic("after COMMIT"),
        };
        let sent = [Step::Wait(ms(10)), Step::SendCommit, Step::SendCommit];
        let pause = (op.id == 2).then_some(Step::Wait(ms(30)));
        sent.into_iter().chain(pause).chain([last]).collect()
    });
    let endings = [
        Ending::Commit,
        Ending::Cancel { after_us: 40_000 },
        Ending::Commit,
    ];
    let running = start(fake, schedule(Duration::ZERO, &endings), Instant::now());
    let gauges = running.gauges();
    let at = |millis| {
        let gauges = Arc::clone(&gauges);
        let until = Instant::now() + ms(millis);
        async move {
            tokio::time::sleep_until(until).await;
            (gauges.commits_in_flight(), gauges.in_flight())
        }
    };
    let (early, between, late) = tokio::join!(at(5), at(25), at(45));
    assert_eq!(early, (0, 3));
    assert_eq!(between, (3, 3));
    assert_eq!(late, (0, 0));
    let finished = running.finish(QUIESCENCE).await;
    assert_eq!(finished.records.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_load_aborts_its_ops() {
    let fake = Fake::new(|_| vec![Step::Never]);
    let subject = Arc::<Fake>::clone(&fake);
    let running = start(subject, commits(ms(10), 1_000), Instant::now());
    assert!(timeout(ms(95), running.arrivals_done()).await.is_err());
    let gauges = running.gauges();
    drop(running);
    timeout(ms(10_000), async {
        while fake.dropped.load(Ordering::Relaxed) < gauges.started() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(gauges.started(), 10);
}

#[test]
fn waiting_futures_can_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(is_send(async {
        let fake = Fake::new(|_: &Op| Vec::new());
        let running = start(fake, commits(ms(0), 3), Instant::now());
        is_send(running.arrivals_done()).await;
        let finished = is_send(running.finish(QUIESCENCE)).await;
        assert_eq!(finished.records.len(), 3);
    }));
}
