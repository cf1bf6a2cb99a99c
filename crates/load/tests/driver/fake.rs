//! A subject that follows a script, one per op.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use poolproof_load::{BackendId, OpEnd, Schedule, Subject, SubjectInfo, Trace, planned_panic};
use poolproof_oracle::{
    CapacityProbe, Effect, Ending, ErrorCategory, Op, OpError, Outcome, PoolView,
};
use tokio::sync::Semaphore;

/// What a fake does at some point of an op.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Acquire,
    /// Acquires this connection, and notes whether it is suspect as the answer to the probe.
    AcquireFrom(BackendId),
    Settle,
    SendCommit,
    Probe,
    Wait(Duration),
    /// Waits until the op is dropped.
    Never,
    /// Panics as planned.
    PlannedPanic,
    /// Panics as a bug does.
    Panic(&'static str),
    /// From here on, dropping the op panics.
    PanicOnDrop(&'static str),
    /// Takes the only connection until the op ends, waiting for it in order of arrival.
    Queue,
    /// Ends the op; a script that runs out ends in `ok`.
    End(OpEnd),
}

type Script = dyn Fn(&Op) -> Vec<Step> + Send + Sync;

/// The fake.
pub(crate) struct Fake {
    script: Box<Script>,
    connection: Semaphore,
    pub(crate) dropped: AtomicU64,
}

impl Fake {
    pub(crate) fn new(script: impl Fn(&Op) -> Vec<Step> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            connection: Semaphore::new(1),
            dropped: AtomicU64::new(0),
        })
    }

    async fn run(&self, op: &Op, trace: &Trace) -> OpEnd {
        let _counted = CountDrop(&self.dropped);
        let mut bomb = None;
        let mut connection = None;
        for step in (self.script)(op) {
            match step {
                Step::Acquire => trace.acquired(None),
                Step::AcquireFrom(backend) => {
                    trace.acquired(Some(backend));
                    trace.set_clean_probe(trace.is_suspect().to_string());
                }
                Step::Settle => trace.settled(),
                Step::SendCommit => trace.commit_sent(),
                Step::Probe => trace.set_clean_probe("answer".to_owned()),
                Step::Wait(duration) => wait(duration).await,
                Step::Never => std::future::pending().await,
                Step::PlannedPanic => planned_panic(),
                Step::Panic(text) => std::panic::panic_any(text),
                Step::PanicOnDrop(text) => bomb = Some(Bomb(text)),
                Step::Queue => connection = self.connection.acquire().await.ok(),
                Step::End(end) => return end,
            }
        }
        drop((bomb, connection));
        OpEnd::ok()
    }
}

impl Subject for Fake {
    fn info(&self) -> SubjectInfo {
        unreachable!("the driver does not ask")
    }

    fn execute<'a>(&'a self, op: &'a Op, trace: &'a Trace) -> BoxFuture<'a, OpEnd> {
        Box::pin(self.run(op, trace))
    }

    fn view(&self) -> PoolView {
        unreachable!("the driver does not ask")
    }

    fn probe_capacity(&self, _wanted: u64, _within: Duration) -> BoxFuture<'_, CapacityProbe> {
        unreachable!("the driver does not ask")
    }

    fn close(&self, _deadline: Duration) -> BoxFuture<'_, ()> {
        unreachable!("the driver does not ask")
    }
}

struct CountDrop<'a>(&'a AtomicU64);

impl Drop for CountDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new(self.0));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock is paused: waiting takes no time"
)]
async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Ops with these endings, one each `every`.
pub(crate) fn schedule(every: Duration, endings: &[Ending]) -> Arc<Schedule> {
    let every_us = u64::try_from(every.as_micros()).expect("a gap is short");
    let op = |(id, ending): (u64, &Ending)| Op {
        id,
        at_us: id * every_us,
        deadline_us: 1_000_000,
        workload: "bank".into(),
        statements: Vec::new(),
        hold_us: 0,
        ending: *ending,
        check_clean: false,
        effect: Effect::WriteSet { tables: 1 },
    };
    Arc::new(Schedule {
        ops: (0..).zip(endings).map(op).collect(),
    })
}

pub(crate) fn commits(every: Duration, count: usize) -> Arc<Schedule> {
    schedule(every, &vec![Ending::Commit; count])
}

pub(crate) fn failed(outcome: Outcome, category: ErrorCategory, message: &str) -> OpEnd {
    OpEnd {
        outcome,
        error: Some(OpError {
            category,
            sqlstate: None,
            message: message.to_owned(),
        }),
    }
}
