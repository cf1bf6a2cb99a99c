//! A pool as one writes it in an afternoon: a semaphore and a list.
//!
//! It is correct: limits hold, books balance, a connection whose state is not known is closed,
//! every wait has a deadline. It is slow where that costs nothing in correctness: callers connect
//! themselves, and an overflow connection is kept. The bugs of [`crate::planted`] use it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use poolproof_oracle::PoolView;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::capacity::micros;
use crate::{BuildError, SubjectConfig};

/// The pool; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct NaivePool {
    shared: Arc<Shared>,
}

/// Why there was no connection to give.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcquireError {
    /// All are lent out.
    #[error("acquire a connection: all {limit} were lent out until the deadline")]
    Exhausted { limit: u32 },
    /// The server did not let us in before the deadline.
    #[error("acquire a connection: the server did not answer until the deadline")]
    ConnectTimedOut,
    /// The server refused, or could not be reached.
    #[error("acquire a connection: {0}")]
    Connect(sqlx::Error),
    /// The pool is closed.
    #[error("acquire a connection: the pool is closed")]
    Closed,
}

/// The right to use one connection. Dropped without [`Lease::give_back`], it closes it.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Option<PgConnection>,
    shared: Arc<Shared>,
    /// Goes back when the lease is gone, and so after the books were written.
    permit: Option<OwnedSemaphorePermit>,
}

impl NaivePool {
    pub(crate) fn new(config: SubjectConfig) -> Result<Self, BuildError> {
        let limit = config.limit()?;
        Ok(Self {
            shared: Arc::new(Shared {
                options: config.options,
                limit,
                pool_timeout: config.pool_timeout,
                pre_ping: config.pre_ping,
                permits: Arc::new(Semaphore::new(limit as usize)),
                books: Mutex::default(),
            }),
        })
    }

