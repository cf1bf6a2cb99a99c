//! Connections that do nothing, for what measures the pool alone.

use std::convert::Infallible;

use poolproof_pool::Connector;

/// Opens connections that are nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noop;

impl Connector for Noop {
    type Connection = ();
    type Error = Infallible;

    async fn connect(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn ping(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    async fn reset(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    async fn close(&self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_permanent(&self, error: &Infallible) -> bool {
        match *error {}
    }
}
