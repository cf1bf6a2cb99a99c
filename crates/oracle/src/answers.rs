//! Numeric targets: what is measured for them, and how far the generator may lag meanwhile.

use std::ops::Range;

use crate::spans::Spans;
use crate::{Ending, OpRecord};

/// No generator on timers of a millisecond lags by less.
const LAG_LIMIT_LEAST_US: u64 = 1_000;

/// Returns the most that the generator may lag at p99, given the response objective, both in
/// microseconds: 5 % of the objective, and 1 ms at least. Beyond it, response times say too much
/// about the generator.
#[must_use]
pub(crate) fn lag_limit_us(response_us: u64) -> u64 {
    (response_us / 20).max(LAG_LIMIT_LEAST_US)
}

/// How the arrivals that no fault disturbed were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answers {
    /// How many there were.
    pub(crate) arrivals: u64,
    /// How many of them did not end as planned.
    pub(crate) failed: u64,
    /// The 99th percentile of their response from the intended start, in microseconds; none when
    /// more than one in a hundred failed.
    pub(crate) p99_us: Option<u64>,
}

/// Measures how ops were answered outside `disturbed`, from the start of a fault to the end of its
/// recovery each.
///
/// Only ops that were to commit or to roll back count: a planned cancellation or panic has no
/// answer. One that did not end as planned counts as never answered, however fast it failed. An op
/// that arrived less than `target_us` before a fault is left out, since the fault may have hit it
/// while it could still meet the target; so is one that the end of the run cut short. None when
/// nothing is left.
#[must_use]
pub(crate) fn answers(
    ops: &[OpRecord],
    disturbed: &[Range<u64>],
    target_us: u64,
) -> Option<Answers> {
    let disturbed = Spans::merged(
        disturbed
            .iter()
            .map(|span| (span.start.saturating_sub(target_us), span.end)),
    );
    let mut answered: Vec<u64> = ops
        .iter()
        .filter(|op| op.is_to_be_answered() && !op.was_cut_short())
        .filter(|op| disturbed.within(op.intended_us, op.intended_us + 1) == 0)
        .map(|op| op.response_us().unwrap_or(u64::MAX))
        .collect();
    answered.sort_unstable();
    let rank = (answered.len() * 99).div_ceil(100);
    let p99_us = *answered.get(rank.checked_sub(1)?)?;
    let failed = answered.iter().filter(|us| **us == u64::MAX).count();
    Some(Answers {
        arrivals: u64::try_from(answered.len()).unwrap_or(u64::MAX),
        failed: u64::try_from(failed).unwrap_or(u64::MAX),
        p99_us: (p99_us < u64::MAX).then_some(p99_us),
    })
}

impl OpRecord {
    /// Whether the op was to end by an answer, a commit's or a rollback's.
    pub(crate) fn is_to_be_answered(&self) -> bool {
        matches!(self.ending, Ending::Commit | Ending::Rollback)
    }

    /// Returns the time from the intended start to the end, if the op ended as planned.
    pub(crate) fn response_us(&self) -> Option<u64> {
        let ended = self.ended_us.filter(|_| self.ended_as_planned())?;
        Some(ended.saturating_sub(self.intended_us))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::{Answers, answers, lag_limit_us};
    use crate::OpRecord;
    use crate::fixture::{cancelled, committed, cut_short, failed, rolled_back, shed};

    const TARGET_US: u64 = 500_000;

    #[test]
    fn the_lag_may_be_a_twentieth_of_the_objective_and_a_millisecond_at_least() {
        let limits = [1, 20_000, 20_020, 250_000, 500_000].map(lag_limit_us);
        assert_eq!(limits, [1_000, 1_000, 1_001, 12_500, 25_000]);
    }

    fn measured(ops: &[OpRecord], disturbed: Range<u64>) -> Option<Answers> {
        answers(ops, &[disturbed], TARGET_US)
    }

    fn undisturbed(ops: &[OpRecord]) -> Option<Answers> {
        answers(ops, &[], TARGET_US)
    }

    /// A hundred ops that take 20 ms; of the first, `of` makes another.
    fn hundred(of: fn(u64) -> OpRecord, several: u64) -> Vec<OpRecord> {
        (0..100)
            .map(|id| if id < several { of(id) } else { committed(id) })
            .collect()
    }

    #[test]
    fn one_in_a_hundred_may_fail_and_two_leave_no_percentile() {
        let seen = |failed, p99_us| {
            Some(Answers {
                arrivals: 100,
                failed,
                p99_us,
            })
        };
        assert_eq!(undisturbed(&hundred(failed, 1)), seen(1, Some(20_000)));
        assert_eq!(undisturbed(&hundred(failed, 2)), seen(2, None));
        // However fast it was refused.
        let refused = |id| shed(id, 10);
        assert_eq!(undisturbed(&hundred(refused, 2)), seen(2, None));
        assert_eq!(undisturbed(&hundred(rolled_back, 2)), seen(0, Some(20_000)));
    }

    #[test]
    fn what_has_no_answer_by_plan_or_was_cut_short_does_not_count() {
        for others in [cancelled, cut_short] {
            let seen = undisturbed(&hundred(others, 90)).unwrap();
            assert_eq!((seen.arrivals, seen.p99_us), (10, Some(20_000)));
            assert_eq!(undisturbed(&hundred(others, 100)), None);
        }
    }

    #[test]
    fn what_a_fault_may_have_hit_does_not_count() {
        // One op each 100 ms; those that arrive from 3 s to 5 s fail, and so do those that
        // arrived up to 600 ms before.
        let ops: Vec<OpRecord> = (0..100)
            .map(|id| {
                if (24..50).contains(&id) {
                    failed(id)
                } else {
                    committed(id)
                }
            })
            .collect();
        let seen = measured(&ops, 3_000_000..5_000_000).unwrap();
        assert_eq!((seen.arrivals, seen.failed), (75, 1));
        let seen = measured(&ops, 3_000_000..4_900_000).unwrap();
        assert_eq!((seen.arrivals, seen.failed), (76, 2));
        assert_eq!(measured(&ops, 0..u64::MAX), None);
    }
}
