//! Ending a run early, from outside.

use tokio::sync::watch;

use crate::RunError;

/// Pulls the emergency brake of a run. Dropping it pulls nothing.
#[derive(Debug, Clone)]
pub struct InterruptTrigger(watch::Sender<bool>);

impl InterruptTrigger {
    /// Asks the run to heal its faults, stop what it started, and report what it has.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }
}

/// Tells a run that it should end early.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Creates an interrupt and its trigger.
    #[must_use]
    pub fn new() -> (InterruptTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (InterruptTrigger(sender), Self(receiver))
    }

    /// Returns whether the trigger was pulled.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once the trigger was pulled; never, when the trigger is gone.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn triggered(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|pulled| *pulled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does `work`, or gives it up once the trigger was pulled.
    pub(crate) async fn or<T>(
        &self,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        tokio::select! {
            done = work => done,
            () = self.triggered() => Err(RunError::Interrupted),
        }
    }
}
