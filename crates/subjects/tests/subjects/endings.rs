//! What every correct subject makes of each ending.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use poolproof_load::{OpEnd, Subject, Trace};
use poolproof_oracle::{Ending, ErrorCategory, Op, Outcome, PoolView};
use poolproof_subjects::{BuildError, SubjectConfig, SubjectKind, build};
use tokio::time::{Instant, timeout};

use crate::world::{
    OPENING_BALANCE, PATIENCE, World, ending, holding, pause, run, statement, transfer, write_set,
};

/// The subjects without a planted bug.
pub(crate) const CORRECT: [SubjectKind; 3] = [
    SubjectKind::Poolproof,
    SubjectKind::Sqlx,
    SubjectKind::Naive,
];

#[tokio::test]
async fn each_ending_leaves_what_it_should() {
    let world = World::start().await;
    for kind in CORRECT {
        world.reset_tables().await;
        let subject = world.subject(kind).await;
        assert_eq!(run(&subject, &write_set(1)).await, OpEnd::ok(), "{kind}");
        assert_eq!(run(&subject, &transfer(2)).await, OpEnd::ok(), "{kind}");
        let rollback = ending(write_set(3), Ending::Rollback);
        assert_eq!(run(&subject, &rollback).await, OpEnd::ok(), "{kind}");
        panics_as_planned(&subject, &ending(transfer(4), Ending::Panic)).await;
        cancelled_in_its_transaction(&world, &subject, holding(transfer(5))).await;
        let last = Op {
            check_clean: true,
            ..write_set(6)
        };
        assert_eq!(run(&subject, &last).await, OpEnd::ok(), "{kind}");

        let once = BTreeMap::from([(1, 1), (6, 1)]);
        assert_eq!(
            world.op_log().await,
            BTreeMap::from([(1, 1), (2, 1), (6, 1)]),
            "{kind}"
        );
        assert_eq!(world.write_sets().await, [once.clone(), once], "{kind}");
        let balances = world.balances().await;
        assert_eq!(balances[&0], OPENING_BALANCE - 7, "{kind}");
        assert_eq!(balances[&1], OPENING_BALANCE + 7, "{kind}");
        until_books_are_balanced(&subject).await;
        close(&world, &subject).await;
    }
}

#[tokio::test]
async fn the_trace_tells_how_far_an_op_got() {
    let world = World::start().await;
    for kind in CORRECT {
        let subject = world.subject(kind).await;
        let probed = Op {
            check_clean: true,
            ..write_set(1)
        };
        let rolled_back = ending(write_set(2), Ending::Rollback);
        for (op, probes, commits) in [(&probed, true, true), (&rolled_back, false, false)] {
            let trace = Trace::new(Instant::now());
            assert_eq!(subject.execute(op, &trace).await, OpEnd::ok(), "{kind}");
            assert_ne!(trace.acquired_us(), None, "{kind}");
            assert_eq!(trace.commit_sent_us().is_some(), commits, "{kind}");
            let probe = trace.take_clean_probe();
            assert_eq!(probe.is_some(), probes, "{kind}: {probe:?}");
            let clean = probe.is_none_or(|text| text.contains("\"in_transaction\" : false"));
            assert!(clean, "{kind}");
        }
        close(&world, &subject).await;
    }
}

#[tokio::test]
async fn a_cancelled_op_leaves_no_open_transaction_and_no_lease() {
    let world = World::start().await;
    for kind in CORRECT {
        let subject = world.subject(kind).await;
        for id in 0..6 {
            cancelled_in_its_transaction(&world, &subject, holding(write_set(id))).await;
        }
        until_books_are_balanced(&subject).await;
        let probe = subject.probe_capacity(3, Duration::from_secs(30)).await;
        assert_eq!((probe.acquired, probe.error), (3, None), "{kind}");
        until_books_are_balanced(&subject).await;
        world
            .until_backends(&["idle", "idle", "idle"][..idle_after_probe(kind)])
            .await;
        assert_eq!(world.op_log().await, BTreeMap::new(), "{kind}");
        close(&world, &subject).await;
    }
}

#[tokio::test]
async fn a_failed_statement_fails_the_op_with_its_category() {
    let world = World::start().await;
    let cases = [
        (
            "insert into op_log (op) values ($1::bigint / 0)",
            "22012",
            ErrorCategory::Programming,
        ),
        (
            "insert into no_such_table (op) values ($1)",
            "42P01",
            ErrorCategory::Programming,
        ),
        (
            "insert into bank_account (account, balance) values (0, $1)",
            "23505",
            ErrorCategory::Integrity,
        ),
        (
            "insert into at_commit (op) values ($1), ($1)",
            "23505",
            ErrorCategory::Integrity,
        ),
    ];
    for kind in CORRECT {
        world.reset_tables().await;
        let subject = world.subject(kind).await;
        for (id, (sql, sqlstate, category)) in (1..).zip(cases) {
            let mut op = write_set(id);
            op.statements.push(statement(sql, &[1]));
            let end = run(&subject, &op).await;
            let error = end.error.unwrap();
            assert_eq!(end.outcome, Outcome::Fail, "{kind}: {sql}");
            assert_eq!(error.sqlstate.as_deref(), Some(sqlstate), "{kind}: {sql}");
            assert_eq!(error.category, category, "{kind}: {sql}");
        }
        assert_eq!(world.op_log().await, BTreeMap::new(), "{kind}");
        until_books_are_balanced(&subject).await;
        close(&world, &subject).await;
    }
}

