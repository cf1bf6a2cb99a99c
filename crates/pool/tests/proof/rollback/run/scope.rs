//! What runs in a transaction, nested scopes included.

use std::panic::resume_unwind;

use futures_util::future::LocalBoxFuture;
use poolproof_pool::{QueryError, SavepointError, Transaction};
use sqlx::AssertSqlSafe;

use super::super::model::Expected;
use super::super::program::{Ending, Reaction, Scope, Step};
use super::task::Task;
use super::{How, Planned, SHARED, Stop, Watch, drive, insert, is_aborted, poll_once};

impl Task<'_> {
    /// Runs the steps of a scope and ends it as it wants.
    pub(super) fn steps<'a>(
        &'a mut self,
        tx: &'a mut Transaction<'_>,
        scope: &'a Scope,
        watch: &'a Watch,
    ) -> LocalBoxFuture<'a, Result<(), Stop>> {
        Box::pin(async move {
            for step in &scope.steps {
                self.step(tx, step).await?;
            }
            match scope.ending {
                Ending::Well | Ending::DroppedLate => {
                    watch.well.set(true);
                    watch.drop_it.set(scope.ending == Ending::DroppedLate);
                    Ok(())
                }
                Ending::Error => Err(Stop),
                Ending::Panic => resume_unwind(Box::new(Planned)),
                Ending::Dropped => {
                    watch.drop_it.set(true);
                    std::future::pending().await
                }
            }
        })
    }

    async fn step(&mut self, tx: &mut Transaction<'_>, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Insert => self.insert(tx).await,
            Step::Update => {
                let key = self.last_key();
                let there = self.model.rows().contains_key(&key);
                self.add(tx, &key, if there { 10 } else { 0 }).await;
            }
            Step::Count => self.add(tx, SHARED, 1).await,
            Step::Owe => {
                let key = self.new_key();
                let sql = "insert into r3 values ($1, $2, 1, -1)";
                let owing = sqlx::query(sql).bind(self.program).bind(&key);
                let result = tx.execute(owing).await;
                self.judge_statement(&result);
                self.model.owe();
                self.model.write(&key, 1);
            }
            Step::Fail(kind, reaction) => return self.fail(tx, *kind, *reaction).await,
            Step::Abandon => {
                let key = self.new_key();
                match poll_once(tx.execute(insert(self.program, &key))).await {
                    Some(result) => {
                        self.judge_statement(&result);
                        self.model.write(&key, 1);
                    }
                    None => self.abandoned("abandoned statement"),
                }
            }
            Step::AbandonSavepoint => {
                let empty = tx.savepoint(async |_: &mut Transaction<'_>| Ok::<(), Stop>(()));
                match poll_once(empty).await {
                    Some(result) => self.judge_not_set(&result),
                    None => self.abandoned("abandoned savepoint"),
                }
            }
            Step::Control(kind) => self.control(tx, *kind).await,
            Step::Savepoint(scope, reaction) => return self.savepoint(tx, scope, *reaction).await,
        }
        Ok(())
    }

    pub(super) async fn insert(&mut self, tx: &mut Transaction<'_>) {
        let key = self.new_key();
        let sql = "insert into r3 (program, k, v) values ($1, $2, 1)";
        let result = tx
            .execute(sqlx::query(sql).bind(self.program).bind(&key))
            .await;
        self.judge_statement(&result);
        self.model.write(&key, 1);
    }

    async fn add(&mut self, tx: &mut Transaction<'_>, key: &str, add: i64) {
        let sql = "update r3 set v = v + $3 where program = $1 and k = $2";
        let update = sqlx::query(sql).bind(self.program).bind(key).bind(add);
        let result = tx.execute(update).await;
        self.judge_statement(&result);
        if add != 0 {
            self.model.write(key, add);
        }
    }

    async fn fail(
        &mut self,
        tx: &mut Transaction<'_>,
        kind: u8,
        reaction: Reaction,
    ) -> Result<(), Stop> {
        let expected = self.model.expected();
        let result = match kind % 4 {
            0 => tx.execute("select 1 / 0").await,
            1 => tx.execute("select * from r3_nowhere").await,
            2 => tx.execute(insert(self.program, SHARED)).await,
            _ => {
                tx.execute(sqlx::query("select 1 / $1::bigint").bind(0_i64))
                    .await
            }
        };
        if expected == Expected::Fine {
            let failed = matches!(&result, Err(QueryError::Statement(_)));
            let by_itself = !result.as_ref().is_err_and(is_aborted);
            self.judge("a statement that must fail", &result, failed && by_itself);
            self.model.fail();
        } else {
            self.judge_statement(&result);
        }
        match reaction {
            Reaction::Swallow => Ok(()),
            Reaction::PassOn => Err(Stop),
        }
    }

    async fn control(&mut self, tx: &mut Transaction<'_>, kind: u8) {
        let texts = [
            "COMMIT",
            "rollback",
            "BEGIN",
            "savepoint mine",
            "select 1; /* well */ end",
            "release savepoint poolproof_1",
        ];
        let text = texts[usize::from(kind) % texts.len()];
        let result = tx.execute(sqlx::raw_sql(AssertSqlSafe(text))).await;
        let right = match self.model.expected() {
            Expected::Doomed => matches!(result, Err(QueryError::RollbackOnly)),
            _ => matches!(result, Err(QueryError::TransactionControl { .. })),
        };
        self.tally.note("control refused");
        self.judge(text, &result, right);
    }

    async fn savepoint(
        &mut self,
        tx: &mut Transaction<'_>,
        scope: &Scope,
        reaction: Reaction,
    ) -> Result<(), Stop> {
        let expected = self.model.expected();
        if expected == Expected::Fine {
            self.model.enter();
        }
        let watch = Watch::default();
        let work =
            tx.savepoint(async |tx: &mut Transaction<'_>| self.steps(tx, scope, &watch).await);
        let how = drive(work, &watch).await;
        let kept = match how {
            How::Ended(outcome) if expected != Expected::Fine => {
                self.judge_not_set(&outcome);
                false
            }
            How::Ended(outcome) => {
                self.judge_savepoint(&outcome, watch.well.get());
                if outcome.is_ok() {
                    self.model.keep();
                } else {
                    self.model.undo();
                }
                outcome.is_ok()
            }
            How::Panicked => {
                self.tally.note("savepoint panicked");
                self.model.undo();
                if reaction == Reaction::PassOn {
                    resume_unwind(Box::new(Planned));
                }
                true
            }
            How::Dropped => {
                self.model.undo();
                if scope.ending == Ending::DroppedLate {
                    self.abandoned("savepoint dropped in release");
                } else {
                    self.tally.note("savepoint dropped");
                }
                true
            }
        };
        if kept || reaction == Reaction::Swallow {
            Ok(())
        } else {
            Err(Stop)
        }
    }

    /// Compares how a savepoint ended that was set with how it must.
    fn judge_savepoint(&mut self, outcome: &Result<(), SavepointError<Stop>>, well: bool) {
        let expected = self.model.expected();
        let (note, right) = match outcome {
            Ok(()) => ("savepoint kept", well && expected == Expected::Fine),
            Err(SavepointError::Work(Stop)) => ("savepoint undone", !well),
            Err(SavepointError::RolledBack) => {
                ("savepoint aborted", well && expected == Expected::Aborted)
            }
            Err(SavepointError::Control(QueryError::RollbackOnly)) => {
                ("savepoint doomed", well && expected == Expected::Doomed)
            }
            Err(_) => ("something else", false),
        };
        self.tally.note(note);
        self.judge("the savepoint", outcome, right);
    }

    /// Compares what setting a savepoint came to where it may not have been possible.
    fn judge_not_set(&mut self, outcome: &Result<(), SavepointError<Stop>>) {
        let right = match (self.model.expected(), outcome) {
            (Expected::Fine, Ok(())) => true,
            (Expected::Aborted, Err(SavepointError::Control(cause))) => is_aborted(cause),
            (Expected::Doomed, Err(SavepointError::Control(cause))) => {
                matches!(cause, QueryError::RollbackOnly)
            }
            _ => false,
        };
        self.tally.note("savepoint not set");
        self.judge("setting a savepoint", outcome, right);
    }

    fn judge_statement<T: std::fmt::Debug>(&mut self, result: &Result<T, QueryError>) {
        let right = match (self.model.expected(), result) {
            (Expected::Fine, Ok(_)) => true,
            (Expected::Aborted, Err(error)) => is_aborted(error),
            (Expected::Doomed, Err(error)) => matches!(error, QueryError::RollbackOnly),
            _ => false,
        };
        self.judge("a statement", result, right);
    }

    /// A statement was left in flight.
    fn abandoned(&mut self, what: &'static str) {
        self.tally.note(what);
        let doomed = self.model.expected() == Expected::Doomed;
        self.judge(what, &"pending, although nothing can run any more", !doomed);
        self.model.abandon();
    }
}
