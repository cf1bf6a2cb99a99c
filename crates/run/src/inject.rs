//! Injects the faults of a scenario at their times, sees their effect, and heals them.
//!
//! Each fault is a task of its own: it waits for its time, notes what the proxy counted so far,
//! injects, reads the toxic back, waits for its end, heals, and compares. A fault whose effect was
//! not seen says so in its event; what depends on it is not judged as if it had happened.

mod moment;
mod order;

use std::time::Duration;

use poolproof_faults::{Proxies, ProxyPatch, ProxyStats, Stream, Toxic, ToxicSpec};
use poolproof_load::Gauges;
use poolproof_oracle::{FaultEffect, FaultEvent};
use poolproof_testbed::{Admin, ServerFault};
use sqlx::postgres::PgConnectOptions;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::chain;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::scenario::{FaultKind, FaultPlan};
use crate::time::micros;

use moment::InFlight;
use order::Order;
pub(crate) use order::tell_what_was_in_force;

/// How long a fault waits for the moment that it needs (commits in flight, an open transaction):
/// longer than a busy machine takes to get there, for the run is invalid otherwise.
const MOMENT: Duration = Duration::from_secs(5);
/// How often it looks for that moment: well below the latency that keeps commits in flight.
const LOOK: Duration = Duration::from_millis(1);
/// How long the effect of an instant fault may take to show.
const EFFECT: Duration = Duration::from_secs(2);

/// What the faults of a run are aimed at.
#[derive(Clone)]
pub(crate) struct Aim {
    pub(crate) proxies: Proxies,
    pub(crate) proxy: String,
    /// Straight to the server, for server faults.
    pub(crate) direct: PgConnectOptions,
    pub(crate) application_name: String,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) origin: Instant,
    pub(crate) progress: mpsc::UnboundedSender<Progress>,
    /// Pulled when the load is over or cut short: windows end, what has not begun stays undone.
    pub(crate) ended: Interrupt,
}

/// Starts one task per fault; the plans are in the order of their times.
///
/// Some faults wait for the subject (commits in flight, an open transaction), and another subject
/// lets them come at another time. So that they meet the same conditions all the same, faults of
/// one kind come one after the other, and a fault with a duration lasts until those that were
/// planned within it have come.
pub(crate) fn start(aim: &Aim, plans: &[FaultPlan]) -> JoinSet<(usize, Option<FaultEvent>)> {
    let plans: Arc<[FaultPlan]> = plans.into();
    let (done, _) = watch::channel(vec![false; plans.len()]);
    let done = Arc::new(done);
    let mut tasks = JoinSet::new();
    for index in 0..plans.len() {
        let (aim, plans, done) = (aim.clone(), Arc::clone(&plans), Arc::clone(&done));
        tasks.spawn(async move {
            let order = Order {
                plans: &plans,
                index,
                done: &done,
            };
            let event = run_one(&aim, &order).await;
            done.send_modify(|done| done[index] = true);
            (index, event)
        });
    }
    tasks
}

/// Toxics for a time, and what proves their effect.
struct Window {
    toxics: Vec<(Stream, Toxic)>,
    count: fn(&ProxyStats) -> u64,
    unit: &'static str,
}

impl Window {
    /// Everything is swallowed, in both directions.
    fn silence() -> Self {
        let toxic = Toxic::Timeout { timeout_ms: 0 };
        Self {
            toxics: vec![(Stream::Upstream, toxic), (Stream::Downstream, toxic)],
            count: |stats| stats.swallowed_bytes,
            unit: "bytes swallowed",
        }
    }

    /// Half of a round trip's delay on the way there, half on the way back.
    ///
    /// A reset then meets COMMITs of both kinds: some have reached the server and some have not,
    /// so that neither optimism nor pessimism about a commit in doubt is right by accident.
    fn latency(latency: Duration, jitter: Duration) -> Self {
        let (latency, jitter) = (millis(latency), millis(jitter));
        let half = |latency_ms, jitter_ms| Toxic::Latency {
            latency_ms,
            jitter_ms,
        };
        Self::holding(vec![
            (Stream::Upstream, half(latency / 2, jitter / 2)),
            (
                Stream::Downstream,
                half(latency - latency / 2, jitter - jitter / 2),
            ),
        ])
    }

