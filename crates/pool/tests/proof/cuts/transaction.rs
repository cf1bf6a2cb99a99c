//! Interruptions of a transaction: begin, statements, savepoints, commit, rollback.

use poolproof_pool::{Config, QueryError, SavepointError, Session, Transaction, TransactionError};
use sqlx::AssertSqlSafe;

use super::rig::{Reported, Rig, insert};
use super::{Stop, Then, cuts, sweep};
use crate::relay::Relay;

/// The part of the transaction whose messages are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Begin,
    /// Through the simple protocol.
    Execute,
    /// Through the extended protocol.
    ExecutePrepared,
    NestedBegin,
    NestedExecute,
    Release,
    RollbackTo,
    Commit,
    Rollback,
}

/// Why the work stops.
#[derive(Debug)]
enum WorkError {
    Query(QueryError),
    Savepoint(SavepointError<Box<WorkError>>),
    Planned,
}

impl From<QueryError> for WorkError {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

type Outcome = Result<(), TransactionError<WorkError>>;

/// A transaction with one part that is to be interrupted.
#[derive(Clone, Copy)]
struct Work<'r> {
    relay: &'r Relay,
    table: &'r str,
    run: u32,
    phase: Phase,
    stop: Stop,
}

impl Work<'_> {
    /// `phase` begins.
    fn enter(&self, phase: Phase) {
        if phase == self.phase {
            self.relay.arm(self.stop.message, self.stop.cut);
        }
    }

    /// `phase` is over.
    fn leave(&self, phase: Phase) {
        if phase == self.phase {
            self.relay.disarm();
        }
    }

    async fn run(&self, session: &mut Session) -> Outcome {
        self.enter(Phase::Begin);
        let outcome = session
            .transaction(async |tx: &mut Transaction<'_>| {
                self.leave(Phase::Begin);
                self.statements(tx).await?;
                self.nested(tx).await?;
                self.enter(Phase::Commit);
                self.enter(Phase::Rollback);
                if self.phase == Phase::Rollback {
                    Err(WorkError::Planned)
                } else {
                    Ok(())
                }
            })
            .await;
        self.leave(self.phase);
        outcome
    }

    async fn statements(&self, tx: &mut Transaction<'_>) -> Result<(), WorkError> {
        self.enter(Phase::Execute);
        let simple = tx.execute(insert(self.table, self.run, "a"));
        self.interruptible(Phase::Execute, simple).await?;
        let sql = format!("insert into {} values ($1, 'b')", self.table);
        let prepared = sqlx::query(AssertSqlSafe(sql))
            .bind(i64::from(self.run))
            .persistent(false);
        self.enter(Phase::ExecutePrepared);
        let prepared = tx.execute(prepared);
        self.interruptible(Phase::ExecutePrepared, prepared).await?;
        Ok(())
    }

    async fn nested(&self, tx: &mut Transaction<'_>) -> Result<(), WorkError> {
        self.enter(Phase::NestedBegin);
        let nested = tx.savepoint(async |tx: &mut Transaction<'_>| {
            self.leave(Phase::NestedBegin);
            self.enter(Phase::NestedExecute);
            let statement = tx.execute(insert(self.table, self.run, "c"));
            self.interruptible(Phase::NestedExecute, statement).await?;
            self.enter(Phase::Release);
            self.enter(Phase::RollbackTo);
            if self.phase == Phase::RollbackTo {
                Err(Box::new(WorkError::Planned))
            } else {
                Ok(())
            }
        });
        let ended = self.interruptible_savepoint(nested).await;
        self.leave(Phase::Release);
        self.leave(Phase::RollbackTo);
        match ended {
            Err(SavepointError::Work(planned)) if matches!(*planned, WorkError::Planned) => Ok(()),
            other => other.map_err(WorkError::Savepoint),
        }
    }

    /// Drops the statement where the traffic stops, when that is what is asked for, and goes on as if
    /// nothing had happened.
    async fn interruptible<T>(
        &self,
        phase: Phase,
        statement: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<(), QueryError> {
        let interrupted = self.stop.then == Then::DropStatement && phase == self.phase;
        let outcome = tokio::select! {
            biased;
            () = self.relay.stopped(), if interrupted => {
                self.relay.open();
                Ok(())
            }
            outcome = statement => outcome.map(drop),
        };
        self.leave(phase);
        outcome
    }

    async fn interruptible_savepoint(
        &self,
        nested: impl Future<Output = Result<(), SavepointError<Box<WorkError>>>>,
    ) -> Result<(), SavepointError<Box<WorkError>>> {
        let here = [Phase::NestedBegin, Phase::Release, Phase::RollbackTo].contains(&self.phase);
        tokio::select! {
            biased;
            () = self.relay.stopped(), if here && self.stop.then == Then::DropStatement => {
                self.relay.open();
                Ok(())
            }
            outcome = nested => outcome,
        }
    }
}

impl From<QueryError> for Box<WorkError> {
    fn from(error: QueryError) -> Self {
        Self::new(WorkError::Query(error))
    }
}

/// Runs the work once. Returns whether the traffic stopped in it.
async fn once(rig: &mut Rig, phase: Phase, stop: Stop) -> bool {
    let mut session = rig.pool.session().await.unwrap();
    let work = Work {
        relay: &rig.relay,
        table: rig.name,
        run: rig.run,
        phase,
        stop,
    };
    let (stopped, outcome) = interrupt(&work, &mut session).await;
    let all = if phase == Phase::RollbackTo {
        vec!["a", "b"]
    } else {
        vec!["a", "b", "c"]
    };
    let unknown = session.in_doubt().is_some();
    let reported = match &outcome {
        Some(Ok(())) => Reported::Rows(all),
        Some(Err(TransactionError::CommitUnknown { .. })) => {
            assert!(unknown && phase == Phase::Commit, "{stop:?}: {outcome:?}");
            Reported::Unknown(all)
        }
        Some(Err(_)) => Reported::Rows(vec![]),
        None if unknown => Reported::Unknown(all),
        None => Reported::Rows(vec![]),
    };
    judge(phase, stop, stopped, outcome.as_ref());
    drop(session);
    rig.aftermath(stop, &reported).await;
    stopped
}

