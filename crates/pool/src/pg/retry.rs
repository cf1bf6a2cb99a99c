//! Runs a transaction again where that is safe: on a clean session, within one deadline.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use super::PgConnector;
use super::error::TransactionError;
use super::options::TransactionOptions;
use super::session::Session;
use super::transaction::Transaction;
use crate::brief::{brief, counted};
use crate::error::{AcquireError, Categorized, ErrorKind};
use crate::pool::{Pool, jitter};
use crate::state::Backoff;

/// When to run a transaction again: plain fields, defaults in [`RetryPolicy::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often it may be run in all; 0 counts as 1. Default: 10.
    pub attempts_max: u32,
    /// How long everything may take in all: acquires, transactions and the pauses between them.
    /// Default: 10 s.
    pub deadline: Duration,
    /// The pause after the first failure; it doubles with every further one. The actual pause is drawn
    /// between zero and this. Default: 10 ms.
    pub backoff_min: Duration,
    /// What that pause grows to. Default: 1 s.
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 10,
            deadline: Duration::from_secs(10),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// One attempt at a transaction, on a session of its own.
///
/// It can run one transaction only: after a first one that was committed, running the closure again would
/// apply that twice.
#[derive(Debug)]
pub struct Attempt {
    number: u32,
    session: Session,
    until: Option<Instant>,
}

impl Attempt {
    /// Returns which attempt it is, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Runs the transaction. See [`Session::transaction`].
    ///
    /// # Errors
    /// As for [`Session::transaction`]; the retry's deadline ends it with
    /// [`TransactionError::DeadlinePassed`].
    ///
    /// # Cancel safety
    /// Dropping the future rolls back, unless COMMIT was already written.
    pub async fn transaction<T, E, F>(self, work: F) -> Result<T, TransactionError<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        self.transaction_with(&TransactionOptions::default(), work)
            .await
    }

    /// Runs the transaction with options. Its deadline is the earlier of theirs and the retry's.
    ///
    /// # Errors
    /// As for [`Attempt::transaction`].
    ///
    /// # Cancel safety
    /// As for [`Attempt::transaction`].
    pub async fn transaction_with<T, E, F>(
        mut self,
        options: &TransactionOptions,
        work: F,
    ) -> Result<T, TransactionError<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        let left = self
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        let options = TransactionOptions {
            deadline: options.deadline.into_iter().chain(left).min(),
            ..*options
        };
        self.session.transaction_with(&options, work).await
    }
}

/// What an attempt comes to.
pub type Attempted<'a, T, E> =
    Pin<Box<dyn Future<Output = Result<T, TransactionError<E>>> + Send + 'a>>;

fn all_attempts(attempts: u32) -> String {
    match attempts {
        1 => "the only attempt".to_owned(),
        _ => format!("all {attempts} attempts"),
    }
}

/// Why a transaction was not committed, for all its attempts.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RetryError<E> {
    /// The last attempt failed in a way that running it again cannot mend, or must not: a commit whose
    /// outcome is unknown is among these.
    #[error("attempt {attempts} failed for good")]
    Final {
        /// Attempts, the last one included.
        attempts: u32,
        /// Its error.
        #[source]
        cause: TransactionError<E>,
    },
    /// The last attempt allowed failed in a way that could pass.
    #[error("{} failed", all_attempts(*attempts))]
    AttemptsExhausted {
        /// Attempts.
        attempts: u32,
        /// The last one's error.
        #[source]
        cause: TransactionError<E>,
    },
    /// The deadline passed during the last attempt, or was too near for another one.
    #[error("{} within {}", counted(*attempts, "attempt failed", "attempts failed"), brief(*deadline))]
    DeadlinePassed {
        /// Attempts.
        attempts: u32,
        /// The setting.
        deadline: Duration,
        /// The last one's error.
        #[source]
        cause: TransactionError<E>,
    },
    /// No session could be had for the next attempt.
    #[error("no session could be had for attempt {attempt}")]
    Acquire {
        /// The attempt, from 1.
        attempt: u32,
        /// Why.
        #[source]
        cause: AcquireError<sqlx::Error>,
    },
}

impl<E: Categorized> Categorized for RetryError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Final { cause, .. }
            | Self::AttemptsExhausted { cause, .. }
            | Self::DeadlinePassed { cause, .. } => cause.kind(),
            Self::Acquire { cause, .. } => cause.kind(),
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Final { cause, .. }
            | Self::AttemptsExhausted { cause, .. }
            | Self::DeadlinePassed { cause, .. } => cause.sqlstate(),
            Self::Acquire { cause, .. } => cause.sqlstate(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Final { cause, .. }
            | Self::AttemptsExhausted { cause, .. }
            | Self::DeadlinePassed { cause, .. } => cause.is_retryable(),
            Self::Acquire { cause, .. } => cause.is_retryable(),
        }
    }
}

