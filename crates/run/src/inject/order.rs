//! The order of the faults: some wait for the subject, and the others for them.

use std::time::Duration;

use poolproof_oracle::{FaultEvent, FaultPlanned};
use tokio::sync::watch;

use crate::scenario::{FaultKind, FaultPlan};
use crate::time::micros;

/// The place of one fault among the others.
pub(super) struct Order<'a> {
    pub(super) plans: &'a [FaultPlan],
    pub(super) index: usize,
    /// Which faults are over, by index.
    pub(super) done: &'a watch::Sender<Vec<bool>>,
}

impl Order<'_> {
    pub(super) fn plan(&self) -> &FaultPlan {
        &self.plans[self.index]
    }

    /// Waits until the earlier faults of the same kind are over.
    pub(super) async fn after_its_kind(&self) {
        let word = self.plan().kind.word();
        self.over(|index, plan| index < self.index && plan.kind.word() == word)
            .await;
    }

    /// Waits until the faults of one moment that were planned within this one have come.
    pub(super) async fn after_those_within(&self) {
        let window = self.plan();
        self.over(|_, plan| plan.duration.is_none() && covers(window, plan.at))
            .await;
    }

    /// Returns the latency that is planned to be in force at its moment.
    pub(super) fn latency(&self) -> Duration {
        let latency = |window: &FaultPlan| match window.kind {
            FaultKind::Latency { latency, .. } if covers(window, self.plan().at) => Some(latency),
            _ => None,
        };
        self.plans
            .iter()
            .filter_map(latency)
            .max()
            .unwrap_or_default()
    }

    async fn over(&self, of: impl Fn(usize, &FaultPlan) -> bool) {
        let over = |done: &Vec<bool>| {
            let mut faults = self.plans.iter().enumerate();
            faults.all(|(index, plan)| done[index] || !of(index, plan))
        };
        let mut done = self.done.subscribe();
        drop(
            done.wait_for(over)
                .await
                .expect("bug: this fault holds the sender"),
        );
    }
}

/// Whether a fault with a duration is planned to be in force at a moment.
fn covers(window: &FaultPlan, at: Duration) -> bool {
    window.duration.is_some() && window.at <= at && at < window.end()
}

/// Returns when a fault was to happen.
pub(super) fn planned(plans: &[FaultPlan], plan: &FaultPlan) -> FaultPlanned {
    let others = plans.iter().filter(|other| other.name != plan.name);
    FaultPlanned {
        start_us: micros(plan.at),
        end_us: micros(plan.end()),
        within: others
            .filter(|other| covers(other, plan.at))
            .map(|other| other.name.clone())
            .collect(),
    }
}

/// Tells of each fault which others were in force when it was injected.
pub(crate) fn tell_what_was_in_force(events: &mut [FaultEvent]) {
    let windows: Vec<_> = events
        .iter()
        .filter(|event| event.effect.seen && event.end_us > event.start_us)
        .map(|event| (event.name.clone(), event.start_us..event.end_us))
        .collect();
    for event in events {
        let others = windows.iter().filter(|(name, _)| *name != event.name);
        let in_force = others.filter(|(_, window)| window.contains(&event.start_us));
        event.within = in_force.map(|(name, _)| name.clone()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::{describe, missed};
    use crate::scenario::FaultKind;

    fn plan(name: &str, kind: FaultKind, at_s: u64, lasts_s: Option<u64>) -> FaultPlan {
        FaultPlan {
            name: name.to_owned(),
            kind,
            at: Duration::from_secs(at_s),
            duration: lasts_s.map(Duration::from_secs),
        }
    }

    fn plans() -> Vec<FaultPlan> {
        let reset = FaultKind::Reset {
            commits_in_flight: 4,
        };
        let slow = FaultKind::Bandwidth { rate_kb_s: 1 };
        vec![
            plan("slow", slow, 5, Some(3)),
            plan("first", reset, 5, None),
            plan("second", reset, 6, None),
            plan("slow again", slow, 8, Some(1)),
            plan("third", reset, 8, None),
        ]
    }

    /// Whether a wait is over once the faults of the given indices are.
    async fn over(index: usize, finished: &[usize], wait: Wait) -> bool {
        let plans = plans();
        let done = (0..plans.len()).map(|i| finished.contains(&i)).collect();
        let (done, _) = watch::channel(done);
        let order = Order {
            plans: &plans,
            index,
            done: &done,
        };
        let waited = async {
            match wait {
                Wait::Kind => order.after_its_kind().await,
                Wait::Within => order.after_those_within().await,
            }
        };
        tokio::select! {
            biased;
            () = waited => true,
            () = std::future::ready(()) => false,
        }
    }

    #[derive(Clone, Copy)]
    enum Wait {
        Kind,
        Within,
    }

    #[tokio::test]
    async fn faults_of_one_kind_come_one_after_the_other() {
        assert!(over(0, &[], Wait::Kind).await);
        assert!(over(1, &[], Wait::Kind).await);
        assert!(!over(2, &[0, 3], Wait::Kind).await);
        assert!(over(2, &[1], Wait::Kind).await);
        assert!(!over(3, &[1, 2], Wait::Kind).await);
        assert!(over(3, &[0], Wait::Kind).await);
    }

    #[tokio::test]
    async fn a_window_lasts_until_the_faults_planned_within_it_have_come() {
        assert!(!over(0, &[1], Wait::Within).await);
        assert!(over(0, &[1, 2], Wait::Within).await);
        assert!(over(3, &[4], Wait::Within).await);
    }

    #[test]
    fn a_fault_outside_the_window_that_the_plan_has_it_in_is_told() {
        let plans = plans();
        let happened = |index: usize, from_s: u64, until_s: u64| FaultEvent {
            start_us: from_s * 1_000_000,
            end_us: until_s * 1_000_000,
            effect: describe(Ok((1, "seen"))),
            ..missed(&plans, &plans[index])
        };
        let mut events = [
            happened(0, 5, 8),
            happened(1, 6, 6),
            happened(2, 9, 9),
            missed(&plans, &plans[3]),
            happened(4, 8, 8),
        ];
        tell_what_was_in_force(&mut events);
        let outside: Vec<_> = events.iter().map(FaultEvent::outside).collect();
        assert_eq!(
            outside,
            [vec![], vec![], vec!["slow"], vec![], vec!["slow again"]]
        );
        assert_eq!(events[1].within, ["slow"]);
    }
}