#[tokio::test]
async fn an_op_beyond_its_deadline_ends_and_leaves_nothing() {
    let world = World::start().await;
    for kind in CORRECT {
        let subject = world.subject(kind).await;
        let op = Op {
            deadline_us: 200_000,
            ..holding(write_set(1))
        };
        let op = Op {
            deadline_us: 200_000,
            ..op
        };
        let end = run(&subject, &op).await;
        let category = end.error.unwrap().category;
        // On a slow machine even the first connection can take this long.
        match end.outcome {
            Outcome::Fail | Outcome::Shed => {
                assert_eq!(category, ErrorCategory::Deadline, "{kind}")
            }
            other => panic!("{kind}: {other:?}"),
        }
        until_books_are_balanced(&subject).await;
        assert_eq!(world.op_log().await, BTreeMap::new(), "{kind}");
        close(&world, &subject).await;
    }
}

#[tokio::test]
async fn an_exhausted_pool_sheds() {
    let world = World::start().await;
    for kind in CORRECT {
        let config = SubjectConfig {
            pool_size: 1,
            max_overflow: 0,
            pool_timeout: Duration::from_millis(500),
            ..world.config()
        };
        let subject = build(kind, config).await.unwrap();
        let holder = holding(write_set(1));
        let trace = Trace::new(Instant::now());
        let mut held = subject.execute(&holder, &trace);
        until_holding(&world, &holder, &mut held).await;
        // Its own deadline is an hour away: `pool_timeout` ends the wait.
        let waiter = holding(write_set(2));
        let end = tokio::select! {
            end = &mut held => panic!("{kind}: {end:?}"),
            end = timeout(PATIENCE, run(&subject, &waiter)) => end.unwrap(),
        };
        assert_eq!(end.outcome, Outcome::Shed, "{kind}");
        assert_eq!(
            end.error.unwrap().category,
            ErrorCategory::Capacity,
            "{kind}"
        );
        drop(held);
        until_books_are_balanced(&subject).await;
        close(&world, &subject).await;
    }
}

#[tokio::test]
async fn closing_is_over_in_time_while_a_lease_is_out() {
    let world = World::start().await;
    for kind in CORRECT {
        let subject = world.subject(kind).await;
        // Else the op may open a second one, which stays with a pool that could not be closed.
        until_books_are_balanced(&subject).await;
        let op = holding(write_set(1));
        let trace = Trace::new(Instant::now());
        let mut held = subject.execute(&op, &trace);
        until_holding(&world, &op, &mut held).await;
        let closed = timeout(PATIENCE, subject.close(Duration::from_millis(300))).await;
        assert_eq!(closed, Ok(()), "{kind}");
        let late = run(&subject, &write_set(2)).await;
        assert_eq!(late.outcome, Outcome::Shed, "{kind}");
        assert_eq!(
            late.error.unwrap().category,
            ErrorCategory::Unavailable,
            "{kind}"
        );
        drop(held);
        world.until_backends(&[]).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_an_error_of_the_build_and_is_not_repeated() {
    let world = World::start().await;
    for kind in CORRECT {
        let mut config = world.config();
        config.options = config
            .options
            .username("nobody_here")
            .password("hunter2-secret");
        let Err(error) = build(kind, config).await else {
            panic!("{kind}: connected with a wrong password");
        };
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{kind}: {error:?}"
        );
        assert!(
            matches!(error, BuildError::Connect { .. }),
            "{kind}: {error:?}"
        );
    }
}

/// How many connections are idle after three were out at once: an overflow connection may be
/// closed on its return.
fn idle_after_probe(kind: SubjectKind) -> usize {
    match kind {
        SubjectKind::Poolproof => 2,
        _ => 3,
    }
}

async fn panics_as_planned(subject: &Arc<dyn Subject>, op: &Op) {
    let ended = AssertUnwindSafe(run(subject, op)).catch_unwind().await;
    assert!(ended.is_err(), "{ended:?}");
}

async fn cancelled_in_its_transaction(world: &World, subject: &Arc<dyn Subject>, op: Op) {
    // What came before may still be rolling back.
    until_no_transaction(world).await;
    let trace = Trace::new(Instant::now());
    let mut running = subject.execute(&op, &trace);
    until_holding(world, &op, &mut running).await;
    assert_ne!(trace.acquired_us(), None);
    assert_eq!(trace.commit_sent_us(), None);
    drop(running);
    until_no_transaction(world).await;
}

async fn until_no_transaction(world: &World) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let states = world.backends().await;
        if !states.iter().any(|state| state.contains("transaction")) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "a transaction stays open: {states:?}"
        );
        pause().await;
    }
}

/// Drives an op until the server is done with its last statement.
pub(crate) async fn until_holding(
    world: &World,
    op: &Op,
    running: &mut (impl Future<Output = OpEnd> + Unpin),
) {
    let last = &op.statements.last().unwrap().sql;
    tokio::select! {
        end = running => panic!("ended too early: {end:?}"),
        () = world.until_done_in_transaction(last) => {}
    }
}

/// Waits until the subject tells that nothing is out, waiting, opening or closing.
pub(crate) async fn until_books_are_balanced(subject: &Arc<dyn Subject>) -> PoolView {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = subject.view();
        let busy = [view.in_use, view.waiting, view.opening, view.closing];
        if busy
            .iter()
            .all(|count| count.is_none_or(|count| count == 0))
        {
            assert_eq!(view.size, view.idle, "{view:?}");
            assert_eq!(view.leases_issued, view.leases_returned, "{view:?}");
            if let (Some(opened), Some(closed)) = (view.opened_total, view.closed_total) {
                assert_eq!(Some(opened - closed), view.size, "{view:?}");
            }
            return view;
        }
        assert!(Instant::now() < deadline, "never at rest: {view:?}");
        pause().await;
    }
}

async fn close(world: &World, subject: &Arc<dyn Subject>) {
    subject.close(Duration::from_secs(10)).await;
    world.until_backends(&[]).await;
}
