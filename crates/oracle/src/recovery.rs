//! How long it took after a fault until everything was well again.

use crate::OpRecord;
use crate::spans::Spans;

const SECOND_US: u64 = 1_000_000;
const STEP_US: u64 = 100_000;

/// Returns how long after a fault's end the run was well again, as its users saw it: from
/// `fault_end_us` to the start of the first good second. The second slides by 100 ms from the
/// fault's end.
///
/// A second is good when
/// - every op that was under way in it, whenever it had arrived, met the target: it ended as planned
///   (planned panics, cancellations and rollbacks included) within `target_us` of its intended
///   start. So the ops that a fault left in the queue count until the last of them has ended, and
///   one that never ends until its deadline.
/// - the rate is back: ops that were to be answered arrived in it, and at least half as many were
///   answered in it. Silence shows nothing, and neither does a second of cancellations only.
/// - it ends by `load_end_us`: one that was cut short by the end of the load shows too little.
///
/// None when there was no such second. Takes O((ops + seconds) · log ops).
#[must_use]
pub fn recovery_us(
    ops: &[OpRecord],
    fault_end_us: u64,
    load_end_us: u64,
    target_us: u64,
) -> Option<u64> {
    let missed = ops.iter().filter(|op| !met(op, target_us));
    let missed = Spans::merged(missed.map(|op| (op.intended_us, waited_until(op))));
    let answerable = || ops.iter().filter(|op| op.is_to_be_answered());
    let arrived = Moments::sorted(answerable().map(|op| op.intended_us));
    let answered = answerable().filter(|op| op.ended_as_planned());
    let answered = Moments::sorted(answered.filter_map(|op| op.ended_us));
    let last_arrival = arrived.0.last().copied()?;

    let until = load_end_us.min(last_arrival.saturating_add(SECOND_US));
    let mut start = fault_end_us;
    while start.saturating_add(SECOND_US) <= until {
        let end = start + SECOND_US;
        let (arrivals, answers) = (arrived.within(start, end), answered.within(start, end));
        if arrivals > 0 && 2 * answers >= arrivals && !missed.touch(start, end) {
            return Some(start - fault_end_us);
        }
        start += STEP_US;
    }
    None
}

/// Moments in order.
struct Moments(Vec<u64>);

impl Moments {
    fn sorted(moments: impl Iterator<Item = u64>) -> Self {
        let mut moments: Vec<u64> = moments.collect();
        moments.sort_unstable();
        Self(moments)
    }

    /// Returns how many lie in `from..until`.
    fn within(&self, from: u64, until: u64) -> usize {
        let before = |limit: u64| self.0.partition_point(|at| *at < limit);
        before(until) - before(from)
    }
}

/// When an op's caller waited no longer: at its end, or at the deadline of one that never ended.
fn waited_until(op: &OpRecord) -> u64 {
    op.ended_us
        .unwrap_or(op.started_us.saturating_add(op.deadline_us))
}

fn met(op: &OpRecord, target_us: u64) -> bool {
    op.response_us().is_some_and(|took| took <= target_us)
}

#[cfg(test)]
mod tests {
    use super::recovery_us;
    use crate::OpRecord;
    use crate::fixture::{cancelled, committed, failed, panicked, rolled_back, shed};

    const TARGET_US: u64 = 500_000;

    /// One op each 100 ms until 10 s; those from `bad` fail.
    fn run(bad: std::ops::Range<u64>) -> Vec<OpRecord> {
        (0..100)
            .map(|id| {
                if bad.contains(&id) {
                    failed(id)
                } else {
                    committed(id)
                }
            })
            .collect()
    }

    #[test]
    fn a_run_that_was_never_disturbed_recovers_at_once() {
        assert_eq!(
            recovery_us(&run(0..0), 3_000_000, 10_000_000, TARGET_US),
            Some(0)
        );
    }

    #[test]
    fn failures_before_the_faults_end_do_not_count() {
        assert_eq!(
            recovery_us(&run(10..30), 3_000_000, 10_000_000, TARGET_US),
            Some(0)
        );
    }

    #[test]
    fn an_op_intended_at_the_faults_very_end_counts() {
        assert_eq!(
            recovery_us(&run(30..31), 3_000_000, 10_000_000, TARGET_US),
            Some(100_000)
        );
    }

    #[test]
    fn recovery_begins_with_the_first_op_after_the_last_failure() {
        // The last failure is intended at 4.4 s.
        assert_eq!(
            recovery_us(&run(20..45), 3_000_000, 10_000_000, TARGET_US),
            Some(1_500_000)
        );
        // The second slides from the fault's end, so its start is the next multiple after that.
        assert_eq!(
            recovery_us(&run(20..45), 3_050_000, 10_000_000, TARGET_US),
            Some(1_400_000)
        );
    }

