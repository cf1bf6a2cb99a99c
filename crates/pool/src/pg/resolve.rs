//! Finds out how a commit ended whose answer was never seen.

use std::num::NonZeroU64;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, raw_sql};
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout};

use super::PgConnector;
use super::conn::{Asking, Backend, Identity, ServerIdentity};
use super::connect;
use super::error::{is_connection_error, sqlstate};
use super::fence::{Living, control_options, terminate};
use crate::brief::brief;
use crate::pool::Pool;

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a transaction's id is answered by that the server has not handed out.
const IN_THE_FUTURE: &str = "22023";

/// What is known of a commit whose outcome is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt {
    /// The server process that was to commit.
    pub backend: Backend,
    /// The transaction's id, where
    /// [`TransactionOptions::with_xid`](super::TransactionOptions::with_xid) asked for it.
    pub xid: Option<NonZeroU64>,
    /// Which server it was, where that may be asked.
    pub server: Option<ServerIdentity>,
    /// Whether a pooler was noticed in between. The backend may serve others by now, and is never ended.
    pub is_pooled: bool,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// It is stored.
    Committed,
    /// Nothing of it is stored, and never will be: running it again applies it once.
    RolledBack,
}

/// Why nobody can tell how a commit ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The transaction's id was not asked for. The backend is gone, so that what is stored now does not
    /// change any more: look for something that the transaction would have written.
    #[error(
        "the transaction's id is not known; its backend is gone, so look at what it would have written"
    )]
    NoXid,
    /// The user was not allowed to learn which server it was at the time.
    #[error("which server was to commit is not known")]
    Unidentified,
    /// A pooler stood in between, which gives the backend to others once its connection is gone, so that
    /// it can neither be ended nor waited for.
    /// [`InDoubt::resolve`] does without where
    /// [`with_xid`](super::TransactionOptions::with_xid) asked for the transaction's id; otherwise only a
    /// key that the transaction would have written can tell, and that not before it has surely ended.
    #[error(
        "behind a pooler no backend can be ended and waited for: begin with \
         TransactionOptions::with_xid, or look for a key that the transaction would have written"
    )]
    Pooled,
    /// A process with the backend's id is there, but it belongs to a role of which the one that asks may see
    /// too little to tell whether it is the backend or a later one. Only where the outcome cannot be read
    /// by the transaction's id. Ask with a pool of the role that was to commit.
    #[error("process {pid} is another role's: ask with a pool of the role that was to commit")]
    Hidden {
        /// Its process id.
        pid: i32,
    },
    /// Another server answers at that address.
    #[error("another server answers: system {now}, not {then}")]
    OtherServer {
        /// Its system identifier.
        now: u64,
        /// The one of the server that was to commit.
        then: u64,
    },
    /// A standby was promoted since. It may lack what the old primary had stored.
    #[error("a standby was promoted since: timeline {now}, not {then}")]
    OtherTimeline {
        /// The server's timeline.
        now: u32,
        /// The one on which it was to be committed.
        then: u32,
    },
    /// The server that answers is a standby.
    #[error("the server that answers is a standby")]
    Standby,
    /// The server has crashed since, and says that the id is committed. A crash can lose ids that were
    /// handed out, so that this may be another transaction's.
    #[error("the server has crashed since, and transaction {xid} may be another one by now")]
    Recovered {
        /// The id.
        xid: u64,
    },
    /// The server does not remember so old a transaction.
    #[error("the server does not remember transaction {xid} any more")]
    TooOld {
        /// The id.
        xid: u64,
    },
    /// The transaction had not ended by the deadline.
    #[error("the transaction had not ended within {}", brief(*within))]
    StillRunning {
        /// The deadline.
        within: Duration,
    },
    /// The server could not be asked by the deadline.
    #[error("the server could not be asked within {}", brief(*within))]
    Unreachable {
        /// The deadline.
        within: Duration,
        /// The last attempt's error; none when it had not ended.
        #[source]
        cause: Option<sqlx::Error>,
    },
    /// The server refused to be asked, such as for lack of a privilege.
    #[error("the server refused to be asked")]
    Refused(#[source] sqlx::Error),
}

