//! The flight of one op: from the first poll of its task to its record.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use poolproof_oracle::{Ending, ErrorCategory, GRACE_US, Op, OpError, OpRecord, Outcome};
use tokio::time::{Instant, sleep_until};

use crate::gauges::Gauges;
use crate::schedule::Schedule;
use crate::subject::{OpEnd, Subject, Trace, is_planned, micros_since};

/// What a planned cancellation or panic says about itself.
const PLANNED: &str = "planned";

/// Tokio's timer fires up to this late. The rest of a wait is spent yielding.
const TIMER_TICK: Duration = Duration::from_millis(1);

/// One op on its way. The driver keeps it beside the task, for the case that the task never ends.
#[derive(Debug)]
pub(crate) struct Flight {
    schedule: Arc<Schedule>,
    index: usize,
    origin: Instant,
    started_us: OnceLock<u64>,
    trace: Trace,
    gauges: Arc<Gauges>,
}

/// How the future of an op came to its end.
#[derive(Debug)]
enum Landing {
    Returned(OpEnd),
    Panicked(Box<dyn Any + Send>),
    Cancelled,
}

impl Flight {
    /// Prepares the op at `index` of the schedule; `trace` is its.
    pub(crate) fn new(
        schedule: Arc<Schedule>,
        index: usize,
        trace: Trace,
        gauges: Arc<Gauges>,
    ) -> Self {
        Self {
            schedule,
            index,
            origin: trace.origin(),
            started_us: OnceLock::new(),
            trace: trace.counted(Arc::clone(&gauges)),
            gauges,
        }
    }

    /// Returns the op.
    pub(crate) fn op(&self) -> &Op {
        &self.schedule.ops[self.index]
    }

    /// Executes the op and returns its record.
    ///
    /// A panic of the subject is caught, wherever it happens: in the call, in a poll, or when the
    /// future is dropped.
    pub(crate) async fn fly(&self, subject: &dyn Subject) -> OpRecord {
        let started_us = *self.started_us.get_or_init(|| micros_since(self.origin));
        let op = self.op();
        let call = AssertUnwindSafe(async { subject.execute(op, &self.trace).await });
        let landing = land(call.catch_unwind().boxed(), self.cancel_at(started_us)).await;
        // After the drop: a drop that blocks is part of what the op took.
        let ended_us = micros_since(self.origin);
        let end = self.classify(landing);
        if let Some(sent_us) = self.trace.commit_sent_us() {
            self.gauges.commit_settled(sent_us);
        }
        let record = self.record(Some(ended_us), end);
        self.gauges.op_ended(&record);
        record
    }

    /// Returns the record of an op whose task was aborted at `given_up_us`.
    pub(crate) fn never_ended(&self, given_up_us: u64) -> OpRecord {
        let started_us = *self.started_us.get_or_init(|| micros_since(self.origin));
        let waited_us = given_up_us.saturating_sub(started_us);
        let (category, message) = if waited_us > self.op().deadline_us.saturating_add(GRACE_US) {
            (ErrorCategory::Deadline, "never ended")
        } else {
            (ErrorCategory::CutShort, "the run ended first")
        };
        let error = OpError {
            category,
            sqlstate: None,
            message: message.to_owned(),
        };
        let end = OpEnd {
            outcome: self.unconfirmed(),
            error: Some(error),
        };
        self.record(None, end)
    }

    fn cancel_at(&self, started_us: u64) -> Option<Instant> {
        let Ending::Cancel { after_us } = self.op().ending else {
            return None;
        };
        let at = Duration::from_micros(started_us.saturating_add(after_us));
        // A moment beyond the clock's range never comes.
        self.origin.checked_add(at)
    }

    fn classify(&self, landing: Landing) -> OpEnd {
        let (category, message) = match landing {
            Landing::Returned(end) => return end,
            Landing::Cancelled => (ErrorCategory::Cancelled, PLANNED.to_owned()),
            Landing::Panicked(payload) => (ErrorCategory::Panicked, self.panic_text(&*payload)),
        };
        OpEnd {
            outcome: self.unconfirmed(),
            error: Some(OpError {
                category,
                sqlstate: None,
                message,
            }),
        }
    }

    /// What an op came to that told nothing: unknown once COMMIT was sent.
    fn unconfirmed(&self) -> Outcome {
        match self.trace.commit_sent_us() {
            Some(_) => Outcome::Info,
            None => Outcome::Fail,
        }
    }

    fn panic_text(&self, payload: &(dyn Any + Send)) -> String {
        if is_planned(payload) && self.op().ending == Ending::Panic {
            return PLANNED.to_owned();
        }
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        format!("not planned: {}", text.unwrap_or("a panic without text"))
    }

    fn record(&self, ended_us: Option<u64>, end: OpEnd) -> OpRecord {
        let op = self.op();
        OpRecord {
            id: op.id,
            workload: op.workload.clone().into_owned(),
            ending: op.ending,
            effect: op.effect,
            intended_us: op.at_us,
            // A task that the runtime never came to poll starts at its end.
            started_us: *self.started_us.get_or_init(|| micros_since(self.origin)),
            deadline_us: op.deadline_us,
            acquired_us: self.trace.acquired_us(),
            commit_sent_us: self.trace.commit_sent_us(),
            ended_us,
            outcome: end.outcome,
            error: end.error,
            backend_pid: self.trace.backend_pid(),
            previous_op: self.trace.previous_op(),
            clean_probe: self.trace.take_clean_probe(),
        }
    }
}

/// Runs a call to its end or to its cancellation, whichever is first, and drops it.
async fn land(
    mut call: BoxFuture<'_, Result<OpEnd, Box<dyn Any + Send>>>,
    cancel_at: Option<Instant>,
) -> Landing {
    let landing = tokio::select! {
        biased;
        end = &mut call => match end {
            Ok(end) => Landing::Returned(end),
            Err(payload) => Landing::Panicked(payload),
        },
        () = reach(cancel_at) => Landing::Cancelled,
    };
    match catch_unwind(AssertUnwindSafe(|| drop(call))) {
        Ok(()) => landing,
        Err(payload) => Landing::Panicked(payload),
    }
}

/// Waits for a moment, to within microseconds; for `None` it waits for ever.
///
/// The timer alone has a tick of a millisecond, in which a whole op fits on a local server: all
/// cancellations would come just before an op begins or after it ended.
///
/// # Cancel safety
/// Safe: it keeps no state.
async fn reach(at: Option<Instant>) {
    let Some(at) = at else {
        return std::future::pending().await;
    };
    if let Some(before) = at.checked_sub(TIMER_TICK) {
        sleep_until(before).await;
    }
    let mut last = None;
    loop {
        let now = Instant::now();
        if now >= at {
            return;
        }
        if last == Some(now) {
            // A paused clock moves only while everybody sleeps.
            return sleep_until(at).await;
        }
        last = Some(now);
        tokio::task::yield_now().await;
    }
}
