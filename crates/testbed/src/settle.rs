//! Tells when no cluster of this process is left, in whatever state.

use std::sync::LazyLock;

use tokio::sync::watch;

static ALIVE: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Counts as one cluster from before its first file is made until its last is removed.
#[derive(Debug)]
pub(crate) struct Alive(());

impl Alive {
    pub(crate) fn begin() -> Self {
        ALIVE.send_modify(|alive| *alive += 1);
        Self(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.send_modify(|alive| *alive -= 1);
    }
}

/// Waits until this process has no cluster: none that runs, is being made or being removed.
///
/// A future of [`crate::Cluster::start`] or [`crate::Cluster::stop`] that is dropped leaves its
/// work to a thread. A program that is about to end waits for that here; else it leaves it to the
/// next run.
///
/// # Cancel safety
/// Safe.
pub async fn settled() {
    let mut alive = ALIVE.subscribe();
    // It fails only without a sender, and a static one is never dropped.
    drop(alive.wait_for(|alive| *alive == 0).await);
}
