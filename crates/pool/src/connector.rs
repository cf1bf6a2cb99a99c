//! How the pool opens, checks, resets and closes connections: the seam between the pool and a driver.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

/// What is still to be done about a connection that was given up.
pub type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens connections and looks after them.
///
/// The pool bounds every call by a timeout of its own and drops the future when that has passed or
/// when the pool is closed. `connect`, `reset` and `close` run in tasks of the pool, `ping` in the
/// future of the acquire that needs it.
pub trait Connector: Send + Sync + 'static {
    /// A connection. Dropping it closes it at once, without a goodbye; that must also work outside any
    /// runtime.
    type Connection: Send + 'static;
    /// Why a call failed.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Checks with one round trip that a connection works.
    fn ping(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Brings a used connection back to the state in which `connect` delivers one.
    fn reset(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Says goodbye and closes.
    fn close(
        &self,
        connection: Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Gives up a connection that may still be busy: a statement on it was abandoned, or its reset got
    /// no answer. It is never lent again.
    ///
    /// None means that nothing more is to be done, and frees the slot at once; otherwise the slot stays
    /// taken until the future ends, for `reset_timeout` at most (`close_timeout` after a reset). By
    /// default the connection is dropped, whatever the server goes on doing.
    fn abandon(&self, connection: Self::Connection) -> Option<Ending> {
        drop(connection);
        None
    }

    /// Returns the id of the server process behind a connection, for logs. By default none.
    fn pid(&self, connection: &Self::Connection) -> Option<i32> {
        let _ = connection;
        None
    }

    /// Returns whether trying to connect again cannot help, such as with a wrong password.
    fn is_permanent(&self, error: &Self::Error) -> bool;
}
