//! The open-loop driver: starts each op at its time, whatever became of those before.
//!
//! A closed loop would send less as soon as the pool gets slow, and so leave out the very ops
//! that would have suffered (coordinated omission). Here a slow pool meets the full load, and
//! latency counts from the intended start.
//!
//! Not here: deadlines. A subject bounds its ops; one that does not is found out by
//! [`Running::finish`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use poolproof_oracle::{GRACE_US, OpRecord};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::flight::Flight;
use crate::gauges::Gauges;
use crate::leases::Leases;
use crate::schedule::Schedule;
use crate::subject::{Subject, Trace, micros_since};

/// How often a long wait is looked at, to find out whether this process was held up in it.
const STEP: Duration = Duration::from_secs(1);

/// How long aborted ops get to be dropped. One whose drop blocks its thread is left behind.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// A wait without end, in effect: a month fits every clock.
const FOREVER: Duration = Duration::from_hours(30 * 24);

/// Starts to put a schedule's ops to a subject, time 0 of the schedule being `origin`.
///
/// Each op runs in a task of its own. An `origin` in the future delays the load; one in the past
/// makes the ops that are already due start at once, and late.
///
/// # Panics
/// Outside a tokio runtime with time enabled.
#[must_use = "dropping it aborts the load"]
pub fn start(subject: Arc<dyn Subject>, schedule: Arc<Schedule>, origin: Instant) -> Running {
    let gauges = Arc::new(Gauges::default());
    let (stop, stopped) = watch::channel(false);
    let (done, arrivals_done) = watch::channel(false);
    let pacer = Pacer {
        subject,
        schedule,
        origin,
        gauges: Arc::clone(&gauges),
        leases: Arc::default(),
        stopped,
        airborne: Airborne::default(),
    };
    let mut task = JoinSet::new();
    task.spawn(async move {
        let airborne = pacer.pace().await;
        done.send_replace(true);
        airborne
    });
    Running {
        task,
        origin,
        gauges,
        stop,
        arrivals_done,
    }
}

/// A load on its way. Dropping it aborts the load and every op in flight.
#[derive(Debug)]
pub struct Running {
    /// One task: the pacer.
    task: JoinSet<Airborne>,
    origin: Instant,
    gauges: Arc<Gauges>,
    stop: watch::Sender<bool>,
    arrivals_done: watch::Receiver<bool>,
}

/// What came of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// One record per op that was started, by id.
    pub records: Vec<OpRecord>,
    /// From the last start to the last end, zero for a load without ops; none when an op never
    /// ended.
    pub quiescent_after: Option<Duration>,
}

impl Running {
    /// Returns the live counts.
    #[must_use]
    pub fn gauges(&self) -> Arc<Gauges> {
        Arc::clone(&self.gauges)
    }

    /// Starts no further ops. Those in flight go on.
    pub fn stop_arrivals(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the last op was started, or arrivals were stopped.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn arrivals_done(&self) {
        // An error means that the pacer is gone, and with it the arrivals; `finish` says why.
        drop(self.arrivals_done.clone().wait_for(|done| *done).await);
    }

    /// Waits for the remaining arrivals, then at most `quiescence` for the ops in flight, then
    /// aborts those that are left.
    ///
    /// Time in which this process was held up (stopped, or not scheduled) does not count: whatever
    /// was due meanwhile gets its chance afterwards.
    ///
    /// An aborted op becomes a record without `ended_us`: [`poolproof_oracle::Outcome::Info`] if
    /// its COMMIT was sent, else [`poolproof_oracle::Outcome::Fail`]. Its category is
    /// [`poolproof_oracle::ErrorCategory::Deadline`] when its deadline had come (and
    /// [`GRACE_US`] more had passed), else [`poolproof_oracle::ErrorCategory::CutShort`]. Its
    /// future is dropped within a second, unless it blocks its thread in doing so.
    ///
    /// # Panics
    /// When the driver itself panicked.
    /// # Cancel safety
    /// Not safe: dropping the future aborts the load and loses its records.
    pub async fn finish(mut self, quiescence: Duration) -> Finished {
        let origin = self.origin;
        let pacer = self.task.join_next().await;
        let mut airborne = joined(pacer.expect("bug: the driver has one pacer"))
            .expect("bug: nobody aborts the pacer while its driver is alive");
        airborne.land_within(quiescence).await;
        airborne.abort(micros_since(origin)).await;
        let mut records = airborne.records;
        records.sort_unstable_by_key(|record| record.id);
        Finished {
            quiescent_after: quiescent_after(&records),
            records,
        }
    }
}

/// Starts ops at their times.
struct Pacer {
    subject: Arc<dyn Subject>,
    schedule: Arc<Schedule>,
    origin: Instant,
    gauges: Arc<Gauges>,
    leases: Arc<Leases>,
    stopped: watch::Receiver<bool>,
    airborne: Airborne,
}

impl Pacer {
    async fn pace(mut self) -> Airborne {
        for index in 0..self.schedule.ops.len() {
            let at = Duration::from_micros(self.schedule.ops[index].at_us);
            if !self.reach(self.origin + at).await {
                break;
            }
            self.start(index);
            self.airborne.reap();
        }
        self.airborne
    }

