//! The load, with the faults in it: from the first arrival until nothing is in flight.

use std::time::Duration;

use jiff::Timestamp;
use poolproof_load::{Finished, Gauges, Running, WeightedWorkload, Workload};
use poolproof_oracle::{CutShort, FaultEvent, GRACE_US, OpCounts, OpRecord, Stall, counts};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::claim::reconnected;
use crate::error::chain;
use crate::inject::{self, Aim};
use crate::interrupt::{Interrupt, InterruptTrigger};
use crate::namespace::BankReader;
use crate::progress::{Progress, ProgressSink, Tick};
use crate::pulse;
use crate::stage::{PROXY, Stage};
use crate::trial::Planned;
use crate::watch::{Seen, Watch};

/// How long quiescence is waited for.
pub(crate) const QUIESCENCE: Duration = Duration::from_secs(10);
/// How long it is waited for when the load was cut short.
const HURRIED: Duration = Duration::from_secs(2);
/// How often progress is told, and a private server looked at, while the load is on.
const TICK: Duration = Duration::from_millis(200);

/// What the load left.
pub(crate) struct Loaded {
    pub(crate) records: Vec<OpRecord>,
    pub(crate) faults: Vec<FaultEvent>,
    pub(crate) seen: Seen,
    /// When this process did not get to run, until the last op had ended.
    pub(crate) stalls: Vec<Stall>,
    /// Why and when it ended before its time, if it did.
    pub(crate) cut_short: Option<(CutShort, Duration)>,
    /// How long ops were offered.
    pub(crate) offered_for: Duration,
    /// From the last arrival to the last end; none when some op never ended.
    pub(crate) quiescent_after: Option<Duration>,
    pub(crate) started_at: Timestamp,
    pub(crate) origin: Instant,
    /// What went wrong beside the ops, for the reader.
    pub(crate) notes: Vec<String>,
}

/// Offers the load, injects the faults, heals them, and waits until nothing is in flight.
pub(crate) async fn drive(
    trial: &Planned,
    stage: &Stage<'_>,
    progress: &mut ProgressSink<'_>,
    interrupt: &Interrupt,
) -> Loaded {
    let mut notes = Vec::new();
    let mut seen = Seen::default();
    let bank = bank_reader(trial, stage, &mut seen).await;
    let origin = Instant::now();
    let started_at = Timestamp::now();
    let (quiet, ended) = Interrupt::new();
    let mut beating = JoinSet::new();
    beating.spawn(pulse::stalls(origin, ended));
    let running = poolproof_load::start(stage.subject.clone(), trial.schedule.clone(), origin);
    let (aim, end_faults, heard) = aim(stage, &running, origin);
    let faults = inject::start(&aim, &trial.trial.scenario.faults);
    let mut watch = Watch {
        subject: stage.subject.clone(),
        aim,
        bank,
    };
    let mut scene = Scene {
        trial,
        stage,
        interrupt,
        origin,
        heard,
        progress,
    };
    let cut_short = tokio::select! {
        cut_short = scene.offer(&running) => cut_short,
        never = watch.run(&mut seen) => match never {},
    };
    running.stop_arrivals();
    let offered_for = origin.elapsed();
    end_faults.trigger();
    let faults = tokio::select! {
        faults = scene.heal(faults, cut_short, &mut notes) => faults,
        never = watch.run(&mut seen) => match never {},
    };
    let finished = tokio::select! {
        finished = running.finish(wait(trial, cut_short)) => finished,
        never = watch.run(&mut seen) => match never {},
    };
    quiet.trigger();
    let stalls = beating.join_next().await.and_then(Result::ok);
    watch.look(&mut seen);
    scene.quiesced(offered_for, &finished);
    let reconnects = watch.bank.map_or(0, |bank| bank.reconnects());
    notes.extend(reconnected("the bank's reader", reconnects));
    Loaded {
        records: finished.records,
        faults,
        seen,
        stalls: stalls.expect("bug: nobody aborts the pulse"),
        cut_short: cut_short.map(|reason| (reason, offered_for)),
        offered_for,
        quiescent_after: finished.quiescent_after,
        started_at,
        origin,
        notes,
    }
}

/// Returns how long the ops in flight are waited for: until each of them has had to end, unless the
/// load was cut short.
fn wait(trial: &Planned, cut_short: Option<CutShort>) -> Duration {
    match cut_short {
        Some(_) => HURRIED,
        None => {
            QUIESCENCE.max(trial.trial.scenario.load.deadline + 2 * Duration::from_micros(GRACE_US))
        }
    }
}

/// Connects the reader of the bank's total, where there is a bank.
async fn bank_reader(trial: &Planned, stage: &Stage<'_>, seen: &mut Seen) -> Option<BankReader> {
    let banked = |weighted: &WeightedWorkload| matches!(weighted.workload, Workload::Bank { .. });
    if !trial.trial.scenario.load.workloads.iter().any(banked) {
        return None;
    }
    match BankReader::connect(&stage.bench.direct, &stage.schema).await {
        Ok(reader) => Some(reader),
        Err(error) => {
            let problem = chain(&error);
            seen.bank_unseen = Some(format!("the bank could not be watched: {problem}"));
            None
        }
    }
}

