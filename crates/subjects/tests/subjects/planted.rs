//! Each planted bug, caught in the act; [`crate::doubt`] has the one that needs a lost answer.

use std::time::Duration;

use poolproof_load::{OpEnd, Trace};
use poolproof_oracle::{Ending, ErrorCategory, Op, Outcome};
use poolproof_subjects::{Bug, SubjectConfig, SubjectKind, build};
use tokio::time::{Instant, timeout};

use crate::endings::{until_books_are_balanced, until_holding};
use crate::world::{World, ending, holding, run, write_set};

#[tokio::test]
async fn planted_leak_forgets_three_leases_and_goes_on() {
    let world = World::start().await;
    let config = SubjectConfig {
        pool_size: 4,
        ..world.config()
    };
    let subject = build(SubjectKind::Planted(Bug::Leak), config)
        .await
        .unwrap();
    for id in 0..200 {
        assert_eq!(run(&subject, &write_set(id)).await, OpEnd::ok());
    }
    let view = subject.view();
    assert_eq!(view.in_use, Some(3), "{view:?}");
    assert_eq!(
        view.leases_issued.unwrap() - view.leases_returned.unwrap(),
        3,
        "{view:?}"
    );
    let probe = subject.probe_capacity(5, Duration::from_secs(1)).await;
    assert_eq!(probe.acquired, 2, "{probe:?}");
    assert_ne!(probe.error, None);
    world.until_backends(&["idle"; 5]).await;
    assert_eq!(world.op_log().await.len(), 200);
}

#[tokio::test]
async fn planted_dirty_returns_a_connection_inside_its_transaction() {
    let world = World::start().await;
    let subject = world.subject(SubjectKind::Planted(Bug::Dirty)).await;
    let rolled_back = ending(write_set(1), Ending::Rollback);
    assert_eq!(run(&subject, &rolled_back).await, OpEnd::ok());
    world.until_backends(&["idle in transaction"]).await;

    let trace = Trace::new(Instant::now());
    let next = Op {
        check_clean: true,
        ..write_set(2)
    };
    assert_eq!(subject.execute(&next, &trace).await, OpEnd::ok());
    let probe = trace.take_clean_probe().unwrap();
    assert!(probe.contains("\"in_transaction\" : true"), "{probe}");
    let kept: Vec<i64> = world.op_log().await.into_keys().collect();
    assert_eq!(
        kept,
        [1, 2],
        "the next commit commits the rolled-back op too"
    );
    until_books_are_balanced(&subject).await;
}

#[tokio::test]
async fn the_naive_pool_rolls_back_and_its_next_borrower_is_clean() {
    let world = World::start().await;
    let subject = world.subject(SubjectKind::Naive).await;
    let rolled_back = ending(write_set(1), Ending::Rollback);
    assert_eq!(run(&subject, &rolled_back).await, OpEnd::ok());
    let trace = Trace::new(Instant::now());
    let next = Op {
        check_clean: true,
        ..write_set(2)
    };
    assert_eq!(subject.execute(&next, &trace).await, OpEnd::ok());
    let probe = trace.take_clean_probe().unwrap();
    assert!(probe.contains("\"in_transaction\" : false"), "{probe}");
    let kept: Vec<i64> = world.op_log().await.into_keys().collect();
    assert_eq!(kept, [2]);
    let view = until_books_are_balanced(&subject).await;
    assert_eq!(
        (view.opened_total, view.closed_total),
        (Some(1), Some(0)),
        "it was reused"
    );
}

#[tokio::test]
async fn planted_lies_reports_a_rollback_as_a_commit() {
    let world = World::start().await;
    let subject = world.subject(SubjectKind::Planted(Bug::Lies)).await;
    for id in 0..64 {
        assert_eq!(run(&subject, &write_set(id)).await, OpEnd::ok());
    }
    let kept = world.op_log().await;
    let lost: Vec<i64> = (0..64).filter(|id| !kept.contains_key(id)).collect();
    assert_eq!(lost, [16, 48]);
    until_books_are_balanced(&subject).await;
}

/// The only connection is held for ever, and an op with a short deadline comes. A slow machine
/// can only make the check milder: the op of a stuck pool does not end while the other holds.
#[tokio::test]
async fn planted_stuck_waits_beyond_pool_timeout_and_deadline() {
    let world = World::start().await;
    let config = SubjectConfig {
        pool_size: 1,
        max_overflow: 0,
        pool_timeout: Duration::from_millis(500),
        ..world.config()
    };
    let subject = build(SubjectKind::Planted(Bug::Stuck), config)
        .await
        .unwrap();
    let holder = holding(write_set(1));
    let holder_trace = Trace::new(Instant::now());
    let mut held = subject.execute(&holder, &holder_trace);
    until_holding(&world, &holder, &mut held).await;

    let waiter = Op {
        deadline_us: 100_000,
        ..write_set(2)
    };
    let trace = Trace::new(Instant::now());
    let mut waiting = subject.execute(&waiter, &trace);
    tokio::select! {
        end = &mut held => panic!("{end:?}"),
        waited = timeout(Duration::from_millis(1_500), &mut waiting) => {
            assert!(waited.is_err(), "it ended: {waited:?}");
        }
    }
    assert_eq!(subject.view().waiting, Some(1));
    drop(held);
    let end = waiting.await;
    assert_eq!(end.outcome, Outcome::Fail);
    assert_eq!(end.error.unwrap().category, ErrorCategory::Deadline);
    assert_ne!(trace.acquired_us(), None, "it got a connection in the end");
    let view = until_books_are_balanced(&subject).await;
    assert_eq!(view.idle, Some(1), "and gave it back unused");
}
