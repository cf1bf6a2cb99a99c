//! How a session's transactions begin and end.

use std::num::NonZeroU64;

use sqlx::postgres::PgRow;
use sqlx::{Row, raw_sql};

use super::ABORTED;
use super::conn::{Backend, IDENTIFY_TRANSACTION, Pinned, Place, Target};
use super::deadline::Deadline;
use super::error::{QueryError, TransactionError, sqlstate};
use super::listing::Reaped;
use super::options::{PLAIN_BEGIN, TransactionOptions, XID};
use super::resolve::InDoubt;
use super::session::{Scope, Session};
use super::track::Errand;
use super::transaction::savepoint;
use crate::critical::{Critical, UnknownCommit};
use crate::error::ErrorKind;
use crate::pool::Fate;

/// COMMIT that tells the truth: in an aborted transaction the SAVEPOINT fails with 25P02, outside any
/// with 25P01, and the server then skips the COMMIT, which by itself would answer with a mere tag.
const COMMIT: &str = "SAVEPOINT poolproof_commit; COMMIT";

impl Session {
    pub(super) async fn begin(&mut self, options: &TransactionOptions) -> Result<(), QueryError> {
        self.require(Scope::Outside)?;
        options.timeouts.validate().map_err(QueryError::Options)?;
        if self.raw_used {
            self.require_nothing_open().await?;
        }
        let pinned = self.lease.get().pinned();
        let sql = match pinned {
            Pinned::Connection => options.begin(None),
            Pinned::Declared => options.begin(Some(IDENTIFY_TRANSACTION)),
            Pinned::Transaction => {
                let timeouts = options.timeouts.or(self.lease.get().config().timeouts);
                let options = TransactionOptions {
                    timeouts,
                    ..*options
                };
                options.begin(Some(IDENTIFY_TRANSACTION))
            }
        };
        let is_plain = sql.as_str() == PLAIN_BEGIN;
        self.lease.tracked().set_place(Place::Inside);
        match self.control_rows(Errand::Begin, raw_sql(sql)).await {
            Ok(mut rows) => {
                self.scope = Scope::Inside(0);
                self.lease.condemn(Fate::Reset);
                if rows.is_empty() {
                    // A notification may have come in their place; within the transaction none does.
                    if pinned != Pinned::Connection {
                        rows = self.ask(IDENTIFY_TRANSACTION).await?;
                    }
                    if options.with_xid {
                        rows.extend(self.ask(XID).await?);
                    }
                }
                let mut rows = rows.iter();
                if pinned != Pinned::Connection {
                    self.note_serving(pinned, rows.next())?;
                }
                self.xid = rows.next().map(read_xid).transpose()?;
                Ok(())
            }
            Err(error) => {
                if matches!(error, QueryError::Statement(_)) && self.is_usable() {
                    // BEGIN itself may have worked, and what came after it failed.
                    self.leave_if_aborted(!is_plain).await;
                }
                Err(error)
            }
        }
    }

    /// Takes note of what serves the transaction that began, which only BEGIN's own answer can tell behind a
    /// pooler.
    fn note_serving(&mut self, pinned: Pinned, told: Option<&PgRow>) -> Result<(), QueryError> {
        let target = told.map_or(Err(sqlx::Error::RowNotFound), read_target);
        let target = target.map_err(QueryError::Statement)?;
        let conn = self.lease.tracked();
        if pinned == Pinned::Transaction {
            conn.serve(target);
            return Ok(());
        }
        let (then, now) = (conn.backend(), target.backend);
        if now.pid == then.pid {
            return Ok(());
        }
        // Its process is somebody else's by now: the connection is closed, and nothing is ended.
        conn.unpin();
        self.lease.condemn(Fate::Drop);
        Err(QueryError::ProcessMoved {
            then: then.pid,
            now: now.pid,
        })
    }

    /// Asks within the transaction that just began.
    async fn ask(&mut self, sql: &'static str) -> Result<Vec<PgRow>, QueryError> {
        self.control_rows(Errand::Control, raw_sql(sql)).await
    }

