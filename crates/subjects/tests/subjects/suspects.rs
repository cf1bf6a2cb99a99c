//! Who is asked whether its connection is clean: whoever gets one whose last use was not seen to
//! end in a commit or rollback, and nobody else but the sample.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use poolproof_load::{Leases, OpEnd, Subject, Trace};
use poolproof_oracle::{Ending, Op, Outcome};
use poolproof_subjects::{Bug, SubjectConfig, SubjectKind, build};
use tokio::time::Instant;

use crate::endings::{CORRECT, until_books_are_balanced, until_holding};
use crate::world::{PATIENCE, World, ending, holding, statement, transfer, write_set};

/// A pool of one connection, and the ops that use it one after the other. None is in the sample.
struct Uses {
    world: World,
    subject: Arc<dyn Subject>,
    leases: Arc<Leases>,
}

impl Uses {
    async fn of(kind: SubjectKind) -> Self {
        Self::with(kind, |config| config).await
    }

    async fn with(kind: SubjectKind, change: impl FnOnce(SubjectConfig) -> SubjectConfig) -> Self {
        let world = World::start().await;
        let config = SubjectConfig {
            pool_size: 1,
            max_overflow: 0,
            ..world.config()
        };
        let subject = build(kind, change(config)).await.unwrap();
        Self {
            world,
            subject,
            leases: Arc::default(),
        }
    }

    fn trace(&self, op: &Op) -> Trace {
        assert!(!op.check_clean, "op {} is in the sample", op.id);
        Trace::among(Arc::clone(&self.leases), op.id, Instant::now())
    }

    /// Runs an op that ends as it should.
    async fn run(&self, op: &Op) -> Trace {
        let trace = self.trace(op);
        assert_eq!(self.subject.execute(op, &trace).await, OpEnd::ok());
        until_books_are_balanced(&self.subject).await;
        trace
    }

    /// Runs an op that is cancelled within its transaction.
    async fn run_cancelled(&self, op: &Op) {
        let trace = self.trace(op);
        let mut running = self.subject.execute(op, &trace);
        until_holding(&self.world, op, &mut running).await;
        drop(running);
        until_books_are_balanced(&self.subject).await;
    }

    async fn run_panicking(&self, op: &Op) {
        let trace = self.trace(op);
        let ended = AssertUnwindSafe(self.subject.execute(op, &trace));
        let ended = ended.catch_unwind().await;
        assert!(ended.is_err(), "{ended:?}");
        until_books_are_balanced(&self.subject).await;
    }

    async fn run_failing(&self, op: &Op) {
        let trace = self.trace(op);
        let end = self.subject.execute(op, &trace).await;
        assert_eq!(end.outcome, Outcome::Fail, "{end:?}");
        until_books_are_balanced(&self.subject).await;
    }

    /// Runs a good op after `bad`, and another one. Returns whether the connection was reused.
    async fn follow(&self, bad: u64) -> bool {
        let next = self.run(&write_set(bad + 1)).await;
        let pids = self.world.pids().await;
        assert!(pids.contains(&next.backend_pid().unwrap()), "{pids:?}");
        let is_reused = next.previous_op().is_some();
        assert!([None, Some(bad)].contains(&next.previous_op()));
        let probe = next.take_clean_probe();
        assert_eq!(probe.is_some(), is_reused, "after op {bad}: {probe:?}");
        let clean = probe.is_none_or(|text| text.contains("\"in_transaction\" : false"));
        assert!(clean, "after op {bad}");
        let after = self.run(&write_set(bad + 2)).await;
        assert_eq!(after.previous_op(), Some(bad + 1));
        assert_eq!(after.take_clean_probe(), None, "after op {}", bad + 1);
        is_reused
    }
}

