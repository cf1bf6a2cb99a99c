//! Judges the objectives of a scenario: response outside the faults, and recovery from each.

use std::ops::Range;
use std::time::Duration;

use poolproof_oracle::{Answers, GuaranteeStatus, OpRecord, answers, lag_limit_us};
use poolproof_report::{FaultReport, ObjectiveResult};

use crate::scenario::{ObjectiveSection, format_duration};
use crate::time::micros;

/// What the objectives are judged by.
pub(crate) struct Measured<'a> {
    pub(crate) objective: &'a ObjectiveSection,
    pub(crate) records: &'a [OpRecord],
    pub(crate) faults: &'a [FaultReport],
    pub(crate) load_end: Duration,
    pub(crate) lag_p99: Duration,
}

impl Measured<'_> {
    /// Whether the generator kept up, so that times say something about the pool.
    pub(crate) fn kept_up(&self) -> bool {
        micros(self.lag_p99) <= lag_limit_us(micros(self.objective.target()))
    }

    /// Judges each objective that the scenario sets, the response first.
    pub(crate) fn judge(&self) -> Vec<ObjectiveResult> {
        let response = self.objective.response.map(|limit| self.response(limit));
        let recoveries = self.objective.recovery.into_iter();
        let recoveries =
            recoveries.flat_map(|limit| self.faults.iter().map(move |f| self.recovery(f, limit)));
        response.into_iter().chain(recoveries).collect()
    }

    fn response(&self, limit: Duration) -> ObjectiveResult {
        let disturbed: Vec<_> = self.faults.iter().filter_map(disturbed).collect();
        let seen = answers(self.records, &disturbed, micros(limit));
        let status = match seen {
            None => GuaranteeStatus::NotChecked(
                "response: no arrival lay outside the faults and their recoveries; give the load \
                 more time without faults"
                    .to_owned(),
            ),
            Some(Answers {
                p99_us: Some(us), ..
            }) if us <= micros(limit) => GuaranteeStatus::Held,
            Some(_) => self.missed("response"),
        };
        let measured = seen.map_or("nothing to measure".to_owned(), |seen| {
            let of = format!("{} arrivals outside faults and recoveries", seen.arrivals);
            match seen.p99_us {
                // Tenths of a millisecond: a p99 is not known any better.
                Some(us) => {
                    let p99 = Duration::from_micros((us + 50) / 100 * 100);
                    format!("{} for {of}", format_duration(p99))
                }
                None => format!("none, {} failed of {of}", seen.failed),
            }
        });
        ObjectiveResult {
            name: "response".to_owned(),
            summary: format!("p99 at most {}: {measured}", format_duration(limit)),
            status,
        }
    }

    fn recovery(&self, fault: &FaultReport, limit: Duration) -> ObjectiveResult {
        let name = &fault.event.name;
        let measured = fault.recovery_us.map(Duration::from_micros);
        let end = Duration::from_micros(fault.event.end_us);
        let left = self.load_end.saturating_sub(end);
        let status = if !fault.event.effect.seen {
            GuaranteeStatus::NotChecked(format!("{name} had no effect to recover from"))
        } else if measured.is_some_and(|recovery| recovery <= limit) {
            GuaranteeStatus::Held
        } else if measured.is_none() && left < limit {
            GuaranteeStatus::NotChecked(format!(
                "no recovery from {name} before the load ended {} later, within the {} that it may \
                 take: let the load last longer",
                format_duration(left),
                format_duration(limit)
            ))
        } else {
            self.missed(&format!("recovery from {name}"))
        };
        let measured = measured.map_or("not within the load".to_owned(), format_duration);
        ObjectiveResult {
            name: format!("recovery from {name}"),
            summary: format!("at most {}: {measured}", format_duration(limit)),
            status,
        }
    }

    /// A miss, which a lagging generator may have made. What was met counts all the same: lag only
    /// makes times longer.
    fn missed(&self, name: &str) -> GuaranteeStatus {
        if self.kept_up() {
            return GuaranteeStatus::Violated;
        }
        GuaranteeStatus::Void(format!(
            "{name} was missed while the generator lagged by {} at p99: run again on a quieter \
             machine",
            format_duration(self.lag_p99)
        ))
    }
}

/// From a fault's start to the end of its recovery, in microseconds.
fn disturbed(fault: &FaultReport) -> Option<Range<u64>> {
    let event = &fault.event;
    let until = fault
        .recovery_us
        .map_or(u64::MAX, |us| event.end_us.saturating_add(us));
    event.effect.seen.then_some(event.start_us..until)
}

