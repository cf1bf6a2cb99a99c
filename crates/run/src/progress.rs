//! What a run says while it goes on.

use std::time::Duration;

use tokio::time::Instant;

use crate::RunError;

/// One piece of news from a run. The command line decides how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A phase begins.
    PhaseStarted {
        /// Its name, such as `load`.
        name: String,
        /// What it is about to do.
        detail: String,
    },
    /// A phase ended well.
    PhaseEnded {
        /// Its name.
        name: String,
        /// What came of it, with figures.
        detail: String,
        /// How long it took.
        took: Duration,
    },
    /// The load goes on.
    Tick(Tick),
    /// A fault was injected.
    FaultStarted {
        /// Its name in the scenario.
        name: String,
        /// What it does, such as `latency 40 ± 10 ms`.
        title: String,
        /// When, from the start of the load.
        at: Duration,
    },
    /// A fault was healed, or had its effect if it has no duration.
    FaultEnded {
        /// Its name in the scenario.
        name: String,
        /// What was seen of it, or why nothing was.
        effect: String,
        /// When, from the start of the load.
        at: Duration,
    },
    /// Something that the user should know and that is not an error.
    Note(String),
}

/// How far the load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Time since the load began.
    pub at: Duration,
    /// How long the load will be offered.
    pub duration: Duration,
    /// Ops started.
    pub started: u64,
    /// Ops that came to `ok`.
    pub ok: u64,
    /// Ops that came to `fail`.
    pub fail: u64,
    /// Ops that came to `info`.
    pub info: u64,
    /// Ops that came to `shed`.
    pub shed: u64,
    /// Ops that ended by a planned panic or cancellation; they are among `fail` and `info`.
    pub broken_off: u64,
    /// Ops started and not ended.
    pub in_flight: u64,
}

/// Receives the news of a run.
pub type ProgressSink<'a> = dyn FnMut(Progress) + Send + 'a;

/// Announces a phase, does it, and says what came of it.
pub(crate) async fn phase<T>(
    progress: &mut ProgressSink<'_>,
    name: &str,
    detail: &str,
    work: impl Future<Output = Result<(T, String), RunError>>,
) -> Result<T, RunError> {
    let began = Instant::now();
    progress(Progress::PhaseStarted {
        name: name.to_owned(),
        detail: detail.to_owned(),
    });
    let (value, detail) = work.await?;
    progress(Progress::PhaseEnded {
        name: name.to_owned(),
        detail,
        took: began.elapsed(),
    });
    Ok(value)
}
