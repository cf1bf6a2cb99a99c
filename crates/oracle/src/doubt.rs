//! Commits in doubt: the caller could not know, the tables can.

use crate::{CommitInDoubt, DoubtCause, OpRecord, Outcome, Store};

/// Returns the ops whose COMMIT was written and whose outcome is unknown, in the order of the
/// history, each with what the op log says and why its caller could not know.
///
/// An op is resolved by its row, not by its transaction id: after a crash the server may reuse an
/// id that never reached the disk.
#[must_use]
pub fn commits_in_doubt(ops: &[OpRecord], store: Option<&Store>) -> Vec<CommitInDoubt> {
    ops.iter()
        .filter(|op| op.outcome == Outcome::Info)
        .filter_map(|op| {
            Some(CommitInDoubt {
                op: op.id,
                commit_sent_us: op.commit_sent_us?,
                applied: store.map(|store| store.op_log.get(&op.id).is_some_and(|rows| *rows > 0)),
                cause: Some(DoubtCause::of(op)),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::commits_in_doubt;
    use crate::fixture::{cancelled, cancelled_in_doubt, committed, error, in_doubt};
    use crate::{CommitInDoubt, DoubtCause, Ending, ErrorCategory, OpRecord, Outcome, Store};

    #[test]
    fn the_op_log_resolves_each_commit_in_doubt() {
        let never_sent = OpRecord {
            commit_sent_us: None,
            ..in_doubt(4)
        };
        let refused_at_commit = OpRecord {
            outcome: Outcome::Fail,
            ..in_doubt(2)
        };
        let ops = [
            committed(0),
            in_doubt(1),
            refused_at_commit,
            in_doubt(3),
            never_sent,
        ];
        let store = Store {
            op_log: [(0, 1), (3, 1)].into(),
            ..Store::default()
        };
        let doubt = |op, commit_sent_us, applied| CommitInDoubt {
            op,
            commit_sent_us,
            applied,
            cause: Some(DoubtCause::Fault),
        };
        assert_eq!(
            commits_in_doubt(&ops, Some(&store)),
            [
                doubt(1, 115_000, Some(false)),
                doubt(3, 315_000, Some(true))
            ]
        );
        assert_eq!(
            commits_in_doubt(&ops, None),
            [doubt(1, 115_000, None), doubt(3, 315_000, None)]
        );
    }

    #[test]
    fn only_an_op_that_was_cancelled_as_planned_is_in_doubt_by_cancellation() {
        let broken_before_its_cancellation = OpRecord {
            ending: Ending::Cancel { after_us: 900_000 },
            ..in_doubt(1)
        };
        let cancelled_without_a_plan = OpRecord {
            error: Some(error(ErrorCategory::Cancelled)),
            ..in_doubt(2)
        };
        let late = OpRecord {
            error: Some(error(ErrorCategory::Deadline)),
            ..in_doubt(3)
        };
        let stuck = OpRecord {
            ended_us: None,
            ..cancelled_in_doubt(4)
        };
        let ops = [
            cancelled_in_doubt(0),
            broken_before_its_cancellation,
            cancelled_without_a_plan,
            late,
            stuck,
            cancelled(5),
        ];
        let causes: Vec<DoubtCause> = commits_in_doubt(&ops, None)
            .into_iter()
            .filter_map(|doubt| doubt.cause)
            .collect();
        assert_eq!(
            causes,
            [
                DoubtCause::Cancelled,
                DoubtCause::Fault,
                DoubtCause::Fault,
                DoubtCause::Fault,
                DoubtCause::Fault,
            ]
        );
    }
}
