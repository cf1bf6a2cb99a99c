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
            Some(_) => self.missed(),
        };
        let measured = seen.map_or("nothing to measure".to_owned(), |seen| {
            let of = format!("{} arrivals outside faults and recoveries", seen.arrivals);
            match seen.p99_us {
                Some(us) => format!("{} of {of}", format_duration(Duration::from_micros(us))),
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
            self.missed()
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
    fn missed(&self) -> GuaranteeStatus {
        if self.kept_up() {
            return GuaranteeStatus::Violated;
        }
        GuaranteeStatus::Void(format!(
            "it was missed while the generator lagged by {} at p99: run again on a quieter machine",
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
