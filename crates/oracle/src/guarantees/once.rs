//! X: the op log holds each op exactly as often as its outcome allows.

use std::collections::BTreeSet;

use super::tally::{Tally, unseen};
use crate::figures::{Seconds, counted, grouped};
use crate::{DoubtCause, Ending, Guarantee, GuaranteeResult, Observations, OpRecord, Outcome};

/// How often an op may occur in the op log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Once,
    Never,
    AtMostOnce,
}

#[derive(Debug, Default)]
struct Figures {
    present_once: u64,
    failed_absent: u64,
    broken_off_absent: u64,
    rolled_back_absent: u64,
    shed_absent: u64,
    by_fault: Doubts,
    by_cancellation: Doubts,
    cut_short: Doubts,
}

/// Ops with an unknown outcome, resolved by the op log.
#[derive(Debug, Default)]
struct Doubts {
    applied: u64,
    absent: u64,
}

/// Checks the op log, whose index is not unique, so that it can hold an op twice: an acknowledged
/// commit is there once, a failure, an intended rollback and a shed op are not, and an unknown
/// outcome is there at most once. An id that no op of the history has is a violation.
pub(super) fn op_log(observations: &Observations<'_>) -> GuaranteeResult {
    let store = match &observations.store {
        Ok(store) => *store,
        Err(reason) => return unseen(Guarantee::X, reason),
    };
    let mut tally = Tally::default();
    let mut figures = Figures::default();
    let mut known = BTreeSet::new();
    for op in observations.ops {
        known.insert(op.id);
        let found = store.op_log.get(&op.id).copied().unwrap_or(0);
        let expected = expected(op);
        let holds = match expected {
            Expected::Once => found == 1,
            Expected::Never => found == 0,
            Expected::AtMostOnce => found <= 1,
        };
        tally.fact(holds, || violation(op, expected, found));
        if holds {
            figures.count(op, expected, found);
        }
    }
    for (id, count) in &store.op_log {
        if !known.contains(id) {
            tally.violation(|| {
                format!(
                    "op {id}: not in the history, found {}",
                    counted(*count, "row")
                )
            });
        }
    }
    let summary = figures.summary(observations.ops.len());
    if observations.ops.is_empty() {
        return tally.conclude_void(Guarantee::X, summary, "no op was started");
    }
    let came_to_something = |op: &OpRecord| matches!(op.outcome, Outcome::Ok | Outcome::Info);
    if !observations.ops.iter().any(came_to_something) {
        return tally.conclude_void(Guarantee::X, summary, "every op failed or was shed");
    }
    tally.conclude(Guarantee::X, summary)
}

/// An op that was to roll back or to panic never writes COMMIT, so no outcome allows its row.
fn expected(op: &OpRecord) -> Expected {
    match (op.ending, op.outcome) {
        (Ending::Rollback | Ending::Panic, _) | (_, Outcome::Fail | Outcome::Shed) => {
            Expected::Never
        }
        (Ending::Commit | Ending::Cancel { .. }, Outcome::Ok) => Expected::Once,
        (Ending::Commit | Ending::Cancel { .. }, Outcome::Info) => Expected::AtMostOnce,
    }
}

fn violation(op: &OpRecord, expected: Expected, found: u64) -> String {
    let what = match (expected, op.ending, op.outcome) {
        (Expected::Once, ..) if found == 0 => "acknowledged commit lost",
        (Expected::Once | Expected::AtMostOnce, ..) => "applied twice",
        (Expected::Never, Ending::Rollback | Ending::Panic, _) => "rolled-back write kept",
        (Expected::Never, _, Outcome::Shed) => "write of an op that never started kept",
        (Expected::Never, ..) => "failed write kept",
    };
    let wanted = match expected {
        Expected::Once => "1 row",
        Expected::Never => "no row",
        Expected::AtMostOnce => "at most 1 row",
    };
    let ended = match op.ended_us {
        Some(at) => format!("ended {} at {}", word(op.outcome), Seconds(at)),
        None => format!("never ended, taken for {}", word(op.outcome)),
    };
    format!(
        "{what}: op {} ({}) {ended}, expected {wanted}, found {found}",
        op.id, op.workload
    )
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Fail => "fail",
        Outcome::Info => "info",
        Outcome::Shed => "shed",
    }
}