impl InDoubt {
    /// Finds out how the commit ended. Ends the backend that was to commit first, and waits until it
    /// is gone: before that, no answer would be final. A commit that waits for a synchronous standby
    /// counts as stored then, although the standby may lack it. Uses a connection of its own, outside the
    /// pool's limit; while the server cannot be reached, tries again until `within` has passed.
    ///
    /// # Errors
    /// [`ResolveError`] says why nobody can tell. Asking again can help after `Unreachable`,
    /// `StillRunning` and `Standby`.
    ///
    /// # Cancel safety
    /// Safe. The backend may have been ended.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # use poolproof_pool::*;
    /// # async fn example(pool: &Pool<PgConnector>) -> Result<(), Box<dyn std::error::Error>> {
    /// let options = TransactionOptions { with_xid: true, ..TransactionOptions::default() };
    /// let mut session = pool.session().await?;
    /// let outcome = session
    ///     .transaction_with(&options, async |tx: &mut Transaction<'_>| {
    ///         tx.execute("update account set balance = balance - 10 where id = 7").await
    ///     })
    ///     .await;
    /// if let Err(TransactionError::CommitUnknown { in_doubt, .. }) = outcome {
    ///     match in_doubt.resolve(pool, Duration::from_secs(30)).await? {
    ///         Resolution::Committed => {}
    ///         Resolution::RolledBack => { /* safe to run again */ }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn resolve(
        &self,
        pool: &Pool<PgConnector>,
        within: Duration,
    ) -> Result<Resolution, ResolveError> {
        self.retried(pool, within, Question::Outcome).await
    }

    /// Ends the backend that was to commit and waits until it is gone. From then on, what is stored
    /// does not change any more, and a look at what the transaction would have written is final.
    ///
    /// # Errors
    /// As for [`InDoubt::resolve`], except for what concerns the transaction's id.
    ///
    /// # Cancel safety
    /// Safe. The backend may have been ended.
    pub async fn fence(
        &self,
        pool: &Pool<PgConnector>,
        within: Duration,
    ) -> Result<(), ResolveError> {
        let fenced = self.retried(pool, within, Question::Fence).await;
        fenced.map(|_fenced| ())
    }

    async fn retried(
        &self,
        pool: &Pool<PgConnector>,
        within: Duration,
        question: Question,
    ) -> Result<Resolution, ResolveError> {
        let mut progress = Progress::default();
        let asked = timeout(within, async {
            loop {
                progress.is_connected = false;
                match self.ask(pool.connector(), question, &mut progress).await {
                    Ok(answer) => return Ok(answer),
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Sqlx(cause)) if can_pass(&cause) => progress.last = Some(cause),
                    Err(Failure::Sqlx(cause)) => return Err(ResolveError::Refused(cause)),
                }
                sleep_until(Instant::now() + LOOK_AGAIN).await;
            }
        })
        .await;
        asked.unwrap_or_else(|_elapsed| {
            Err(if progress.is_connected {
                ResolveError::StillRunning { within }
            } else {
                let cause = progress.last;
                ResolveError::Unreachable { within, cause }
            })
        })
    }

    async fn ask(
        &self,
        connector: &PgConnector,
        question: Question,
        progress: &mut Progress,
    ) -> Result<Resolution, Failure> {
        let then = self.server.ok_or(ResolveError::Unidentified)?;
        let mut control = connect::open(&control_options(connector.options())).await?;
        let Identity { server: now, .. } = Asking::default().identify(&mut control).await?;
        let crashed = then.compare(now)?;
        progress.is_connected = true;
        match (question, self.xid) {
            // What the server says of an id that has ended is final without that.
            (Question::Outcome, Some(_)) if self.is_pooled => {}
            _ if self.is_pooled => return Err(ResolveError::Pooled.into()),
            _ => self.end(&mut control, question).await?,
        }
        let resolution = match (question, self.xid) {
            (Question::Fence, _) => Resolution::RolledBack,
            (Question::Outcome, None) => return Err(ResolveError::NoXid.into()),
            (Question::Outcome, Some(xid)) => status(&mut control, xid.get(), crashed).await?,
        };
        // The answer is there; a goodbye that fails changes nothing about it.
        drop(control.close().await);
        Ok(resolution)
    }

    /// Ends the backend and waits until it is gone.
    async fn end(&self, control: &mut PgConnection, question: Question) -> Result<(), Failure> {
        loop {
            match (
                terminate(control, &[self.backend.into()]).await?[0],
                question,
                self.xid,
            ) {
                (Living::Gone, ..) => return Ok(()),
                // What the server says of an id that has ended is final whoever is there.
                (Living::Hidden, Question::Outcome, Some(_)) => return Ok(()),
                (Living::Hidden, ..) => {
                    let pid = self.backend.pid;
                    return Err(ResolveError::Hidden { pid }.into());
                }
                (Living::Seen, ..) => sleep_until(Instant::now() + LOOK_AGAIN).await,
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Question {
    /// Whether the backend is gone; the resolution has no meaning.
    Fence,
    Outcome,
}

/// How far asking has got, when the deadline passes.
#[derive(Debug, Default)]
struct Progress {
    is_connected: bool,
    last: Option<sqlx::Error>,
}

enum Failure {
    Final(ResolveError),
    Sqlx(sqlx::Error),
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        Self::Final(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(cause: sqlx::Error) -> Self {
        Self::Sqlx(cause)
    }
}

/// Whether the server has crashed and recovered between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crashed {
    No,
    Yes,
}

impl ServerIdentity {
    /// Compares what was known of the server with what is known now.
    fn compare(self, now: Option<Self>) -> Result<Crashed, ResolveError> {
        let now = now.ok_or(ResolveError::Unidentified)?;
        if now.system != self.system {
            return Err(ResolveError::OtherServer {
                now: now.system,
                then: self.system,
            });
        }
        let timeline = now.timeline.ok_or(ResolveError::Standby)?;
        match self.timeline {
            // It was a standby, where nothing can be committed, or has been promoted since.
            None => Err(ResolveError::Unidentified),
            Some(then) if then != timeline => Err(ResolveError::OtherTimeline {
                now: timeline,
                then,
            }),
            Some(_) if now.recovered_at == self.recovered_at => Ok(Crashed::No),
            Some(_) => Ok(Crashed::Yes),
        }
    }
}

/// Asks until the transaction has ended.
///
/// A crash loses the ids of transactions of which nothing was written to disk, and they are handed out
/// again. Our transaction is not among the committed ones then, whatever becomes of its namesake.
async fn status(
    control: &mut PgConnection,
    xid: u64,
    crashed: Crashed,
) -> Result<Resolution, Failure> {
    loop {
        // A simple query, which a pooler passes to one backend as a whole.
        let query = format!("select pg_xact_status('{xid}'::xid8)");
        let answered = match control.fetch_one(raw_sql(AssertSqlSafe(query))).await {
            Ok(row) => row.try_get::<Option<String>, _>(0)?,
            Err(cause) if sqlstate(&cause).as_deref() == Some(IN_THE_FUTURE) => {
                return Ok(Resolution::RolledBack);
            }
            Err(cause) => return Err(cause.into()),
        };
        match (answered.as_deref(), crashed) {
            (None, _) => return Err(ResolveError::TooOld { xid }.into()),
            (Some("committed"), Crashed::No) => return Ok(Resolution::Committed),
            (Some("committed"), Crashed::Yes) => return Err(ResolveError::Recovered { xid }.into()),
            (Some("aborted"), _) | (Some(_), Crashed::Yes) => return Ok(Resolution::RolledBack),
            (Some(_in_progress), Crashed::No) => sleep_until(Instant::now() + LOOK_AGAIN).await,
        }
    }
}

/// Returns whether asking again can help.
fn can_pass(cause: &sqlx::Error) -> bool {
    is_connection_error(cause) || sqlstate(cause).is_some_and(|code| code.starts_with("53"))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn identity(system: u64, timeline: Option<u32>, recovered: u64) -> ServerIdentity {
        ServerIdentity {
            system,
            timeline,
            recovered_at: SystemTime::UNIX_EPOCH + Duration::from_secs(recovered),
        }
    }

    #[test]
    fn only_the_same_server_on_the_same_timeline_is_asked() {
        let then = identity(1, Some(1), 1);
        let compare = |now| then.compare(now);
        assert_eq!(compare(Some(then)).unwrap(), Crashed::No);
        assert_eq!(
            compare(Some(identity(1, Some(1), 2))).unwrap(),
            Crashed::Yes
        );
        let error = compare(Some(identity(2, Some(1), 1))).unwrap_err();
        assert!(
            matches!(error, ResolveError::OtherServer { now: 2, then: 1 }),
            "{error:?}"
        );
        let error = compare(Some(identity(1, Some(2), 1))).unwrap_err();
        assert!(
            matches!(error, ResolveError::OtherTimeline { now: 2, then: 1 }),
            "{error:?}"
        );
        let error = compare(Some(identity(1, None, 1))).unwrap_err();
        assert!(matches!(error, ResolveError::Standby), "{error:?}");
        let error = compare(None).unwrap_err();
        assert!(matches!(error, ResolveError::Unidentified), "{error:?}");
        let error = identity(1, None, 1).compare(Some(then)).unwrap_err();
        assert!(matches!(error, ResolveError::Unidentified), "{error:?}");
    }
}