    /// Waits for a moment; returns false when arrivals were stopped before.
    async fn reach(&mut self, at: Instant) -> bool {
        tokio::select! {
            biased;
            // An error means that nobody is left to stop the arrivals, nor to want them.
            _ = self.stopped.wait_for(|stopped| *stopped) => false,
            () = sleep_until(at) => true,
        }
    }

    fn start(&mut self, index: usize) {
        let id = self.schedule.ops[index].id;
        let flight = Arc::new(Flight::new(
            Arc::clone(&self.schedule),
            index,
            Trace::among(Arc::clone(&self.leases), id, self.origin),
            Arc::clone(&self.gauges),
        ));
        self.gauges.op_started();
        self.airborne.start(flight, Arc::clone(&self.subject));
    }
}

/// Ops started and not yet reaped, and the records of the others.
#[derive(Debug, Default)]
struct Airborne {
    tasks: JoinSet<OpRecord>,
    flights: BTreeMap<u64, Arc<Flight>>,
    records: Vec<OpRecord>,
}

impl Airborne {
    fn start(&mut self, flight: Arc<Flight>, subject: Arc<dyn Subject>) {
        self.flights.insert(flight.op().id, Arc::clone(&flight));
        self.tasks.spawn(async move { flight.fly(&*subject).await });
    }

    /// Takes the records of ops that ended.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.land(joined(ended).expect("bug: nobody aborted an op"));
        }
    }

    /// Takes records until every op ended, for at most `wait` in which this process could run.
    async fn land_within(&mut self, wait: Duration) {
        let mut end = after(wait);
        loop {
            let look = end.min(after(STEP));
            while let Ok(ended) = timeout_at(look, self.tasks.join_next()).await {
                let Some(ended) = ended else { return };
                self.land(joined(ended).expect("bug: nobody aborted an op"));
            }
            let late = look.elapsed();
            if late > Duration::from_micros(GRACE_US) {
                end += late;
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// Aborts the ops in flight, which nobody waits for after `given_up_us`, and records each as
    /// never ended.
    async fn abort(&mut self, given_up_us: u64) {
        self.tasks.abort_all();
        let deadline = after(ABORT_GRACE);
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next()).await {
            // An op may end at the last moment. An error is the abortion, or the subject's panic
            // while it was dropped; either way the op never ended.
            if let Ok(record) = ended {
                self.land(record);
            }
        }
        let stuck = std::mem::take(&mut self.flights);
        self.records
            .extend(stuck.values().map(|flight| flight.never_ended(given_up_us)));
    }

    fn land(&mut self, record: OpRecord) {
        self.flights.remove(&record.id);
        self.records.push(record);
    }
}

/// Returns what a task came to, or nothing if it was aborted; hands on its panic.
fn joined<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            Err(_aborted) => None,
        },
    }
}

fn after(wait: Duration) -> Instant {
    Instant::now() + wait.min(FOREVER)
}

fn quiescent_after(records: &[OpRecord]) -> Option<Duration> {
    let ends: Option<Vec<u64>> = records.iter().map(|record| record.ended_us).collect();
    let last_end = ends?.into_iter().max().unwrap_or(0);
    let last_start = records.iter().map(|record| record.started_us).max();
    Some(Duration::from_micros(
        last_end.saturating_sub(last_start.unwrap_or(0)),
    ))
}