impl Pool<PgConnector> {
    /// Runs a transaction until it is committed, as long as running it again is safe and can help.
    ///
    /// Run again are serialization failures and deadlocks (class 40), also at COMMIT, a lack of
    /// resources (class 53), statements that failed because of what sqlx remembered wrongly
    /// ([`ErrorKind::Stale`]), and connections that broke before COMMIT left; and, when no connection can
    /// be opened, a server that is down, starting up (57P03) or has no slot free (53300). A commit whose
    /// outcome is unknown never is. Before each further attempt there is a pause with full jitter. The
    /// deadline covers acquires, transactions and pauses; what `attempt` does beside its transaction is
    /// its own affair.
    ///
    /// # Errors
    /// [`RetryError`], with the last attempt's error.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back, unless COMMIT was already written.
    ///
    /// # Examples
    /// ```no_run
    /// # use poolproof_pool::*;
    /// # async fn example(pool: &Pool<PgConnector>) -> Result<(), Box<dyn std::error::Error>> {
    /// let item = 7;
    /// pool.retry(&RetryPolicy::default(), |attempt| {
    ///     Box::pin(attempt.transaction(async move |tx: &mut Transaction<'_>| {
    ///         tx.execute(sqlx::query("update stock set amount = amount - 1 where item = $1").bind(item))
    ///             .await
    ///     }))
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn retry<'a, T, E, F>(
        &self,
        policy: &RetryPolicy,
        attempt: F,
    ) -> impl Future<Output = Result<T, RetryError<E>>> + Send + use<'a, T, E, F>
    where
        T: Send,
        E: Categorized + Send,
        F: FnMut(Attempt) -> Attempted<'a, T, E> + Send,
    {
        let attempts = Attempts {
            pool: self.clone(),
            policy: *policy,
            location: Location::caller(),
            until: None,
        };
        attempts.run(attempt)
    }
}

struct Attempts {
    pool: Pool<PgConnector>,
    policy: RetryPolicy,
    location: &'static Location<'static>,
    /// None for a deadline beyond the clock's range.
    until: Option<Instant>,
}

impl Attempts {
    async fn run<'a, T, E, F>(mut self, mut work: F) -> Result<T, RetryError<E>>
    where
        E: Categorized,
        F: FnMut(Attempt) -> Attempted<'a, T, E>,
    {
        self.until = Instant::now().checked_add(self.policy.deadline);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let session = match self.session().await {
                Ok(session) => session,
                Err(cause) if self.may_go_on(attempts, can_pass(&cause)).await => continue,
                Err(cause) => {
                    return Err(RetryError::Acquire {
                        attempt: attempts,
                        cause,
                    });
                }
            };
            let attempt = Attempt {
                number: attempts,
                session,
                until: self.until,
            };
            let cause = match work(attempt).await {
                Ok(value) => return Ok(value),
                Err(cause) => cause,
            };
            let ended_by_deadline = matches!(cause, TransactionError::DeadlinePassed { .. })
                && self.until.is_some_and(|until| until <= Instant::now());
            if ended_by_deadline {
                return Err(self.deadline_passed(attempts, cause));
            }
            if !cause.is_retryable() {
                return Err(RetryError::Final { attempts, cause });
            }
            tracing::debug!(attempts, error = %cause, "a transaction failed and may be run again");
            if attempts >= self.policy.attempts_max {
                return Err(RetryError::AttemptsExhausted { attempts, cause });
            }
            if !self.may_go_on(attempts, true).await {
                return Err(self.deadline_passed(attempts, cause));
            }
        }
    }

    fn deadline_passed<E>(&self, attempts: u32, cause: TransactionError<E>) -> RetryError<E> {
        RetryError::DeadlinePassed {
            attempts,
            deadline: self.policy.deadline,
            cause,
        }
    }

    async fn session(&self) -> Result<Session, AcquireError<sqlx::Error>> {
        let acquire = self.pool.acquire_at(self.location);
        let acquire = match self.until {
            None => acquire,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                acquire.within(left.min(self.pool.config().pool_timeout))
            }
        };
        Ok(Session::from(acquire.await?))
    }

    /// Pauses, unless that would pass the deadline; returns whether there may be another attempt.
    async fn may_go_on(&self, attempts: u32, can_help: bool) -> bool {
        if !can_help || attempts >= self.policy.attempts_max {
            return false;
        }
        let backoff = Backoff {
            min: self.policy.backoff_min,
            max: self.policy.backoff_max,
        };
        let Some(at) = Instant::now().checked_add(backoff.pause(attempts, jitter())) else {
            return false;
        };
        if self.until.is_some_and(|until| at >= until) {
            return false;
        }
        sleep_until(at).await;
        true
    }
}

/// Returns whether a connection may be had by trying again. A pool that is exhausted is not asked again:
/// waiting in its queue was the retry.
fn can_pass(cause: &AcquireError<sqlx::Error>) -> bool {
    matches!(cause, AcquireError::Down { .. })
        || cause
            .sqlstate()
            .is_some_and(|code| matches!(&*code, "57P03" | "53300"))
}

#[cfg(test)]
mod tests {
    use super::super::error::QueryError;
    use super::*;

    #[test]
    fn an_error_says_how_often_it_was_tried() {
        let failed = |attempts| {
            let cause = TransactionError::<QueryError>::RollbackOnly;
            RetryError::AttemptsExhausted { attempts, cause }.to_string()
        };
        assert_eq!(failed(1), "the only attempt failed");
        assert_eq!(failed(3), "all 3 attempts failed");
    }

    #[test]
    fn an_error_can_pass_when_the_last_attempts_can() {
        let exhausted = |cause: TransactionError<QueryError>| {
            RetryError::AttemptsExhausted { attempts: 3, cause }.is_retryable()
        };
        assert!(exhausted(TransactionError::RollbackOnly));
        let within = Duration::ZERO;
        assert!(!exhausted(TransactionError::DeadlinePassed { within }));
    }
}
