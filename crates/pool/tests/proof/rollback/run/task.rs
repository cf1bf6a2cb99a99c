//! One task of a program: sessions, transactions, and single statements.

use std::fmt::Debug;
use std::time::Duration;

use poolproof_pool::{PgConnector, Pool, QueryError, Session, Transaction, TransactionError};
use poolproof_testbed::Cluster;
use sqlx::{ConnectOptions, Executor, PgConnection};

use super::super::model::{Expected, Model, Rows};
use super::super::program::{Act, Ending, Scope};
use super::{Complaint, How, Stop, Tally, Watch, drive, insert, poll_once};

pub(super) struct Task<'p> {
    cluster: &'p Cluster,
    pool: &'p Pool<PgConnector>,
    pub(super) tally: &'p Tally,
    pub(super) program: i64,
    index: usize,
    pub(super) model: Model,
    /// None between two sessions.
    session: Option<Session>,
    keys: u32,
    /// The first thing that was not as the model says.
    complaint: Option<Complaint>,
}

impl<'p> Task<'p> {
    pub(super) fn new(
        cluster: &'p Cluster,
        pool: &'p Pool<PgConnector>,
        tally: &'p Tally,
        (program, index): (i64, usize),
    ) -> Self {
        Self {
            cluster,
            pool,
            tally,
            program,
            index,
            model: Model::default(),
            session: None,
            keys: 0,
            complaint: None,
        }
    }

