//! Judges the objectives of a scenario: response outside the faults, and recovery from each.

use std::ops::Range;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answers::{Answers, answers, lag_limit_us};
use crate::figures::format_duration;
use crate::{FaultEvent, GuaranteeStatus, OpRecord};

/// The response that an op of a recovered second has to meet where no objective is set.
const RESPONSE_US: u64 = 250_000;

/// The numeric targets of a scenario, each where it is set, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Objectives {
    /// The most that the response may take at p99 outside faults and recoveries.
    pub response_us: Option<u64>,
    /// The most that the recovery from each fault may take.
    pub recovery_us: Option<u64>,
}

impl Objectives {
    /// Returns the response that every op of a recovered second meets, and by which the lag of the
    /// generator is judged: the objective, or 250 ms where none is set.
    #[must_use]
    pub fn target_us(&self) -> u64 {
        self.response_us.unwrap_or(RESPONSE_US)
    }

    /// Returns the most that the generator may lag at p99, in microseconds.
    #[must_use]
    pub fn lag_limit_us(&self) -> u64 {
        lag_limit_us(self.target_us())
    }
}

/// A numeric target and what was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectiveResult {
    /// Its name in the scenario, such as `recovery`.
    pub name: String,
    /// The target and the measurement, in one phrase.
    pub summary: String,
    /// The result, in the words of guarantees.
    #[serde(flatten)]
    pub status: GuaranteeStatus,
}

/// A fault, and how long after its end the run was well again, in microseconds, if it was.
pub(crate) type Recovery<'a> = (&'a FaultEvent, Option<u64>);

/// What the objectives are judged by.
pub(crate) struct Measured<'a> {
    pub(crate) objectives: &'a Objectives,
    pub(crate) ops: &'a [OpRecord],
    pub(crate) recoveries: &'a [Recovery<'a>],
    pub(crate) load_end_us: u64,
    pub(crate) lag_p99_us: u64,
}

impl Measured<'_> {
    /// Whether the generator kept up, so that times say something about the pool.
    pub(crate) fn kept_up(&self) -> bool {
        self.lag_p99_us <= self.objectives.lag_limit_us()
    }

    /// Judges each objective that the scenario sets, the response first.
    pub(crate) fn judge(&self) -> Vec<ObjectiveResult> {
        let response = self.objectives.response_us.map(|us| self.response(us));
        let recoveries = self.objectives.recovery_us.into_iter().flat_map(|us| {
            let faults = self.recoveries.iter();
            faults.map(move |fault| self.recovery(*fault, us))
        });
        response.into_iter().chain(recoveries).collect()
    }

    fn response(&self, limit_us: u64) -> ObjectiveResult {
        let disturbed: Vec<_> = self.recoveries.iter().filter_map(disturbed).collect();
        let seen = answers(self.ops, &disturbed, limit_us);
        let status = match seen {
            None => GuaranteeStatus::NotChecked(
                "response: no arrival lay outside the faults and their recoveries; give the load \
                 more time without faults"
                    .to_owned(),
            ),
            Some(Answers {
                p99_us: Some(us), ..
            }) if us <= limit_us => GuaranteeStatus::Held,
            Some(_) => self.missed("response"),
        };
        let measured = seen.map_or("nothing to measure".to_owned(), |seen| {
            let of = format!("{} arrivals outside faults and recoveries", seen.arrivals);
            match seen.p99_us {
                // Tenths of a millisecond: a p99 is not known any better.
                Some(us) => {
                    format!("{} for {of}", told((us + 50) / 100 * 100))
                }
                None => format!("none, {} failed of {of}", seen.failed),
            }
        });
        ObjectiveResult {
            name: "response".to_owned(),
            summary: format!("p99 at most {}: {measured}", told(limit_us)),
            status,
        }
    }

    fn recovery(&self, (fault, took_us): Recovery<'_>, limit_us: u64) -> ObjectiveResult {
        let name = &fault.name;
        let left_us = self.load_end_us.saturating_sub(fault.end_us);
        let status = if !fault.effect.seen {
            GuaranteeStatus::NotChecked(format!("{name} had no effect to recover from"))
        } else if took_us.is_some_and(|took_us| took_us <= limit_us) {
            GuaranteeStatus::Held
        } else if took_us.is_none() && left_us < limit_us {
            GuaranteeStatus::NotChecked(format!(
                "no recovery from {name} before the load ended {} later, within the {} that it may \
                 take: let the load last longer",
                told(left_us),
                told(limit_us)
            ))
        } else {
            self.missed(&format!("recovery from {name}"))
        };
        let measured = took_us.map_or("not within the load".to_owned(), told);
        ObjectiveResult {
            name: format!("recovery from {name}"),
            summary: format!("at most {}: {measured}", told(limit_us)),
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
            told(self.lag_p99_us)
        ))
    }
}

/// From a fault's start to the end of its recovery, in microseconds.
fn disturbed((fault, took_us): &Recovery<'_>) -> Option<Range<u64>> {
    let until = took_us.map_or(u64::MAX, |us| fault.end_us.saturating_add(us));
    fault.effect.seen.then_some(fault.start_us..until)
}

fn told(us: u64) -> String {
    format_duration(Duration::from_micros(us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, Ending, FaultEffect, Outcome};

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

    fn fault(seen: bool, took_us: Option<u64>) -> (FaultEvent, Option<u64>) {
        let event = FaultEvent {
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
        };
        (event, took_us)
    }

    fn judged(
        records: &[OpRecord],
        (fault, took_us): (FaultEvent, Option<u64>),
        lag_ms: u64,
    ) -> Vec<(String, GuaranteeStatus)> {
        let measured = Measured {
            objectives: &Objectives {
                response_us: Some(250_000),
                recovery_us: Some(4 * SECOND),
            },
            ops: records,
            recoveries: &[(&fault, took_us)],
            load_end_us: 10 * SECOND,
            lag_p99_us: lag_ms * 1_000,
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
        (late.0.start_us, late.0.end_us) = (8 * SECOND, 8 * SECOND);
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
        whole.0.start_us = 0;
        let (_, status) = judged(&records(0, 100), whole, 0).swap_remove(0);
        assert!(not_judged(&status).starts_with("response: no arrival"));
    }
}