#[tokio::test]
async fn the_next_borrower_probes_after_every_use_that_was_not_seen_to_end() {
    for kind in CORRECT {
        let uses = Uses::of(kind).await;
        // The naive pool closes what it is not sure of.
        let is_kept = kind != SubjectKind::Naive;
        uses.run_panicking(&ending(transfer(10), Ending::Panic))
            .await;
        assert_eq!(uses.follow(10).await, is_kept, "{kind}: panicked");
        let mut failing = write_set(20);
        let wrong = "insert into no_such_table (op) values ($1)";
        failing.statements.push(statement(wrong, &[1]));
        uses.run_failing(&failing).await;
        // The naive pool saw the ROLLBACK here.
        assert!(uses.follow(20).await, "{kind}: failed");
        let timed_out = Op {
            deadline_us: 200_000,
            ..holding(transfer(30))
        };
        uses.run_failing(&timed_out).await;
        // Whether it is kept depends on where the deadline met it.
        uses.follow(30).await;
        // And so with a cancellation, which can come before the answer that the server sent.
        let mut ids = (40..).step_by(10);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let id = ids.next().unwrap();
            uses.run_cancelled(&holding(transfer(id))).await;
            if uses.follow(id).await || !is_kept {
                break;
            }
            assert!(Instant::now() < deadline, "{kind}: never kept");
        }
    }
}

/// Stock sqlx lends a connection on within the transaction of a BEGIN that was cancelled
/// (transact-rs/sqlx#4393): the next borrower finds that with certainty.
#[tokio::test]
async fn a_cancelled_begin_of_stock_sqlx_is_found_by_the_next_borrower() {
    let uses = Uses::of(SubjectKind::Sqlx).await;
    uses.world.relay.withhold_next_begin_answer();
    let cancelled = write_set(1);
    let trace = uses.trace(&cancelled);
    tokio::select! {
        end = uses.subject.execute(&cancelled, &trace) => panic!("{end:?}"),
        () = uses.world.until_done_in_transaction("BEGIN") => {}
    }
    uses.world.relay.heal();
    until_books_are_balanced(&uses.subject).await;
    let next = uses.run(&write_set(2)).await;
    let probe = next.take_clean_probe().unwrap();
    assert!(probe.contains("\"in_transaction\" : true"), "{probe}");
    assert_eq!(next.previous_op(), Some(1));
    assert_eq!(next.backend_pid(), trace.backend_pid());
    assert_eq!(uses.world.pids().await, [next.backend_pid().unwrap()]);
}

#[tokio::test]
async fn a_checkout_after_a_seen_end_asks_the_server_nothing() {
    for kind in CORRECT {
        let uses = Uses::of(kind).await;
        uses.run(&write_set(1)).await;
        let asked = uses.world.relay.asked();
        assert_ne!(asked, 0, "{kind}: the pid was asked for once");
        for id in 2..10 {
            let how = [Ending::Commit, Ending::Rollback][usize::from(id % 2 == 0)];
            let trace = uses.run(&ending(write_set(id), how)).await;
            assert_eq!(trace.previous_op(), Some(id - 1), "{kind}");
            assert_eq!(trace.take_clean_probe(), None, "{kind}");
        }
        assert_eq!(uses.world.relay.asked(), asked, "{kind}");
    }
}

/// Without its cache of statements sqlx cannot tell its connections apart.
#[tokio::test]
async fn connections_without_a_name_are_all_probed_once_one_ended_badly() {
    let uses = Uses::with(SubjectKind::Sqlx, |config| SubjectConfig {
        options: config.options.statement_cache_capacity(0),
        ..config
    })
    .await;
    for id in 1..4 {
        let trace = uses.run(&write_set(id)).await;
        assert_eq!((trace.backend_pid(), trace.previous_op()), (None, None));
        assert_eq!(trace.take_clean_probe(), None);
    }
    uses.run_cancelled(&holding(transfer(4))).await;
    for id in 5..10 {
        let trace = uses.run(&write_set(id)).await;
        assert_ne!(trace.take_clean_probe(), None, "op {id}");
    }
}

/// A pool that says "rolled back" and did not makes no suspect: that is what the sample is for.
#[tokio::test]
async fn a_pool_is_believed_outside_the_sample_when_it_says_that_an_op_ended() {
    let uses = Uses::of(SubjectKind::Planted(Bug::Dirty)).await;
    uses.run(&ending(write_set(1), Ending::Rollback)).await;
    let next = uses.run(&write_set(2)).await;
    assert_eq!(next.previous_op(), Some(1));
    assert_eq!(next.take_clean_probe(), None);
    uses.subject.close(Duration::from_secs(10)).await;
}