    /// Returns the rows that must be stored.
    pub(super) async fn run(mut self, acts: &[Act]) -> Result<Rows, Complaint> {
        for act in acts {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => self
                    .pool
                    .session()
                    .await
                    .map_err(|error| error.to_string())?,
            };
            match act {
                Act::Renew => drop(session),
                Act::Insert => {
                    let key = self.new_key();
                    let result = session.execute(insert(self.program, &key)).await;
                    self.judge("a statement of its own", &result, result.is_ok());
                    self.model.write(&key, 1);
                    self.session = Some(session);
                }
                Act::AbandonInsert => self.abandon_insert(session).await?,
                Act::AbandonBegin => self.abandon_begin(session).await?,
                Act::Transaction(scope) => self.transaction(session, scope).await?,
            }
            if let Some(complaint) = self.complaint.take() {
                return Err(format!("task {}: {complaint}", self.index));
            }
        }
        Ok(self.model.rows().clone())
    }

    /// A key that nothing else has.
    pub(super) fn new_key(&mut self) -> String {
        self.keys += 1;
        self.last_key()
    }

    pub(super) fn last_key(&self) -> String {
        format!("{}-{}", self.index, self.keys)
    }

    /// Remembers what came of a step, if it is not what was expected.
    pub(super) fn judge(&mut self, what: &str, came: &dyn Debug, right: bool) {
        if !right && self.complaint.is_none() {
            self.complaint = Some(format!(
                "{what} came to {came:?}; the model: {:?}",
                self.model
            ));
        }
    }

    async fn abandon_insert(&mut self, mut session: Session) -> Result<(), Complaint> {
        let key = self.new_key();
        if let Some(result) = poll_once(session.execute(insert(self.program, &key))).await {
            self.judge("a statement of its own", &result, result.is_ok());
            self.model.write(&key, 1);
            self.session = Some(session);
            return Ok(());
        }
        self.tally.note("abandoned insert");
        if self.outlived(session).await?.contains(&key) {
            self.model.write(&key, 1);
        }
        Ok(())
    }

    async fn abandon_begin(&mut self, mut session: Session) -> Result<(), Complaint> {
        let empty = session.transaction(async |_: &mut Transaction<'_>| Ok::<(), Stop>(()));
        if poll_once(empty).await.is_some() {
            self.session = Some(session);
            return Ok(());
        }
        self.tally.note("abandoned begin");
        self.outlived(session).await.map(drop)
    }

    async fn transaction(&mut self, mut session: Session, scope: &Scope) -> Result<(), Complaint> {
        self.model.enter();
        let watch = Watch::default();
        let work = session.transaction(async |tx: &mut Transaction<'_>| {
            if scope.ending == Ending::DroppedLate {
                // Tells afterwards whether it was committed.
                self.insert(tx).await;
            }
            self.steps(tx, scope, &watch).await
        });
        let how = drive(work, &watch).await;
        match how {
            How::Ended(outcome) => {
                self.judge_end(&outcome, watch.well.get());
                let doomed = self.model.expected() == Expected::Doomed;
                self.end(outcome.is_ok());
                if doomed {
                    return self.outlived(session).await.map(drop);
                }
                self.session = Some(session);
                Ok(())
            }
            How::Panicked | How::Dropped if session.in_doubt().is_none() => {
                let dropped = matches!(how, How::Dropped);
                self.tally.note(if dropped {
                    "transaction dropped"
                } else {
                    "transaction panicked"
                });
                let in_flight = dropped && scope.ending == Ending::DroppedLate
                    || self.model.expected() == Expected::Doomed;
                self.end(false);
                self.refuses(&mut session).await;
                if in_flight {
                    self.outlived(session).await?;
                }
                Ok(())
            }
            How::Panicked | How::Dropped => {
                self.tally.note("commit in doubt");
                let marker = self
                    .model
                    .rows()
                    .keys()
                    .find(|key| self.is_new(key))
                    .cloned();
                let stored = self.outlived(session).await?;
                let committed = marker.is_some_and(|marker| stored.contains(&marker));
                if committed && self.model.expected_of_commit() != Expected::Fine {
                    return Err(format!("what cannot be committed was: {:?}", self.model));
                }
                self.end(committed);
                Ok(())
            }
        }
    }

    /// Compares how a transaction ended with how it must.
    fn judge_end(&mut self, outcome: &Result<(), TransactionError<Stop>>, well: bool) {
        let expected = self.model.expected_of_commit();
        let (note, right) = match outcome {
            Ok(()) => ("committed", well && expected == Expected::Fine),
            Err(TransactionError::Work(Stop)) => ("rolled back", !well),
            Err(TransactionError::CommitRolledBack) => {
                ("commit aborted", well && expected == Expected::Aborted)
            }
            Err(TransactionError::RollbackOnly) => {
                ("commit doomed", well && expected == Expected::Doomed)
            }
            Err(TransactionError::CommitRefused(_)) => {
                ("commit refused", well && expected == Expected::Refused)
            }
            Err(_) => ("something else", false),
        };
        self.tally.note(note);
        self.judge("the transaction", outcome, right);
    }

    fn end(&mut self, committed: bool) {
        if committed {
            self.model.keep();
        } else {
            self.model.undo();
        }
    }

    /// Whether the row is of this transaction.
    fn is_new(&self, key: &str) -> bool {
        key != super::SHARED && !self.model.committed().contains_key(key)
    }

    async fn refuses(&mut self, session: &mut Session) {
        let refused = session.execute("select 1").await;
        let right = matches!(refused, Err(QueryError::Poisoned));
        self.judge("a statement on a poisoned session", &refused, right);
    }

    /// Ends a session with a statement in flight, waits until its backend is gone, and returns the
    /// program's stored keys.
    async fn outlived(&mut self, mut session: Session) -> Result<Vec<String>, Complaint> {
        self.refuses(&mut session).await;
        let pid = session.backend().pid;
        drop(session);
        let mut admin = self.cluster.options().connect().await.unwrap();
        let mut pause = tokio::time::interval(Duration::from_millis(2));
        while is_there(&mut admin, pid).await {
            pause.tick().await;
        }
        Ok(super::stored(&mut admin, self.program)
            .await
            .into_keys()
            .collect())
    }
}

async fn is_there(admin: &mut PgConnection, pid: i32) -> bool {
    let query = sqlx::query("select 1 from pg_stat_activity where pid = $1").bind(pid);
    admin.fetch_optional(query).await.unwrap().is_some()
}