#[cfg(test)]
mod tests {
    use poolproof_oracle::{Effect, Ending, FaultEffect, FaultEvent, Outcome};

    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Ten ops a second for ten seconds, of which those from `bad` on until `good` fail.
    fn records(bad: u64, good: u64) -> Vec<OpRecord> {
        let record = |id: u64| OpRecord {
            id,
            workload: "bank".to_owned(),
            ending: Ending::Commit,
            effect: Effect::WriteSet { tables: 1 },
            intended_us: id * SECOND / 10,
            started_us: id * SECOND / 10,
            deadline_us: SECOND,
            acquired_us: None,
            commit_sent_us: None,
            ended_us: Some(id * SECOND / 10 + 20_000),
            outcome: match (bad..good).contains(&id) {
                true => Outcome::Fail,
                false => Outcome::Ok,
            },
            error: None,
            backend_pid: None,
            previous_op: None,
            clean_probe: None,
        };
        (0..100).map(record).collect()
    }

    fn fault(seen: bool, recovery_us: Option<u64>) -> FaultReport {
        FaultReport {
            event: FaultEvent {
                name: "cut".to_owned(),
                kind: "reset".to_owned(),
                title: "reset".to_owned(),
                start_us: 5 * SECOND,
                end_us: 5 * SECOND,
                effect: FaultEffect {
                    seen,
                    count: 1,
                    unit: "links reset".to_owned(),
                    problem: None,
                },
                planned: None,
                within: Vec::new(),
            },
            recovery_us,
            recovery_target_us: 250_000,
        }
    }

    fn judged(
        records: &[OpRecord],
        fault: FaultReport,
        lag_ms: u64,
    ) -> Vec<(String, GuaranteeStatus)> {
        let measured = Measured {
            objective: &ObjectiveSection {
                response: Some(Duration::from_millis(250)),
                recovery: Some(Duration::from_secs(4)),
            },
            records,
            faults: &[fault],
            load_end: Duration::from_secs(10),
            lag_p99: Duration::from_millis(lag_ms),
        };
        let judged = measured.judge().into_iter();
        judged.map(|o| (o.summary, o.status)).collect()
    }

    fn not_judged(status: &GuaranteeStatus) -> &str {
        match status {
            GuaranteeStatus::NotChecked(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_met_counts_whatever_the_lag_and_what_was_missed_only_without_lag() {
        use GuaranteeStatus::{Held, Violated, Void};
        // Limit: 5 % of 250 ms.
        for (lag_ms, within) in [(12, true), (13, false)] {
            let well = judged(&records(50, 60), fault(true, Some(SECOND)), lag_ms);
            let well: Vec<_> = well.into_iter().map(|(_, status)| status).collect();
            assert_eq!(well, [Held, Held]);
            for (summary, status) in
                judged(&records(20, 40), fault(true, Some(4 * SECOND + 1)), lag_ms)
            {
                let as_expected = match status {
                    Violated => within,
                    Void(_) => !within,
                    _ => false,
                };
                assert!(as_expected, "{lag_ms} ms: {summary}: {status:?}");
            }
        }
    }

    #[test]
    fn the_summary_says_the_target_and_what_was_measured() {
        let summaries = |records: &[OpRecord]| {
            let judged = judged(records, fault(true, Some(SECOND)), 0).into_iter();
            judged.map(|(summary, _)| summary).collect::<Vec<_>>()
        };
        assert_eq!(
            summaries(&records(50, 60)),
            [
                "p99 at most 250 ms: 20 ms for 88 arrivals outside faults and recoveries",
                "at most 4 s: 1 s"
            ]
        );
        assert_eq!(
            summaries(&records(20, 40))[0],
            "p99 at most 250 ms: none, 20 failed of 88 arrivals outside faults and recoveries"
        );
    }

    #[test]
    fn what_nobody_could_see_is_not_judged_and_the_reason_says_what_to_do() {
        let unrecovered = |fault, from: u64| {
            let mut judged = judged(&records(from, 100), fault, 0);
            judged.pop().map(|(_, status)| status)
        };
        let mut late = fault(true, None);
        (late.event.start_us, late.event.end_us) = (8 * SECOND, 8 * SECOND);
        let status = unrecovered(late, 80).unwrap();
        assert_eq!(
            not_judged(&status),
            "no recovery from cut before the load ended 2 s later, within the 4 s that it may take: \
             let the load last longer"
        );
        assert_eq!(
            unrecovered(fault(true, None), 50),
            Some(GuaranteeStatus::Violated)
        );
        let status = unrecovered(fault(false, Some(0)), 100).unwrap();
        assert_eq!(not_judged(&status), "cut had no effect to recover from");

        let mut whole = fault(true, None);
        whole.event.start_us = 0;
        let (_, status) = judged(&records(0, 100), whole, 0).swap_remove(0);
        assert!(not_judged(&status).starts_with("response: no arrival"));
    }
}
