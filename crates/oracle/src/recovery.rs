//! How long it took after a fault until everything was well again.

use crate::OpRecord;

const SECOND_US: u64 = 1_000_000;
const STEP_US: u64 = 100_000;

/// Returns how long after a fault's end the run was well again: from `fault_end_us` to the start
/// of the first second in which every op met `target_us`. The second slides by 100 ms from the
/// fault's end.
///
/// An op belongs to the second in which its intended start lies, and it met the target when it
/// ended as planned (planned panics, cancellations and rollbacks included) within `target_us` of
/// that intended start. A second counts only if it has at least one op and ends by `load_end_us`:
/// silence shows nothing, and a second that was cut short by the end of the load shows too little.
/// None when there was no such second.
#[must_use]
pub fn recovery_us(
    ops: &[OpRecord],
    fault_end_us: u64,
    load_end_us: u64,
    target_us: u64,
) -> Option<u64> {
    let mut after: Vec<(u64, bool)> = ops
        .iter()
        .filter(|op| op.intended_us >= fault_end_us)
        .map(|op| (op.intended_us, met(op, target_us)))
        .collect();
    after.sort_unstable();
    let (mut first, mut end, mut missed) = (0, 0, 0_u64);
    let mut start = fault_end_us;
    while start.saturating_add(SECOND_US) <= load_end_us {
        while end < after.len() && after[end].0 < start + SECOND_US {
            missed += u64::from(!after[end].1);
            end += 1;
        }
        while first < end && after[first].0 < start {
            missed -= u64::from(!after[first].1);
            first += 1;
        }
        if first == after.len() {
            return None;
        }
        if first < end && missed == 0 {
            return Some(start - fault_end_us);
        }
        start += STEP_US;
    }
    None
}

fn met(op: &OpRecord, target_us: u64) -> bool {
    op.ended_as_planned()
        && op
            .ended_us
            .is_some_and(|ended| ended.saturating_sub(op.intended_us) <= target_us)
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
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(600_000)
        );
    }

    #[test]
    fn slow_and_stuck_ops_miss_the_target() {
        let mut ops = run(0..0);
        ops[32].ended_us = Some(ops[32].intended_us + TARGET_US + 1);
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(300_000)
        );
        ops[32].ended_us = Some(ops[32].intended_us + TARGET_US);
        assert_eq!(recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US), Some(0));
        ops[33].ended_us = None;
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(400_000)
        );
    }

    #[test]
    fn the_generators_lag_counts_against_the_target() {
        let mut ops = run(0..0);
        ops[32].intended_us -= 150_000;
        ops[32].ended_us = Some(ops[32].started_us + TARGET_US - 100_000);
        assert_eq!(
            recovery_us(&ops, 3_000_000, 10_000_000, TARGET_US),
            Some(100_000)
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
            Some(400_000)
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
