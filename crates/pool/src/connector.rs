//! How the pool opens, checks, resets and closes connections: the seam between the pool and a driver.

use std::error::Error;
use std::future::Future;

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

    /// Returns whether trying to connect again cannot help, such as with a wrong password.
    fn is_permanent(&self, error: &Self::Error) -> bool;
}