/// Aims the faults at the stage; what they say comes out of the receiver, and they end with the
/// trigger.
fn aim(
    stage: &Stage<'_>,
    running: &Running,
    origin: Instant,
) -> (Aim, InterruptTrigger, mpsc::UnboundedReceiver<Progress>) {
    let (end_faults, ended) = Interrupt::new();
    let (progress, heard) = mpsc::unbounded_channel();
    let aim = Aim {
        proxies: stage.proxies.clone(),
        proxy: PROXY.to_owned(),
        direct: stage.bench.direct.clone(),
        application_name: stage.application_name.clone(),
        gauges: running.gauges(),
        origin,
        progress,
        ended,
    };
    (aim, end_faults, heard)
}

/// The load as the user sees it.
struct Scene<'a, 'p> {
    trial: &'a Planned,
    stage: &'a Stage<'a>,
    interrupt: &'a Interrupt,
    origin: Instant,
    heard: mpsc::UnboundedReceiver<Progress>,
    progress: &'a mut ProgressSink<'p>,
}

impl Scene<'_, '_> {
    /// Tells how the load goes on until the last arrival, and why it ended early if it did.
    async fn offer(&mut self, running: &Running) -> Option<CutShort> {
        let spec = &self.trial.trial.scenario.load;
        (self.progress)(Progress::PhaseStarted {
            name: "load".to_owned(),
            detail: format!(
                "{} ops/s for {} s",
                spec.rate_per_s,
                spec.duration.as_secs_f64()
            ),
        });
        let gauges = running.gauges();
        let end = self.origin + spec.duration;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                // The load lasts as long as was asked, also when its last arrival came earlier.
                () = tokio::time::sleep_until(end) => break None,
                () = self.interrupt.triggered() => break Some(CutShort::Interrupted),
                Some(news) = self.heard.recv() => (self.progress)(news),
                _ = ticks.tick() => {
                    if self.stage.bench.is_gone() {
                        break Some(CutShort::ServerLost);
                    }
                    let tick = self.tick(&gauges);
                    (self.progress)(Progress::Tick(tick));
                }
            }
        }
    }

    /// Waits for the faults to be undone and makes sure that nothing of them is left.
    async fn heal(
        &mut self,
        mut faults: JoinSet<(usize, Option<FaultEvent>)>,
        cut_short: Option<CutShort>,
        notes: &mut Vec<String>,
    ) -> Vec<FaultEvent> {
        let plans = &self.trial.trial.scenario.faults;
        let mut events: Vec<Option<FaultEvent>> = vec![None; plans.len()];
        while let Some(joined) = faults.join_next().await {
            match joined {
                Ok((index, event)) => events[index] = event,
                Err(error) => notes.push(format!("a fault ended in a panic: {error}")),
            }
        }
        // A load that was cut short owes no fault; in any other one that is missing counts.
        if cut_short.is_none() {
            for (event, plan) in events.iter_mut().zip(plans) {
                event.get_or_insert_with(|| inject::missed(plans, plan));
            }
        }
        while let Ok(news) = self.heard.try_recv() {
            (self.progress)(news);
        }
        if let Err(error) = self.stage.proxies.reset().await {
            notes.push(format!("the fault proxy could not be healed: {error}"));
        }
        let mut events: Vec<_> = events.into_iter().flatten().collect();
        events.sort_by_key(|event| event.start_us);
        inject::tell_what_was_in_force(&mut events);
        events
    }

    /// Tells what the load came to, once nothing is in flight or no longer waited for.
    fn quiesced(&mut self, offered_for: Duration, finished: &Finished) {
        let counted = counts(&finished.records);
        let OpCounts {
            offered,
            ok,
            info,
            shed,
            planned_fail,
            ..
        } = counted;
        let quiet = match (finished.quiescent_after, counted.stuck) {
            (Some(after), _) => {
                format!("all ended {} ms after the last arrival", after.as_millis())
            }
            (None, 0) => "the others were cut short".to_owned(),
            (None, stuck) => format!("{stuck} never ended"),
        };
        let failed = counted.unplanned_fail();
        (self.progress)(Progress::PhaseEnded {
            name: "load".to_owned(),
            detail: format!(
                "{offered} operations: {ok} ok, {planned_fail} broken off as planned, {failed} \
                 failed, {shed} shed, {info} in doubt; {quiet}"
            ),
            took: offered_for,
        });
    }

    fn tick(&self, gauges: &Gauges) -> Tick {
        Tick {
            at: self.origin.elapsed(),
            duration: self.trial.trial.scenario.load.duration,
            started: gauges.started(),
            ok: gauges.ok(),
            fail: gauges.fail(),
            info: gauges.info(),
            shed: gauges.shed(),
            broken_off: gauges.broken_off(),
            in_flight: gauges.in_flight(),
        }
    }
}
