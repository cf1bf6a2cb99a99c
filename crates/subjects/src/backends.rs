//! Which server process serves a connection of sqlx, known without asking the server again.
//!
//! sqlx keeps the process id to itself, and a pool of sqlx lends connections without a name. But a
//! connection remembers the statements that it prepared: the description of one that was prepared
//! when the connection was opened is the same object whenever it is asked for, at no round trip,
//! and no other connection has it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use poolproof_load::BackendId;
use sqlx::postgres::PgStatement;
use sqlx::{Connection, Executor, PgConnection, SqlStr, Statement};

const PID: &str = "select pg_backend_pid()";

/// Tells the connections of one pool apart.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    /// By the address of the statement's description. The statement is kept, so that no other one
    /// comes to the same address later.
    known: Mutex<HashMap<usize, (BackendId, PgStatement)>>,
}

impl Backends {
    /// Asks a connection that was just opened who serves it, and remembers that.
    pub(crate) async fn learn(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let pid = sqlx::query_scalar(PID).fetch_one(&mut *connection).await?;
        let statement = prepared(connection).await?;
        let known = (backend(pid), statement);
        self.known().insert(address(&known.1), known);
        Ok(())
    }

    /// Returns who serves a connection; none where the user switched sqlx's cache of statements
    /// off, and connections cannot be told apart.
    pub(crate) async fn of(
        &self,
        connection: &mut PgConnection,
    ) -> sqlx::Result<Option<BackendId>> {
        if connection.cached_statements_size() == 0 {
            return Ok(None);
        }
        let statement = prepared(connection).await?;
        let known = self.known();
        Ok(known.get(&address(&statement)).map(|(id, _)| *id))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<usize, (BackendId, PgStatement)>> {
        self.known
            .lock()
            .expect("bug: a panic while a connection was noted")
    }
}

/// Asks a connection who serves it.
pub(crate) async fn ask(connection: &mut PgConnection) -> sqlx::Result<BackendId> {
    // In the simple protocol: one round trip, and nothing stays prepared.
    let row = connection.fetch_one(sqlx::raw_sql(PID)).await?;
    sqlx::Row::try_get(&row, 0).map(backend)
}

/// Numbers the connections, for the server uses a process id again.
fn backend(pid: i32) -> BackendId {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    BackendId {
        pid,
        birth: OPENED.fetch_add(1, Ordering::Relaxed),
    }
}

async fn prepared(connection: &mut PgConnection) -> sqlx::Result<PgStatement> {
    connection.prepare(SqlStr::from_static(PID)).await
}

fn address(statement: &PgStatement) -> usize {
    statement.columns().as_ptr().addr()
}