    /// Refuses to begin within a transaction that was left open on the raw connection.
    async fn require_nothing_open(&mut self) -> Result<(), QueryError> {
        let before = self.depart(Errand::Control)?;
        let inside = self.lease.tracked().is_inside().await;
        if self.arrive(before, inside)? {
            return Err(QueryError::OpenTransaction);
        }
        self.raw_used = false;
        Ok(())
    }

    pub(super) async fn rollback(&mut self) -> Result<(), QueryError> {
        self.lease.tracked().set_place(Place::RollingBack);
        self.control(Errand::Rollback, raw_sql("ROLLBACK")).await?;
        self.ended();
        Ok(())
    }

    /// Records that the server was seen to leave the transaction.
    fn ended(&mut self) {
        self.scope = Scope::Outside;
        self.xid = None;
        self.doomed = None;
        self.lease.set_fate(self.base);
        self.lease.tracked().set_place(Place::Outside);
        self.lease.get().track().left_transaction();
    }

    pub(super) async fn commit(&mut self) -> Result<(), CommitError> {
        if let Some(sqlstate) = self.doomed.take() {
            if self.is_usable() && self.rollback().await.is_err() {
                // The connection is closed then, which rolls back as well.
                self.lease.condemn(Fate::Abandon);
            }
            return Err(CommitError::SerializationFailed { sqlstate });
        }
        match self.leave_savepoints_above(0).await {
            Ok(()) => {}
            Err(QueryError::Reaped(reaped)) => return Err(CommitError::Reaped(reaped)),
            Err(_) => return Err(CommitError::RollbackOnly),
        }
        let in_doubt = InDoubt {
            backend: self.backend(),
            xid: self.xid,
            server: self.lease.get().server(),
            is_pooled: self.lease.get().pinned() != Pinned::Connection,
        };
        self.in_doubt = Some(in_doubt);
        self.lease.tracked().set_place(Place::Committing);
        let refused = match self.control(Errand::Commit, raw_sql(COMMIT)).await {
            Ok(()) => None,
            Err(QueryError::Statement(cause)) if self.is_usable() => Some(cause),
            Err(QueryError::Statement(cause) | QueryError::Connection(cause)) => {
                return Err(CommitError::Unknown { in_doubt, cause });
            }
            Err(QueryError::Reaped(reaped)) => {
                // It was refused before it left.
                self.in_doubt = None;
                return Err(CommitError::Reaped(reaped));
            }
            Err(_) => panic!("bug: COMMIT failed without an error of sqlx's"),
        };
        self.in_doubt = None;
        self.lease.tracked().set_place(Place::Inside);
        match refused {
            None => {
                self.ended();
                Ok(())
            }
            Some(cause) => Err(self.leave_refused_commit(cause).await),
        }
    }

    /// Finds out where the server is after it refused to commit, and leaves the transaction.
    ///
    /// A failure in here closes the connection, which rolls back as well, and changes nothing about
    /// the commit: it did not happen.
    async fn leave_refused_commit(&mut self, cause: sqlx::Error) -> CommitError {
        let code = sqlstate(&cause);
        if code.as_deref() == Some("25P01") {
            self.ended();
            return CommitError::Lost(cause);
        }
        if code.as_deref() == Some(ABORTED) {
            self.leave_aborted().await;
            return CommitError::RolledBack;
        }
        // A COMMIT that failed has ended the transaction; a SAVEPOINT that failed otherwise has not.
        self.leave_if_aborted(true).await;
        CommitError::Refused(cause)
    }

    /// Leaves an aborted transaction, if there may be one and there is: ROLLBACK would always be right,
    /// but the server warns when there is nothing to roll back.
    async fn leave_if_aborted(&mut self, may_be: bool) {
        let probed = match may_be {
            true => self.control(Errand::Control, raw_sql("SELECT 1")).await,
            false => Ok(()),
        };
        match probed {
            _ if !self.is_usable() => {}
            Ok(()) => self.ended(),
            // It failed because the transaction had, or the transaction has failed with it.
            Err(_) => self.leave_aborted().await,
        }
    }

    async fn leave_aborted(&mut self) {
        if self.rollback().await.is_err() {
            // Whatever it was: a connection that is closed has rolled back.
            self.lease.condemn(Fate::Abandon);
        }
    }

