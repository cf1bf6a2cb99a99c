//! Sessions, transactions and retries with plain closures.

use std::error::Error;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use poolproof_pool::{
    Backend, Categorized, InDoubt, Lease, PgConnector, QueryError, RetryError, RetryPolicy,
    SavepointError, Session, Transaction, TransactionError, TransactionOptions,
};
use sqlx::postgres::{PgQueryResult, PgRow};
use sqlx::{Execute, PgConnection, Postgres};
use tokio::runtime::Handle;

use super::{BlockingError, BlockingPool, bridge};

/// A [`Session`] for a thread without a runtime. What it promises is the same, and so is what becomes of
/// its connection when it is dropped, on whatever thread.
#[derive(Debug)]
pub struct BlockingSession {
    session: Session,
    waiting: Waiting,
}

/// A [`Transaction`] for a thread without a runtime, lent to the closure that runs in it. It stays on
/// the closure's thread.
#[derive(Debug)]
pub struct BlockingTransaction<'t, 's> {
    transaction: &'t mut Transaction<'s>,
    waiting: &'t Waiting,
    here: PhantomData<*const ()>,
}

/// What a statement comes to.
type Answer<T> = Result<T, BlockingError<QueryError>>;

/// How a thread waits for statements.
#[derive(Debug)]
struct Waiting {
    home: Handle,
    /// Since when, and for how long.
    within: Option<(Instant, Duration)>,
}

impl Waiting {
    /// Waits for an operation on this thread, where that is allowed. Refused, it was never polled; at
    /// the deadline it is dropped.
    fn wait<T, E: Error + 'static>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BlockingError<E>> {
        bridge::permit()?;
        let done = match self.within {
            None => bridge::drive(&self.home, operation),
            Some((since, within)) => {
                let left = within.saturating_sub(bridge::real_now().duration_since(since));
                bridge::drive_within(&self.home, left, operation)
                    .ok_or(BlockingError::DeadlinePassed { within })?
            }
        };
        done.map_err(BlockingError::Failed)
    }

    fn within(home: &Handle, within: Option<Duration>) -> Self {
        Self {
            home: home.clone(),
            within: within.map(|within| (bridge::real_now(), within)),
        }
    }
}

impl From<Lease<PgConnector>> for BlockingSession {
    fn from(lease: Lease<PgConnector>) -> Self {
        Self::from(Session::from(lease))
    }
}

impl From<Session> for BlockingSession {
    fn from(session: Session) -> Self {
        Self {
            waiting: Waiting::within(session.runtime(), None),
            session,
        }
    }
}

impl BlockingSession {
    /// Runs `work` in a transaction: `Ok` commits, `Err` rolls back, a panic rolls back and goes on.
    ///
    /// # Errors
    /// [`BlockingError`], with what [`Session::transaction`] would say; `Ok` means that the server
    /// confirmed the commit.
    pub fn transaction<T, E, F>(&mut self, work: F) -> Result<T, BlockingError<TransactionError<E>>>
    where
        E: Error + 'static,
        F: FnOnce(&mut BlockingTransaction<'_, '_>) -> Result<T, E>,
    {
        self.transaction_with(&TransactionOptions::default(), work)
    }

    /// Runs `work` in a transaction that begins with these options.
    ///
    /// # Errors
    /// As for [`BlockingSession::transaction`]. At the deadline a statement ends with
    /// [`BlockingError::DeadlinePassed`]; what the closure does beside its statements is not cut short,
    /// but is rolled back when the deadline has passed meanwhile.
    pub fn transaction_with<T, E, F>(
        &mut self,
        options: &TransactionOptions,
        work: F,
    ) -> Result<T, BlockingError<TransactionError<E>>>
    where
        E: Error + 'static,
        F: FnOnce(&mut BlockingTransaction<'_, '_>) -> Result<T, E>,
    {
        let waiting = Waiting::within(&self.waiting.home, options.deadline);
        let work = async |transaction: &mut Transaction<'_>| {
            work(&mut BlockingTransaction::new(transaction, &waiting))
        };
        self.waiting
            .wait(self.session.transaction_with(options, work))
    }

    /// Executes a statement outside any transaction and returns how many rows it touched.
    ///
    /// # Errors
    /// [`BlockingError`], with what [`Session::execute`] would say.
    pub fn execute<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Answer<PgQueryResult> {
        self.waiting.wait(self.session.execute(statement))
    }

    /// Executes a statement outside any transaction and returns its rows.
    ///
    /// # Errors
    /// As for [`BlockingSession::execute`].
    pub fn fetch_all<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Answer<Vec<PgRow>> {
        self.waiting.wait(self.session.fetch_all(statement))
    }

    /// Executes a statement outside any transaction and returns its first row.
    ///
    /// # Errors
    /// As for [`BlockingSession::execute`]; no row at all is [`sqlx::Error::RowNotFound`].
    pub fn fetch_one<'q>(&mut self, statement: impl Execute<'q, Postgres> + 'q) -> Answer<PgRow> {
        self.waiting.wait(self.session.fetch_one(statement))
    }

    /// Executes a statement outside any transaction and returns its first row, if any.
    ///
    /// # Errors
    /// As for [`BlockingSession::execute`].
    pub fn fetch_optional<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Answer<Option<PgRow>> {
        self.waiting.wait(self.session.fetch_optional(statement))
    }

    /// Returns sqlx's connection, for what the session does not offer; see [`Session::raw`]. Its futures
    /// are waited for with [`BlockingPool::wait`](super::BlockingPool::wait).
    pub fn raw(&mut self) -> &mut PgConnection {
        self.session.raw()
    }

    /// Returns which server process serves this session.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.session.backend()
    }

    /// Returns what is known of a commit that was written and whose answer was never seen.
    #[must_use]
    pub fn in_doubt(&self) -> Option<InDoubt> {
        self.session.in_doubt()
    }

    /// Turns into the async session behind this one.
    #[must_use]
    pub fn into_async(self) -> Session {
        self.session
    }
}