impl Figures {
    fn count(&mut self, op: &OpRecord, expected: Expected, found: u64) {
        let figure = match (expected, op.ending, op.outcome) {
            (Expected::Once, ..) => &mut self.present_once,
            (Expected::AtMostOnce, ..) => {
                let doubts = match DoubtCause::of(op) {
                    DoubtCause::Fault => &mut self.by_fault,
                    DoubtCause::Cancelled => &mut self.by_cancellation,
                    DoubtCause::CutShort => &mut self.cut_short,
                };
                match found {
                    0 => &mut doubts.absent,
                    _ => &mut doubts.applied,
                }
            }
            (Expected::Never, _, Outcome::Shed) => &mut self.shed_absent,
            (Expected::Never, Ending::Rollback, Outcome::Ok) => &mut self.rolled_back_absent,
            (Expected::Never, ..) if op.ended_as_planned() => &mut self.broken_off_absent,
            (Expected::Never, ..) => &mut self.failed_absent,
        };
        *figure += 1;
    }

    fn summary(&self, ops: usize) -> String {
        let ops = counted(u64::try_from(ops).unwrap_or(u64::MAX), "op");
        let mut parts = vec![format!("{} ok present once", grouped(self.present_once))];
        for (count, what) in [
            (self.rolled_back_absent, "rolled back absent"),
            (self.broken_off_absent, "broken off as planned absent"),
            (self.failed_absent, "failed absent"),
            (self.shed_absent, "shed absent"),
        ] {
            if count > 0 {
                parts.push(format!("{} {what}", grouped(count)));
            }
        }
        for (doubts, cause) in [
            (&self.by_fault, "by faults"),
            (&self.by_cancellation, "by cancellation"),
            (&self.cut_short, "by the end of the run"),
        ] {
            let all = doubts.applied + doubts.absent;
            if all > 0 {
                parts.push(format!(
                    "{} in doubt {cause} ({} applied, {} not)",
                    grouped(all),
                    grouped(doubts.applied),
                    grouped(doubts.absent)
                ));
            }
        }
        format!("{ops}: {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::op_log;
    use crate::fixture::{
        World, cancelled, cancelled_in_doubt, committed, failed, in_doubt, panicked, rolled_back,
        shed,
    };
    use crate::{Ending, GuaranteeStatus, OpRecord, Outcome};

    /// One op of each kind, and the op log that fits.
    fn consistent() -> World {
        let late_cancel = OpRecord {
            ending: Ending::Cancel { after_us: 900_000 },
            ..committed(8)
        };
        let mut world = World::with_ops([
            committed(0),
            rolled_back(1),
            failed(2),
            in_doubt(3),
            in_doubt(4),
            shed(5, 1_000_000),
            panicked(6),
            cancelled(7),
            late_cancel,
        ]);
        world.store.op_log = [(0, 1), (3, 1), (8, 1)].into();
        world
    }

    #[test]
    fn an_op_log_that_fits_the_history_keeps_x() {
        let result = op_log(&consistent().observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 9);
        assert_eq!(
            result.summary,
            "9 ops: 2 ok present once, 1 rolled back absent, 2 broken off as planned absent, 1 failed absent, \
             1 shed absent, 2 in doubt by faults (1 applied, 1 not)"
        );
    }

    #[test]
    fn doubts_by_cancellation_are_counted_apart_from_those_by_faults() {
        let mut world = World::with_ops([
            in_doubt(0),
            cancelled_in_doubt(1),
            cancelled_in_doubt(2),
            cancelled_in_doubt(3),
        ]);
        world.store.op_log = [(1, 1), (3, 1)].into();
        assert_eq!(
            op_log(&world.observations()).summary,
            "4 ops: 0 ok present once, 1 in doubt by faults (0 applied, 1 not), \
             3 in doubt by cancellation (2 applied, 1 not)"
        );
    }

    #[test]
    fn each_way_to_break_the_op_log_is_caught_and_named() {
        let planted: [(u64, u64, &str); 9] = [
            (
                0,
                0,
                "acknowledged commit lost: op 0 (bank) ended ok at 0.020 s, expected 1 row, found 0",
            ),
            (
                0,
                2,
                "applied twice: op 0 (bank) ended ok at 0.020 s, expected 1 row, found 2",
            ),
            (
                8,
                0,
                "acknowledged commit lost: op 8 (bank) ended ok at 0.820 s, expected 1 row, found 0",
            ),
            (
                1,
                1,
                "rolled-back write kept: op 1 (bank) ended ok at 0.120 s, expected no row, found 1",
            ),
            (
                2,
                1,
                "failed write kept: op 2 (bank) ended fail at 0.220 s, expected no row, found 1",
            ),
            (
                3,
                2,
                "applied twice: op 3 (bank) ended info at 0.320 s, expected at most 1 row, found 2",
            ),
            (
                5,
                1,
                "write of an op that never started kept: op 5 (bank) ended shed at 1.500 s, \
                 expected no row, found 1",
            ),
            (
                6,
                1,
                "rolled-back write kept: op 6 (bank) ended fail at 0.620 s, expected no row, found 1",
            ),
            (
                7,
                1,
                "failed write kept: op 7 (bank) ended fail at 0.720 s, expected no row, found 1",
            ),
        ];
        for (id, rows, evidence) in planted {
            let mut world = consistent();
            world.store.op_log.insert(id, rows);
            let result = op_log(&world.observations());
            assert_eq!(result.status, GuaranteeStatus::Violated, "{evidence}");
            assert_eq!(result.evidence, [evidence]);
            assert_eq!(result.violations, 1);
        }
    }

    #[test]
    fn an_intended_rollback_may_not_stay_whatever_its_outcome() {
        let lost_rollback = OpRecord {
            ending: Ending::Rollback,
            ..in_doubt(0)
        };
        let mut world = World::with_ops([lost_rollback]);
        world.store.op_log = [(0, 1)].into();
        assert_eq!(
            op_log(&world.observations()).evidence,
            [
                "rolled-back write kept: op 0 (bank) ended info at 0.020 s, \
                 expected no row, found 1"
            ]
        );
    }

    #[test]
    fn an_op_that_never_ended_may_stay_only_if_commit_was_sent() {
        let stuck = |id, outcome| OpRecord {
            ended_us: None,
            outcome,
            ..committed(id)
        };
        let mut world = World::with_ops([
            stuck(0, Outcome::Info),
            stuck(1, Outcome::Fail),
            committed(2),
        ]);
        world.store.op_log = [(0, 1), (1, 1), (2, 1)].into();
        assert_eq!(
            op_log(&world.observations()).evidence,
            [
                "failed write kept: op 1 (bank) never ended, taken for fail, expected no row, found 1"
            ]
        );
    }

    #[test]
    fn a_row_that_no_op_wrote_is_a_violation() {
        let mut world = consistent();
        world.store.op_log.insert(99, 1);
        assert_eq!(
            op_log(&world.observations()).evidence,
            ["op 99: not in the history, found 1 row"]
        );
    }

    #[test]
    fn an_empty_history_is_void_unless_the_op_log_has_rows() {
        let mut world = World::default();
        assert_eq!(
            op_log(&world.observations()).status,
            GuaranteeStatus::Void("no op was started".into())
        );
        world.store.op_log.insert(0, 1);
        assert_eq!(
            op_log(&world.observations()).status,
            GuaranteeStatus::Violated
        );
    }
}