    /// Rolls back the savepoints above `depth`: the futures that had set them were dropped.
    pub(super) async fn leave_savepoints_above(&mut self, depth: u32) -> Result<(), QueryError> {
        if let Some(reaped) = self.reaped {
            return Err(QueryError::Reaped(reaped));
        }
        if !self.is_usable() {
            return Err(QueryError::RollbackOnly);
        }
        if let Some(sqlstate) = &self.doomed {
            let sqlstate = sqlstate.clone();
            return Err(QueryError::SerializationFailed { sqlstate });
        }
        if self.scope > Scope::Inside(depth) {
            self.control(Errand::Control, savepoint::rollback_to(depth + 1))
                .await?;
            self.scope = Scope::Inside(depth);
        }
        Ok(())
    }

    /// Ends a transaction whose work is done.
    pub(super) async fn commit_by<E>(
        &mut self,
        deadline: &Deadline,
    ) -> Result<(), TransactionError<E>> {
        // No COMMIT leaves after the deadline.
        deadline.check().map_err(|passed| self.give_up(passed))?;
        match deadline.bound(self.commit()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.count(&error);
                Err(error.into())
            }
            Err(passed) => Err(match self.in_doubt {
                Some(in_doubt) => {
                    self.tell_doubt(in_doubt);
                    let cause = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                    TransactionError::CommitUnknown { in_doubt, cause }
                }
                None => self.give_up(passed),
            }),
        }
    }

    /// Counts what no statement has told yet.
    fn count(&mut self, error: &CommitError) {
        let kind = match error {
            CommitError::Refused(_) | CommitError::SerializationFailed { .. } => return,
            CommitError::RolledBack | CommitError::Lost(_) | CommitError::RollbackOnly => {
                ErrorKind::RolledBack
            }
            CommitError::Reaped(_) => ErrorKind::Canceled,
            CommitError::Unknown { in_doubt, .. } => return self.tell_doubt(*in_doubt),
        };
        self.lease.meters().error(kind);
    }

    /// Counts a commit whose outcome is unknown, and tells of it, once.
    pub(super) fn tell_doubt(&mut self, in_doubt: InDoubt) {
        if !std::mem::replace(&mut self.doubt_told, true) {
            self.lease.meters().error(ErrorKind::Ambiguous);
            let commit = UnknownCommit::new(in_doubt.backend.pid, in_doubt);
            self.lease.hooks().tell(&Critical::CommitUnknown(commit));
        }
    }
}

impl UnknownCommit {
    /// Returns what is known of it, by which [`InDoubt::resolve`] finds out how it ended.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "only sessions tell of commits")]
    pub fn in_doubt(&self) -> InDoubt {
        *self
            .details()
            .expect("bug: a commit in doubt that is no session's")
    }
}

fn read_target(row: &PgRow) -> sqlx::Result<Target> {
    Ok(Target {
        backend: Backend::read(row)?,
        began: Some(row.try_get(3)?),
    })
}

fn read_xid(row: &PgRow) -> Result<NonZeroU64, QueryError> {
    let text: String = row.try_get(0).map_err(QueryError::Statement)?;
    text.parse()
        .map_err(|cause| QueryError::Statement(sqlx::Error::Decode(Box::new(cause))))
}

/// Why a commit did not happen, or may not have.
pub(super) enum CommitError {
    RolledBack,
    Lost(sqlx::Error),
    RollbackOnly,
    SerializationFailed {
        sqlstate: String,
    },
    Reaped(Reaped),
    Refused(sqlx::Error),
    Unknown {
        in_doubt: InDoubt,
        cause: sqlx::Error,
    },
}

impl<E> From<CommitError> for TransactionError<E> {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::RolledBack => Self::CommitRolledBack,
            CommitError::Lost(cause) => Self::Lost(cause),
            CommitError::RollbackOnly => Self::RollbackOnly,
            CommitError::SerializationFailed { sqlstate } => Self::SerializationFailed { sqlstate },
            CommitError::Reaped(reaped) => Self::Reaped(reaped),
            CommitError::Refused(cause) => Self::CommitRefused(cause),
            CommitError::Unknown { in_doubt, cause } => Self::CommitUnknown { in_doubt, cause },
        }
    }
}
