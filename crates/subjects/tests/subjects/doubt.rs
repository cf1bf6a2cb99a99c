//! Commits that are refused, and commits and begins whose answer does not come.

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof_load::{OpEnd, Trace};
use poolproof_oracle::{ErrorCategory, Op, Outcome};
use poolproof_subjects::{Bug, SubjectConfig, SubjectKind, build};
use tokio::time::Instant;

use crate::endings::{CORRECT, until_books_are_balanced};
use crate::world::{World, run, statement, write_set};

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_in_doubt_and_is_not_repeated() {
    let world = World::start().await;
    for kind in CORRECT {
        world.reset_tables().await;
        let subject = world.subject(kind).await;
        world.relay.lose_next_commit_answer();
        let end = run(&subject, &write_set(1)).await;
        assert!(
            world.relay.has_lost_it(),
            "{kind}: the fault took no effect"
        );
        assert_eq!(end.outcome, Outcome::Info, "{kind}");
        assert_eq!(
            end.error.unwrap().category,
            ErrorCategory::Ambiguous,
            "{kind}"
        );
        assert_eq!(world.op_log().await, BTreeMap::from([(1, 1)]), "{kind}");
        until_books_are_balanced(&subject).await;
        subject.close(Duration::from_secs(10)).await;
    }
}

/// What a borrower finds after an op was cancelled while its BEGIN was under way: with stock sqlx
/// the former op's transaction (transact-rs/sqlx#4393, fixed after 0.9.0). The subject must show
/// that, for a user of sqlx has nothing against it.
#[tokio::test]
async fn a_cancelled_begin_poisons_the_next_borrower_of_stock_sqlx_alone() {
    let world = World::start().await;
    for kind in CORRECT {
        let subject = world.subject(kind).await;
        world.relay.withhold_next_begin_answer();
        let op = write_set(1);
        let trace = Trace::new(Instant::now());
        tokio::select! {
            end = subject.execute(&op, &trace) => panic!("{kind}: {end:?}"),
            () = world.until_done_in_transaction("BEGIN") => {}
        }
        world.relay.heal();
        until_books_are_balanced(&subject).await;
        let trace = Trace::new(Instant::now());
        let next = Op {
            check_clean: true,
            ..write_set(2)
        };
        let end = subject.execute(&next, &trace).await;
        let in_transaction = trace
            .take_clean_probe()
            .unwrap()
            .contains("\"in_transaction\" : true");
        if kind == SubjectKind::Sqlx {
            assert!(in_transaction);
            assert_eq!(end.outcome, Outcome::Ok);
        } else {
            assert!(!in_transaction, "{kind}");
            assert_eq!(end, OpEnd::ok(), "{kind}");
        }
        subject.close(Duration::from_secs(10)).await;
        world.until_backends(&[]).await;
    }
}

#[tokio::test]
async fn planted_twice_applies_an_op_again_when_its_commit_is_in_doubt() {
    let world = World::start().await;
    let subject = world.subject(SubjectKind::Planted(Bug::Twice)).await;
    assert_eq!(run(&subject, &write_set(1)).await, OpEnd::ok());
    world.relay.lose_next_commit_answer();
    assert_eq!(run(&subject, &write_set(2)).await, OpEnd::ok());
    assert!(world.relay.has_lost_it(), "the fault took no effect");
    let applied = BTreeMap::from([(1, 1), (2, 2)]);
    assert_eq!(world.op_log().await, applied);
    assert_eq!(world.write_sets().await, [applied.clone(), applied]);
    until_books_are_balanced(&subject).await;
}

#[tokio::test]
async fn a_commit_that_the_server_refuses_is_a_failure() {
    let world = World::start().await;
    for kind in CORRECT {
        world.reset_tables().await;
        let subject = world.subject(kind).await;
        let mut op = write_set(1);
        // Deferred: the second row passes here and is found at COMMIT.
        op.statements.extend([
            statement("insert into at_commit (op) values ($1)", &[1]),
            statement("insert into at_commit (op) values ($1)", &[1]),
        ]);
        let end = run(&subject, &op).await;
        let error = end.error.unwrap();
        assert_eq!(end.outcome, Outcome::Fail, "{kind}: {error:?}");
        assert_eq!(error.sqlstate.as_deref(), Some("23505"), "{kind}");
        assert_eq!(error.category, ErrorCategory::Integrity, "{kind}");
        assert_eq!(world.op_log().await, BTreeMap::new(), "{kind}");
        until_books_are_balanced(&subject).await;
        assert_eq!(run(&subject, &write_set(2)).await, OpEnd::ok(), "{kind}");
        subject.close(Duration::from_secs(10)).await;
    }
}

/// FATAL in answer to COMMIT is no answer to COMMIT: the same words come from a server that was
/// terminated before it read it and from one that crashed after it wrote the commit record.
#[tokio::test]
async fn a_backend_that_dies_at_commit_leaves_it_in_doubt() {
    let world = World::start().await;
    for kind in CORRECT {
        world.reset_tables().await;
        let subject = world.subject(kind).await;
        // Prepares the statements: a backend rests once after it prepared one, too, and shall be
        // terminated when it has executed the last.
        assert_eq!(run(&subject, &write_set(0)).await, OpEnd::ok(), "{kind}");
        until_books_are_balanced(&subject).await;
        let op = Op {
            hold_us: 1_000_000,
            ..write_set(1)
        };
        let (end, ()) = tokio::join!(run(&subject, &op), world.terminate_after(&op));
        assert_eq!(end.outcome, Outcome::Info, "{kind}: {end:?}");
        assert_eq!(
            end.error.unwrap().category,
            ErrorCategory::Ambiguous,
            "{kind}"
        );
        assert_eq!(world.op_log().await, BTreeMap::from([(0, 1)]), "{kind}");
        until_books_are_balanced(&subject).await;
        subject.close(Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn a_lost_server_is_told_apart_from_a_failed_op_and_comes_back() {
    let world = World::start().await;
    for kind in CORRECT {
        world.reset_tables().await;
        let config = SubjectConfig {
            pool_size: 1,
            max_overflow: 0,
            pool_timeout: Duration::from_millis(800),
            ..world.config()
        };
        let subject = build(kind, config).await.unwrap();
        world.relay.refuse();
        let broken = run(&subject, &write_set(1)).await;
        assert_eq!(broken.outcome, Outcome::Fail, "{kind}: {broken:?}");
        assert_eq!(
            broken.error.unwrap().category,
            ErrorCategory::Connection,
            "{kind}"
        );
        let refused = run(&subject, &write_set(2)).await;
        assert_eq!(refused.outcome, Outcome::Shed, "{kind}: {refused:?}");
        assert_eq!(
            refused.error.unwrap().category,
            ErrorCategory::Unavailable,
            "{kind}"
        );
        world.relay.heal();
        until_books_are_balanced(&subject).await;
        loop {
            // A pool may back off for a moment before it tries again.
            let end = run(&subject, &write_set(3)).await;
            if end == OpEnd::ok() {
                break;
            }
            assert_eq!(end.outcome, Outcome::Shed, "{kind}: {end:?}");
        }
        assert_eq!(world.op_log().await, BTreeMap::from([(3, 1)]), "{kind}");
        subject.close(Duration::from_secs(10)).await;
    }
}
