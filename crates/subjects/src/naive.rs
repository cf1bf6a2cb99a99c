//! A pool as one writes it in an afternoon: a semaphore and a list.
//!
//! It is correct: limits hold, books balance, a connection whose state is not known is closed,
//! every wait has a deadline, and opening a connection outlives the caller who asked for it: when
//! it does not, callers who waited long have no time left to connect, and an overloaded pool never
//! recovers. It is plain where that costs no correctness: an overflow connection is kept. The bugs
//! of [`crate::planted`] use it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{join, join_all};
use poolproof_load::BackendId;
use poolproof_oracle::PoolView;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::backends;
use crate::capacity::micros;
use crate::{BuildError, SubjectConfig};

/// A connection that was used this recently is not pinged. Under overload every connection is lent
/// again at once, to a caller whose time is nearly up: a ping would take the rest of it.
const PING_AFTER: Duration = Duration::from_millis(500);

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
    backend: BackendId,
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
                tasks: Mutex::default(),
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
        let mut opening = std::mem::take(&mut *self.shared.tasks());
        opening.abort_all();
        let idle = {
            let mut books = self.shared.books();
            books.closed = true;
            books.closing += books.idle.len() as u64;
            std::mem::take(&mut books.idle)
        };
        let goodbyes = idle.into_iter().map(|Idle { connection, .. }| {
            let closing = Closing(&self.shared);
            async move {
                let closed = connection.close().await;
                drop(closing);
                closed
            }
        });
        let opening_ended = async { while opening.join_next().await.is_some() {} };
        // A server that does not hear the goodbye notices the closed socket.
        drop(timeout(deadline, join(opening_ended, join_all(goodbyes))).await);
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
            let Some(idle) = self.shared.take_idle() else {
                return self.connect(permit, deadline).await;
            };
            let stale = idle.since.elapsed() > PING_AFTER;
            let mut lease = Lease {
                connection: Some(idle.connection),
                backend: idle.backend,
                shared: Arc::clone(&self.shared),
                permit: Some(permit),
            };
            if !(self.shared.pre_ping && stale) || lease.answers(deadline).await {
                return Ok(lease);
            }
            permit = lease.discard();
            if Instant::now() >= deadline {
                // Else one ping on a silent network would empty the whole list.
                return Err(AcquireError::ConnectTimedOut);
            }
        }
    }

    /// Has a connection opened, which goes to the idle ones if the caller does not wait for it.
    async fn connect(
        &self,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Lease, AcquireError> {
        let (sender, receiver) = oneshot::channel();
        let opening = Opening::new(Arc::clone(&self.shared));
        self.shared.start(async move {
            // Nobody there any more: the connection comes back as the unused lease is dropped.
            drop(sender.send(opening.open(permit).await));
        });
        match timeout_at(deadline, receiver).await {
            Ok(Ok(opened)) => Ok(opened?.into_lease()),
            Ok(Err(_)) => Err(AcquireError::Closed),
            Err(_) => Err(AcquireError::ConnectTimedOut),
        }
    }
}

/// A lease on which nothing was executed: dropped, it goes back as it is.
#[derive(Debug)]
pub(crate) struct Unused(Option<Lease>);

impl Unused {
    fn into_lease(mut self) -> Lease {
        self.0.take().expect("bug: the lease leaves only once")
    }
}

impl From<Lease> for Unused {
    fn from(lease: Lease) -> Self {
        Self(Some(lease))
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(lease) = self.0.take() {
            lease.give_back();
        }
    }
}

impl Lease {
    /// Returns the connection.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.connection
            .as_mut()
            .expect("bug: the connection leaves its lease only at the end")
    }

    /// Returns who serves the connection.
    pub(crate) fn backend(&self) -> BackendId {
        self.backend
    }

    /// Returns the connection to the pool as it is.
    pub(crate) fn give_back(mut self) {
        let connection = self.connection.take();
        let mut books = self.shared.books();
        books.came_back();
        if books.closed {
            books.closed_total += 1;
        } else {
            let idle = connection.map(|connection| Idle::new(connection, self.backend));
            books.idle.extend(idle);
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
    /// Connections being opened; each ends within `pool_timeout`, or with `close`.
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Books {
    /// Oldest first and taken from the front, so that a broken connection is soon found.
    idle: VecDeque<Idle>,
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

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    backend: BackendId,
    since: Instant,
}

impl Idle {
    fn new(connection: PgConnection, backend: BackendId) -> Self {
        Self {
            connection,
            backend,
            since: Instant::now(),
        }
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books
            .lock()
            .expect("bug: a panic while the books were written")
    }

    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks
            .lock()
            .expect("bug: a panic while a task was started")
    }

    fn take_idle(&self) -> Option<Idle> {
        let mut books = self.books();
        let idle = books.idle.pop_front()?;
        books.went_out();
        Some(idle)
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
struct Opening {
    shared: Arc<Shared>,
    took: Option<Duration>,
}

impl Opening {
    fn new(shared: Arc<Shared>) -> Self {
        shared.books().opening += 1;
        Self { shared, took: None }
    }

    async fn open(mut self, permit: OwnedSemaphorePermit) -> Result<Unused, AcquireError> {
        let started = Instant::now();
        let connect = async {
            let mut connection = self.shared.options.connect().await?;
            let backend = backends::ask(&mut connection).await?;
            Ok((connection, backend))
        };
        let (connection, backend) = timeout(self.shared.pool_timeout, connect)
            .await
            .map_err(|_| AcquireError::ConnectTimedOut)?
            .map_err(AcquireError::Connect)?;
        self.took = Some(started.elapsed());
        Ok(Unused(Some(Lease {
            connection: Some(connection),
            backend,
            shared: Arc::clone(&self.shared),
            permit: Some(permit),
        })))
    }
}

impl Drop for Opening {
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