    /// Acquires a connection within `pool_timeout`, and not beyond `deadline`.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<Lease, AcquireError> {
        let deadline = deadline.min(Instant::now() + self.shared.pool_timeout);
        let permit =
            timeout_at(deadline, self.permit())
                .await
                .map_err(|_| AcquireError::Exhausted {
                    limit: self.shared.limit,
                })??;
        self.lease(permit, deadline).await
    }

    /// Acquires a connection and waits for ever until one is free.
    ///
    /// Only the wait in the queue is without bound; opening a connection takes at most
    /// `pool_timeout`, so that nothing but the wait goes wrong.
    pub(crate) async fn acquire_whenever(&self) -> Result<Lease, AcquireError> {
        let permit = self.permit().await?;
        self.lease(permit, Instant::now() + self.shared.pool_timeout)
            .await
    }

    /// Closes a lease's connection and opens another in its place, within `pool_timeout`.
    pub(crate) async fn reconnect(&self, broken: Lease) -> Result<Lease, AcquireError> {
        let deadline = Instant::now() + self.shared.pool_timeout;
        self.connect(broken.discard(), deadline).await
    }

    /// Tells the books of this moment.
    pub(crate) fn view(&self) -> PoolView {
        let books = self.shared.books();
        let idle = books.idle.len() as u64;
        PoolView {
            in_use: Some(books.in_use),
            idle: Some(idle),
            opening: Some(books.opening),
            closing: Some(books.closing),
            size: Some(books.in_use + idle + books.opening + books.closing),
            waiting: Some(books.waiting),
            opened_total: Some(books.opened_total),
            closed_total: Some(books.closed_total),
            leases_issued: Some(books.leases_issued),
            leases_returned: Some(books.leases_returned),
        }
    }

    /// Takes the times that connections took to open, in microseconds.
    pub(crate) fn take_connect_times(&self) -> Vec<u64> {
        std::mem::take(&mut self.shared.books().connect_times)
    }

    /// Lets nobody in any more and closes what is idle, by `deadline` from now at the latest.
    pub(crate) async fn close(&self, deadline: Duration) {
        self.shared.permits.close();
        let idle = {
            let mut books = self.shared.books();
            books.closed = true;
            books.closing += books.idle.len() as u64;
            std::mem::take(&mut books.idle)
        };
        let goodbyes = idle.into_iter().map(|connection| {
            let closing = Closing(&self.shared);
            async move {
                let closed = connection.close().await;
                drop(closing);
                closed
            }
        });
        // A server that does not hear the goodbye notices the closed socket.
        drop(timeout(deadline, join_all(goodbyes)).await);
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let _waiting = Waiting::new(&self.shared);
        Arc::clone(&self.shared.permits)
            .acquire_owned()
            .await
            .map_err(|_| AcquireError::Closed)
    }

    async fn lease(
        &self,
        mut permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Lease, AcquireError> {
        loop {
            let Some(connection) = self.shared.take_idle() else {
                return self.connect(permit, deadline).await;
            };
            let mut lease = Lease {
                connection: Some(connection),
                shared: Arc::clone(&self.shared),
                permit: Some(permit),
            };
            if !self.shared.pre_ping || lease.answers(deadline).await {
                return Ok(lease);
            }
            permit = lease.discard();
            if Instant::now() >= deadline {
                // Else one ping on a silent network would empty the whole list.
                return Err(AcquireError::ConnectTimedOut);
            }
        }
    }

    async fn connect(
        &self,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Lease, AcquireError> {
        let started = Instant::now();
        let opening = Opening::new(&self.shared);
        let connection = timeout_at(deadline, self.shared.options.connect())
            .await
            .map_err(|_| AcquireError::ConnectTimedOut)?
            .map_err(AcquireError::Connect)?;
        opening.opened(started.elapsed());
        Ok(Lease {
            connection: Some(connection),
            shared: Arc::clone(&self.shared),
            permit: Some(permit),
        })
    }
}

impl Lease {
    /// Returns the connection.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("bug: the connection leaves its lease only at the end")
    }

    /// Returns the connection to the pool as it is.
    pub(crate) fn give_back(mut self) {
        let connection = self.connection.take();
        let mut books = self.shared.books();
        books.came_back();
        if books.closed {
            books.closed_total += 1;
        } else {
            books.idle.extend(connection);
        }
    }

    async fn answers(&mut self, deadline: Instant) -> bool {
        matches!(
            timeout_at(deadline, self.connection().ping()).await,
            Ok(Ok(()))
        )
    }

    /// Closes the connection and keeps the permit.
    fn discard(mut self) -> OwnedSemaphorePermit {
        self.permit
            .take()
            .expect("bug: the permit leaves its lease only at the end")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Closing the socket is enough: the server rolls back and ends the backend.
        if self.connection.take().is_some() {
            let mut books = self.shared.books();
            books.came_back();
            books.closed_total += 1;
        }
    }
}

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    limit: u32,
    pool_timeout: Duration,
    pre_ping: bool,
    /// One permit for each connection that may be lent out; fair, in order of arrival.
    permits: Arc<Semaphore>,
    /// Held for a few assignments, never across an await, and no socket is closed under it.
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Oldest first and taken from the front, so that a broken connection is soon found.
    idle: VecDeque<PgConnection>,
    in_use: u64,
    opening: u64,
    closing: u64,
    waiting: u64,
    opened_total: u64,
    closed_total: u64,
    leases_issued: u64,
    leases_returned: u64,
    connect_times: Vec<u64>,
    closed: bool,
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books
            .lock()
            .expect("bug: a panic while the books were written")
    }

    fn take_idle(&self) -> Option<PgConnection> {
        let mut books = self.books();
        let connection = books.idle.pop_front()?;
        books.went_out();
        Some(connection)
    }
}

impl Books {
    fn went_out(&mut self) {
        self.in_use += 1;
        self.leases_issued += 1;
    }

    fn came_back(&mut self) {
        self.in_use -= 1;
        self.leases_returned += 1;
    }
}

/// Counts a caller as waiting for as long as it waits.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.books().waiting += 1;
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.books().waiting -= 1;
    }
}

/// Counts a connection as opening until it is open, or will not be.
struct Opening<'a> {
    shared: &'a Shared,
    took: Option<Duration>,
}

impl<'a> Opening<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.books().opening += 1;
        Self { shared, took: None }
    }

    fn opened(mut self, took: Duration) {
        self.took = Some(took);
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut books = self.shared.books();
        books.opening -= 1;
        if let Some(took) = self.took {
            books.opened_total += 1;
            books.connect_times.push(micros(took));
            books.went_out();
        }
    }
}

/// Counts an idle connection as closing until it is closed or given up.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut books = self.0.books();
        books.closing -= 1;
        books.closed_total += 1;
    }
}
