//! Keeps a run's claim while the load is on: asks for the proof again and again, so that neither a
//! server nor a firewall takes its connection for idle, and notes when it was lost.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::interrupt::{Interrupt, InterruptTrigger};
use crate::namespace::Namespace;

/// How often the claim is proved: well below the shortest time after which anybody ends idle sessions.
const EVERY: Duration = Duration::from_millis(500);

/// The task that keeps a claim.
pub(crate) struct Keeper {
    task: JoinSet<Kept>,
    stop: InterruptTrigger,
}

/// What the keeper gives back.
pub(crate) struct Kept {
    pub(crate) namespace: Namespace,
    /// Why the run no longer owns its schema, if it does not.
    pub(crate) lost: Option<String>,
}

impl Keeper {
    /// Begins to keep the claim on `namespace`.
    pub(crate) fn start(namespace: Namespace) -> Self {
        let (stop, stopped) = Interrupt::new();
        let mut task = JoinSet::new();
        task.spawn(keep(namespace, stopped));
        Self { task, stop }
    }

    /// Stops, and gives the namespace back; none when the task panicked.
    pub(crate) async fn stop(mut self) -> Option<Kept> {
        self.stop.trigger();
        self.task.join_next().await?.ok()
    }
}

async fn keep(namespace: Namespace, stopped: Interrupt) -> Kept {
    let mut kept = Kept {
        namespace,
        lost: None,
    };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while kept.lost.is_none() {
        tokio::select! {
            biased;
            () = stopped.triggered() => break,
            _ = ticks.tick() => {}
        }
        match kept.namespace.prove().await {
            Ok(()) => {}
            // A server that is down may come back, and the run is asked again before its verdict.
            Err(error) if error.may_pass() => {
                tracing::debug!(error = %error.text(), "the run's claim could not be proved");
            }
            Err(error) => kept.lost = Some(error.text()),
        }
    }
    kept
}