    /// What passes is held back, and nothing is lost.
    fn holding(toxics: Vec<(Stream, Toxic)>) -> Self {
        Self {
            toxics,
            count: |stats| stats.held_total,
            unit: "bytes held",
        }
    }
}

/// What was seen of a fault, before it is put into words.
type Seen = Result<(u64, &'static str), String>;

/// Runs one fault from its time to its end; none when the load ended before its time.
async fn run_one(aim: &Aim, order: &Order<'_>) -> Option<FaultEvent> {
    let plan = order.plan();
    let due = async {
        tokio::time::sleep_until(aim.origin + plan.at).await;
        order.after_its_kind().await;
    };
    tokio::select! {
        () = due => {}
        () = aim.ended.triggered() => return None,
    }
    let mut start = aim.origin.elapsed();
    aim.say(Progress::FaultStarted {
        name: plan.name.clone(),
        title: plan.kind.title(),
        at: start,
    });
    let seen = match plan.kind {
        FaultKind::Reset { commits_in_flight } => {
            let latency = order.latency();
            let met = aim.commits_in_flight(commits_in_flight, latency).await;
            start = aim.origin.elapsed();
            if met {
                aim.reset().await
            } else {
                Err(too_few_commits(commits_in_flight))
            }
        }
        FaultKind::TerminateBackend { target } => {
            let seen = aim
                .terminate(ServerFault::TerminateBackend { target })
                .await;
            start = aim.origin.elapsed();
            seen
        }
        FaultKind::Down => aim.down(order).await,
        FaultKind::Latency { latency, jitter } => {
            aim.window(order, &Window::latency(latency, jitter)).await
        }
        FaultKind::Bandwidth { rate_kb_s } => {
            let toxic = Toxic::Bandwidth { rate_kb_s };
            aim.window(order, &Window::holding(vec![(Stream::Downstream, toxic)]))
                .await
        }
        FaultKind::Silence => aim.window(order, &Window::silence()).await,
    };
    let now = aim.origin.elapsed();
    let end = if plan.duration.is_some() { now } else { start };
    let effect = describe(seen);
    aim.say(Progress::FaultEnded {
        name: plan.name.clone(),
        effect: phrase(&effect),
        at: now,
    });
    Some(FaultEvent {
        name: plan.name.clone(),
        kind: plan.kind.word().to_owned(),
        title: plan.kind.title(),
        start_us: micros(start),
        end_us: micros(end),
        effect,
        planned: Some(order::planned(order.plans, plan)),
        within: Vec::new(),
    })
}

/// Returns the event of a fault that was to happen and did not.
pub(crate) fn missed(plans: &[FaultPlan], plan: &FaultPlan) -> FaultEvent {
    FaultEvent {
        name: plan.name.clone(),
        kind: plan.kind.word().to_owned(),
        title: plan.kind.title(),
        start_us: micros(plan.at),
        end_us: micros(plan.end()),
        effect: describe(Err("it never happened".to_owned())),
        planned: Some(order::planned(plans, plan)),
        within: Vec::new(),
    }
}

impl Aim {
    fn say(&self, news: Progress) {
        // The receiver is gone only when the run itself is being dropped.
        drop(self.progress.send(news));
    }

    pub(crate) fn stats(&self) -> Result<ProxyStats, String> {
        self.proxies
            .stats(&self.proxy)
            .map_err(|error| error.to_string())
    }

    /// Waits for a window's end, or for the end of the load.
    async fn wait_out(&self, order: &Order<'_>) {
        let over = async {
            tokio::time::sleep_until(self.origin + order.plan().end()).await;
            order.after_those_within().await;
        };
        tokio::select! {
            () = over => {}
            () = self.ended.triggered() => {}
        }
    }

    /// Waits until at least `wanted` commits are in flight, and the best moment for a reset that comes
    /// within the time that there is for it.
    async fn commits_in_flight(&self, wanted: u32, latency: Duration) -> bool {
        let began = Instant::now();
        loop {
            let in_flight = InFlight {
                sent_us: self.gauges.commits_sent_us(),
                now_us: micros(self.origin.elapsed()),
                latency_us: micros(latency),
            };
            let waited = began.elapsed();
            if in_flight.is_the_moment(wanted, waited) {
                return true;
            }
            if waited >= MOMENT || self.ended.is_triggered() {
                return false;
            }
            pause().await;
        }
    }

    async fn reset(&self) -> Seen {
        let before = self.stats()?.links_reset_total;
        let asked = self
            .proxies
            .reset_links(&self.proxy)
            .map_err(|error| error.to_string())?;
        let until = Instant::now() + EFFECT;
        loop {
            let reset = self.stats()?.links_reset_total - before;
            if reset >= asked || Instant::now() >= until {
                return some(
                    reset,
                    plural(reset, "link reset", "links reset"),
                    "no link was open that could be reset",
                );
            }
            pause().await;
        }
    }

    async fn terminate(&self, fault: ServerFault) -> Seen {
        let mut admin = Admin::connect(self.direct.clone())
            .await
            .map_err(|error| chain(&error))?;
        let effect = admin
            .inject(&fault, &self.application_name, MOMENT)
            .await
            .map_err(|error| chain(&error))?;
        let count = u64::try_from(effect.backends.len()).unwrap_or(u64::MAX);
        some(
            count,
            plural(count, "backend terminated", "backends terminated"),
            "no backend was there to be terminated",
        )
    }

    async fn down(&self, order: &Order<'_>) -> Seen {
        let before = self.stats()?.live_links;
        let off = ProxyPatch {
            enabled: Some(false),
            ..ProxyPatch::default()
        };
        let view = self
            .proxies
            .update(&self.proxy, off)
            .await
            .map_err(|error| chain(&error))?;
        let refused = !view.enabled && self.stats()?.live_links == 0;
        self.wait_out(order).await;
        let on = ProxyPatch {
            enabled: Some(true),
            ..ProxyPatch::default()
        };
        let healed = self
            .proxies
            .update(&self.proxy, on)
            .await
            .map_err(|error| chain(&error))?;
        if !healed.enabled || !refused {
            return Err("the proxy did not go down and come back".to_owned());
        }
        some(
            before,
            plural(before, "link closed", "links closed"),
            "no link was open that could be closed",
        )
    }

    /// Puts a toxic on its streams for the length of the fault.
    async fn window(&self, order: &Order<'_>, window: &Window) -> Seen {
        let before = (window.count)(&self.stats()?);
        let mut names = Vec::new();
        for &(stream, toxic) in &window.toxics {
            let name = format!("{}-{}", order.plan().kind.word(), stream.as_str());
            let spec = ToxicSpec::new(toxic, stream).named(&name);
            let added = self.proxies.add_toxic(&self.proxy, spec).await;
            added.map_err(|error| chain(&error))?;
            names.push(name);
        }
        let present = self.read_back(&names).await;
        self.wait_out(order).await;
        let after = (window.count)(&self.stats()?);
        for name in &names {
            let removed = self.proxies.remove_toxic(&self.proxy, name).await;
            removed.map_err(|error| chain(&error))?;
        }
        present?;
        let otherwise = "nothing passed through the proxy while it was on";
        some(after - before, window.unit, otherwise)
    }

    /// Checks that the proxy lists the toxics that were just added.
    async fn read_back(&self, names: &[String]) -> Result<(), String> {
        let listed = self
            .proxies
            .toxics(&self.proxy)
            .await
            .map_err(|error| chain(&error))?;
        match names
            .iter()
            .find(|name| !listed.iter().any(|toxic| toxic.name == **name))
        {
            None => Ok(()),
            Some(name) => Err(format!("the proxy does not list the toxic {name}")),
        }
    }
}

fn some(count: u64, unit: &'static str, otherwise: &str) -> Seen {
    if count > 0 {
        Ok((count, unit))
    } else {
        Err(otherwise.to_owned())
    }
}

fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

fn describe(seen: Seen) -> FaultEffect {
    match seen {
        Ok((count, unit)) => FaultEffect {
            seen: true,
            count,
            unit: unit.to_owned(),
            problem: None,
        },
        Err(problem) => FaultEffect {
            seen: false,
            count: 0,
            unit: String::new(),
            problem: Some(problem),
        },
    }
}

fn phrase(effect: &FaultEffect) -> String {
    match &effect.problem {
        None => format!("{} {}", effect.count, effect.unit),
        Some(problem) => format!("no effect: {problem}"),
    }
}

fn too_few_commits(wanted: u32) -> String {
    format!(
        "there were never {wanted} commits in flight within {} s",
        MOMENT.as_secs()
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gap between two looks at a live gauge"
)]
async fn pause() {
    tokio::time::sleep(LOOK).await;
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
