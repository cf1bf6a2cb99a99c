//! How many ops came to what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Ending, ErrorCategory, OpRecord, Outcome};

/// How many ops of a history came to what.
///
/// `ok + fail + info + shed` is `offered`; the other figures are parts of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpCounts {
    /// All ops of the history.
    pub offered: u64,
    /// Did what they should.
    pub ok: u64,
    /// Surely left nothing.
    pub fail: u64,
    /// Unknown.
    pub info: u64,
    /// Never started.
    pub shed: u64,
    /// Ok, and ended by a commit. An op that was done before its planned cancellation counts.
    pub committed: u64,
    /// Ok, and ended by an intended rollback.
    pub rolled_back: u64,
    /// Ended by a planned panic.
    pub panicked: u64,
    /// Ended by a planned cancellation, before or after COMMIT was written.
    pub cancelled: u64,
    /// Never ended, although the deadline had come.
    pub stuck: u64,
    /// Of `fail`: ended by a planned panic or cancellation.
    #[serde(default)]
    pub planned_fail: u64,
    /// Of `info`: ended by a planned panic or cancellation.
    #[serde(default)]
    pub planned_info: u64,
    /// Of `fail`: cut short by the end of the run, before the deadline.
    #[serde(default)]
    pub cut_short: u64,
}

impl OpCounts {
    /// Returns how many surely left nothing although nobody planned that.
    #[must_use]
    pub fn unplanned_fail(&self) -> u64 {
        self.fail
            .saturating_sub(self.planned_fail)
            .saturating_sub(self.cut_short)
    }
}

/// Counts what the ops of a history came to.
#[must_use]
pub fn counts(ops: &[OpRecord]) -> OpCounts {
    let mut counts = OpCounts::default();
    for op in ops {
        counts.offered += 1;
        match op.outcome {
            Outcome::Ok => counts.ok += 1,
            Outcome::Fail => counts.fail += 1,
            Outcome::Info => counts.info += 1,
            Outcome::Shed => counts.shed += 1,
        }
        if op.was_cut_short() {
            counts.cut_short += u64::from(op.outcome == Outcome::Fail);
        } else if op.ended_us.is_none() {
            counts.stuck += 1;
        } else if op.ended_as_planned() {
            match op.outcome {
                Outcome::Fail => counts.planned_fail += 1,
                Outcome::Info => counts.planned_info += 1,
                Outcome::Ok | Outcome::Shed => {}
            }
            match (op.ending, op.outcome) {
                (Ending::Rollback, _) => counts.rolled_back += 1,
                (Ending::Panic, _) => counts.panicked += 1,
                (Ending::Commit | Ending::Cancel { .. }, Outcome::Ok) => counts.committed += 1,
                (Ending::Commit | Ending::Cancel { .. }, _) => counts.cancelled += 1,
            }
        }
    }
    counts
}

impl OpRecord {
    /// Whether the run ended before the op did, and before the op's deadline: nobody can say
    /// whether it would have ended in time.
    #[must_use]
    pub fn was_cut_short(&self) -> bool {
        let category = self.error.as_ref().map(|error| error.category);
        self.ended_us.is_none() && category == Some(ErrorCategory::CutShort)
    }

    /// Whether the op ended the way its [`Ending`] says: a commit or a rollback that was
    /// confirmed, a panic, or a cancellation unless the op was done before.
    ///
    /// An op that never ended did not. How long it took plays no part.
    #[must_use]
    pub fn ended_as_planned(&self) -> bool {
        let category = self.error.as_ref().map(|error| error.category);
        self.ended_us.is_some()
            && match self.ending {
                Ending::Commit | Ending::Rollback => self.outcome == Outcome::Ok,
                Ending::Panic => category == Some(ErrorCategory::Panicked),
                Ending::Cancel { .. } => {
                    self.outcome == Outcome::Ok || category == Some(ErrorCategory::Cancelled)
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::{OpCounts, counts};
    use crate::fixture::{
        cancelled, committed, cut_short, error, failed, in_doubt, panicked, rolled_back, shed,
    };
    use crate::{Ending, ErrorCategory, OpRecord, Outcome};

    #[test]
    fn each_op_is_counted_by_outcome_and_by_the_way_it_ended() {
        let done_before_its_cancellation = OpRecord {
            ending: Ending::Cancel { after_us: 900_000 },
            ..committed(7)
        };
        let cancelled_at_commit = OpRecord {
            outcome: Outcome::Info,
            ..cancelled(8)
        };
        let stuck = OpRecord {
            ended_us: None,
            ..in_doubt(9)
        };
        let counted = counts(&[
            committed(0),
            rolled_back(1),
            failed(2),
            in_doubt(3),
            shed(4, 10),
            panicked(5),
            cancelled(6),
            done_before_its_cancellation,
            cancelled_at_commit,
            stuck,
            cut_short(10),
            OpRecord {
                outcome: Outcome::Info,
                ..cut_short(11)
            },
        ]);
        assert_eq!(counted.unplanned_fail(), 1);
        assert_eq!(
            counted,
            OpCounts {
                offered: 12,
                ok: 3,
                fail: 4,
                info: 4,
                shed: 1,
                committed: 2,
                rolled_back: 1,
                panicked: 1,
                cancelled: 2,
                stuck: 1,
                planned_fail: 2,
                planned_info: 1,
                cut_short: 1,
            }
        );
    }

    #[test]
    fn an_op_that_ended_another_way_than_planned_is_told_apart() {
        let broken_before_its_panic = OpRecord {
            ending: Ending::Panic,
            ..failed(0)
        };
        let unplanned_panic = OpRecord {
            error: Some(error(ErrorCategory::Panicked)),
            ..failed(1)
        };
        let lies_about_its_panic = OpRecord {
            ending: Ending::Panic,
            ..committed(2)
        };
        let never_ended = OpRecord {
            ended_us: None,
            ..cancelled(3)
        };
        for op in [
            broken_before_its_panic,
            unplanned_panic,
            lies_about_its_panic,
            never_ended,
        ] {
            assert!(!op.ended_as_planned(), "{op:?}");
        }
    }
}