/// Runs the work until the traffic stops, and then interrupts it, or until it ends.
async fn interrupt(work: &Work<'_>, session: &mut Session) -> (bool, Option<Outcome>) {
    let mut running = Box::pin(work.run(session));
    if work.stop.then == Then::DropStatement {
        let outcome = running.await;
        let stopped = matches!(
            outcome,
            Err(TransactionError::RollbackOnly | TransactionError::Work(_))
        ) && !planned(&outcome);
        return (stopped, Some(outcome));
    }
    let outcome = tokio::select! {
        biased;
        () = work.relay.stopped() => None,
        outcome = &mut running => Some(outcome),
    };
    if outcome.is_some() {
        return (false, outcome);
    }
    if work.stop.then == Then::Drop {
        drop(running);
        work.relay.open();
        return (true, None);
    }
    work.relay.break_stopped().await;
    (true, Some(running.await))
}

fn planned(outcome: &Outcome) -> bool {
    matches!(outcome, Err(TransactionError::Work(WorkError::Planned)))
}

/// Checks that the outcome is one that the interruption allows.
fn judge(phase: Phase, stop: Stop, stopped: bool, outcome: Option<&Outcome>) {
    let Some(outcome) = outcome else { return };
    let fine = match phase {
        Phase::Rollback => planned(outcome),
        _ => outcome.is_ok(),
    };
    if !stopped {
        assert!(fine, "{phase:?} {stop:?}: uninterrupted, and {outcome:?}");
        return;
    }
    match stop.then {
        Then::Drop => {}
        Then::DropStatement => {
            let refused = match outcome {
                // The next statement was refused, or the commit.
                Err(TransactionError::Work(
                    WorkError::Query(QueryError::RollbackOnly)
                    | WorkError::Savepoint(SavepointError::Control(QueryError::RollbackOnly)),
                )) => true,
                Err(TransactionError::Work(WorkError::Savepoint(SavepointError::Work(error)))) => {
                    matches!(**error, WorkError::Query(QueryError::RollbackOnly))
                }
                Err(TransactionError::RollbackOnly) => true,
                _ => false,
            };
            assert!(refused, "{phase:?} {stop:?}: {outcome:?}");
        }
        Then::Break => match (phase, outcome) {
            (Phase::Begin, Err(TransactionError::Begin(QueryError::Connection(_))))
            | (Phase::Commit, Err(TransactionError::CommitUnknown { .. }))
            | (Phase::Rollback, Err(TransactionError::Rollback { .. }))
            | (
                Phase::Execute
                | Phase::ExecutePrepared
                | Phase::NestedBegin
                | Phase::NestedExecute
                | Phase::Release
                | Phase::RollbackTo,
                Err(TransactionError::Work(_)),
            ) => {}
            _ => panic!("{phase:?} {stop:?}: {outcome:?}"),
        },
    }
}

async fn interrupt_everywhere(name: &'static str, phase: Phase, at_least: u32) {
    let config = Config {
        pool_size: 2,
        max_overflow: 0,
        ..Config::default()
    };
    let mut rig = Rig::new(name, config).await;
    let endings = [Phase::Begin, Phase::Commit, Phase::Rollback];
    for then in [Then::Drop, Then::DropStatement, Then::Break] {
        if then == Then::DropStatement && endings.contains(&phase) {
            continue;
        }
        for &cut in cuts(then) {
            let places = sweep(then, cut, async |stop| once(&mut rig, phase, stop).await).await;
            assert!(
                places >= at_least,
                "{then:?} {cut:?}: only {places} messages"
            );
        }
    }
    rig.renew().await;
}

/// F1.
#[tokio::test]
async fn f1_begin_may_end_at_any_message() {
    interrupt_everywhere("cut_begin", Phase::Begin, 3).await;
}

#[tokio::test]
async fn a_simple_statement_may_end_at_any_message() {
    interrupt_everywhere("cut_execute", Phase::Execute, 3).await;
}

#[tokio::test]
async fn a_prepared_statement_may_end_at_any_message() {
    interrupt_everywhere("cut_prepared", Phase::ExecutePrepared, 10).await;
}

/// F2.
#[tokio::test]
async fn f2_a_nested_begin_may_end_at_any_message() {
    interrupt_everywhere("cut_nested", Phase::NestedBegin, 3).await;
}

#[tokio::test]
async fn a_nested_statement_may_end_at_any_message() {
    interrupt_everywhere("cut_nested_execute", Phase::NestedExecute, 3).await;
}

#[tokio::test]
async fn the_release_of_a_savepoint_may_end_at_any_message() {
    interrupt_everywhere("cut_release", Phase::Release, 3).await;
}

#[tokio::test]
async fn the_rollback_to_a_savepoint_may_end_at_any_message() {
    interrupt_everywhere("cut_rollback_to", Phase::RollbackTo, 4).await;
}

/// F3, F27: what COMMIT came to is either known or said to be in doubt.
#[tokio::test]
async fn f3_f27_commit_may_end_at_any_message() {
    interrupt_everywhere("cut_commit", Phase::Commit, 4).await;
}

/// F27.
#[tokio::test]
async fn f27_rollback_may_end_at_any_message() {
    interrupt_everywhere("cut_rollback", Phase::Rollback, 3).await;
}