impl<'t, 's> BlockingTransaction<'t, 's> {
    fn new(transaction: &'t mut Transaction<'s>, waiting: &'t Waiting) -> Self {
        Self {
            transaction,
            waiting,
            here: PhantomData,
        }
    }

    /// Runs `work` under a savepoint: `Ok` keeps what it did, `Err` rolls it back, a panic rolls the
    /// whole transaction back and goes on.
    ///
    /// # Errors
    /// [`BlockingError`], with what [`Transaction::savepoint`] would say.
    pub fn savepoint<T, E, F>(&mut self, work: F) -> Result<T, BlockingError<SavepointError<E>>>
    where
        E: Error + 'static,
        F: FnOnce(&mut BlockingTransaction<'_, '_>) -> Result<T, E>,
    {
        let waiting = self.waiting;
        let work = async |transaction: &mut Transaction<'_>| {
            work(&mut BlockingTransaction::new(transaction, waiting))
        };
        waiting.wait(self.transaction.savepoint(work))
    }

    /// Executes a statement and returns how many rows it touched.
    ///
    /// # Errors
    /// [`BlockingError`], with what [`Transaction::execute`] would say. A failed statement dooms
    /// everything up to the enclosing savepoint.
    pub fn execute<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Answer<PgQueryResult> {
        self.waiting.wait(self.transaction.execute(statement))
    }

    /// Executes a statement and returns its rows.
    ///
    /// # Errors
    /// As for [`BlockingTransaction::execute`].
    pub fn fetch_all<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Answer<Vec<PgRow>> {
        self.waiting.wait(self.transaction.fetch_all(statement))
    }

    /// Executes a statement and returns its first row.
    ///
    /// # Errors
    /// As for [`BlockingTransaction::execute`]; no row at all is [`sqlx::Error::RowNotFound`], which
    /// dooms nothing.
    pub fn fetch_one<'q>(&mut self, statement: impl Execute<'q, Postgres> + 'q) -> Answer<PgRow> {
        self.waiting.wait(self.transaction.fetch_one(statement))
    }

    /// Executes a statement and returns its first row, if any.
    ///
    /// # Errors
    /// As for [`BlockingTransaction::execute`].
    pub fn fetch_optional<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Answer<Option<PgRow>> {
        self.waiting
            .wait(self.transaction.fetch_optional(statement))
    }
}

impl BlockingPool<PgConnector> {
    /// Runs a transaction until it is committed, as long as running it again is safe and can help. See
    /// [`Pool::retry`](poolproof_pool::Pool::retry). `work` is told which attempt it is, from 1.
    ///
    /// # Errors
    /// [`BlockingError`], with what [`Pool::retry`](poolproof_pool::Pool::retry) would say.
    ///
    /// # Examples
    /// ```no_run
    /// # use poolproof_ops::*;
    /// # use poolproof_pool::*;
    /// # fn example(pool: &BlockingPool<PgConnector>) -> Result<(), Box<dyn std::error::Error>> {
    /// let sold = pool.retry(&RetryPolicy::default(), |tx, _attempt| {
    ///     tx.execute("update stock set amount = amount - 1 where item = 7")
    /// })?;
    /// # drop(sold);
    /// # Ok(())
    /// # }
    /// ```
    #[expect(
        clippy::result_large_err,
        reason = "what a caller needs to resolve a commit in doubt, once per transaction"
    )]
    #[track_caller]
    pub fn retry<T, E, F>(
        &self,
        policy: &RetryPolicy,
        work: F,
    ) -> Result<T, BlockingError<RetryError<E>>>
    where
        T: Send,
        E: Categorized + Error + Send + 'static,
        F: FnMut(&mut BlockingTransaction<'_, '_>, u32) -> Result<T, E> + Send,
    {
        let home = self.as_async().runtime();
        let waiting = Arc::new(Waiting::within(home, Some(policy.deadline)));
        // Attempts follow each other, but the futures that run them may not share the closure otherwise.
        let work = Arc::new(Mutex::new(work));
        let attempts = self.as_async().retry(policy, |attempt| {
            let (waiting, work) = (Arc::clone(&waiting), Arc::clone(&work));
            let number = attempt.number();
            let work = async move |transaction: &mut Transaction<'_>| {
                let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut BlockingTransaction::new(transaction, &waiting), number)
            };
            Box::pin(attempt.transaction(work))
        });
        Waiting::within(home, None).wait(attempts)
    }
}