    #[test]
    fn a_single_miss_breaks_every_second_that_contains_it() {
        let mut ops = run(20..31);
        ops[35] = shed(35, 200_000);
        // It waited until 3.7 s.
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(800_000)
        );
    }

    #[test]
    fn slow_and_stuck_ops_miss_the_target() {
        let mut ops = run(0..0);
        ops[32].ended_us = Some(ops[32].intended_us + TARGET_US + 1);
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(800_000)
        );
        ops[32].ended_us = Some(ops[32].intended_us + TARGET_US);
        assert_eq!(recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US), Some(0));
        // Its deadline is at 8.3 s; then nobody waits for it any more.
        ops[33].ended_us = None;
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(5_400_000)
        );
    }

    #[test]
    fn the_generators_lag_counts_against_the_target() {
        let mut ops = run(0..0);
        ops[32].intended_us -= 150_000;
        ops[32].ended_us = Some(ops[32].started_us + TARGET_US - 100_000);
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(700_000)
        );
    }

    #[test]
    fn planned_endings_meet_the_target_and_a_late_one_does_not() {
        let mut ops = run(0..0);
        ops[31] = rolled_back(31);
        ops[32] = panicked(32);
        ops[33] = cancelled(33);
        assert_eq!(recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US), Some(0));
        ops[33].ended_us = Some(ops[33].intended_us + TARGET_US + 1);
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(900_000)
        );
    }

    #[test]
    fn a_second_without_ops_shows_nothing() {
        let ops: Vec<OpRecord> = run(0..0)
            .into_iter()
            .filter(|op| op.intended_us < 3_000_000 || op.intended_us >= 6_000_000)
            .collect();
        // The first second with an op is [5.1 s, 6.1 s).
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(2_100_000)
        );
        assert_eq!(recovery_us(&[], 0, 10_000_000, TARGET_US), None);
    }

    #[test]
    fn the_second_must_end_by_the_end_of_the_load() {
        let ops = run(20..90);
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(6_000_000)
        );
        assert_eq!(recovery_us(&ops, 3_000_000, 9_999_999, TARGET_US), None);
        assert_eq!(
            recovery_us(&run(20..91), 3_000_000, 10_000_000, TARGET_US),
            None
        );
    }

    #[test]
    fn a_load_without_an_end_is_searched_only_as_far_as_it_has_ops() {
        assert_eq!(recovery_us(&run(20..100), 0, u64::MAX, TARGET_US), Some(0));
        assert_eq!(recovery_us(&run(0..100), 0, u64::MAX, TARGET_US), None);
    }

    /// The picture and the number are of one run: what a fault left in the queue ends slowly until
    /// 600 ms after it, although whoever arrives after it is served at once.
    #[test]
    fn ops_that_a_fault_left_waiting_count_until_the_last_has_ended() {
        let mut ops = run(0..0);
        for op in &mut ops[10..30] {
            op.ended_us = Some(op.intended_us.max(1_600_000) + 2_000_000);
        }
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(2_000_000)
        );
        // Its deadline is at 6.2 s; then nobody waits for it any more.
        ops[12].ended_us = None;
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(3_300_000)
        );
    }

    #[test]
    fn a_second_of_cancellations_only_is_no_recovery() {
        let mut ops = run(0..0);
        for (id, op) in (30..60).zip(&mut ops[30..60]) {
            *op = cancelled(id);
        }
        // [5.5 s, 6.5 s) is the first with at least one arrival that was to be answered; those
        // from 6 s on.
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(2_100_000)
        );
    }

    /// With a target of 5 s every op of a stall of 2 s meets it; that does not make the stall well.
    #[test]
    fn a_second_in_which_hardly_anything_is_answered_is_no_recovery() {
        let mut ops = run(0..0);
        for op in &mut ops[30..50] {
            op.ended_us = Some(op.intended_us.max(5_000_000) + 20_000);
        }
        let recovered = |ops: &[OpRecord]| recovery_us(ops, 3_000_000, 10_000_000, 5_000_000);
        // From 4.5 s on, half of those that arrive are answered within the second, and the queue.
        assert_eq!(recovered(&ops), Some(1_100_000));
        for op in &mut ops[30..50] {
            op.ended_us = None;
        }
        assert_eq!(recovered(&ops), None);
    }

    #[test]
    fn the_order_of_the_history_plays_no_part() {
        let mut ops = run(20..45);
        ops.reverse();
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(1_500_000)
        );
    }
}
