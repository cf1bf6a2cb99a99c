//! T: every call ends in time, whatever the network and the server do.

use super::tally::Tally;
use crate::figures::{Seconds, counted};
use crate::{Guarantee, GuaranteeResult, Limits, Observations, OpRecord, Outcome};

/// What a call may take beyond its limit: scheduling of a busy machine, not a wait.
const GRACE_US: u64 = 250_000;

/// Checks that each op ended within its deadline, and that no wait for a connection outlasted
/// `pool_timeout`, both with 250 ms of grace.
///
/// The wait of an op that got a connection ends there. The wait of one that never got any ends
/// with the op, which counts for shed ops, and for others only if the subject marks acquires at
/// all. An op that never ended is a violation. Lag of the generator is not: times count from the
/// actual start. Where the generator itself was once held up for longer than the grace, the same
/// stall may have held up any call, so the grace grows by it, and the summary says so.
pub(super) fn bounded(observations: &Observations<'_>) -> GuaranteeResult {
    let ops = observations.ops;
    let marks_acquires = if ops.iter().any(|op| op.acquired_us.is_some()) {
        MarksAcquires::Yes
    } else {
        MarksAcquires::No
    };
    let stall = largest_lag(ops);
    let grace = if stall > GRACE_US {
        GRACE_US.saturating_add(stall)
    } else {
        GRACE_US
    };
    let mut tally = Tally::default();
    let (mut waits, mut longest_wait, mut longest_op) = (0, 0, 0);
    for op in ops {
        let Some(took) = ended_in_time(op, grace, &mut tally) else {
            continue;
        };
        longest_op = longest_op.max(took);
        if let Some(wait) = wait(op, marks_acquires) {
            waits += 1;
            longest_wait = longest_wait.max(wait);
            let allowed = observations.limits.pool_timeout_us.saturating_add(grace);
            tally.fact(wait <= allowed, || {
                waited_too_long(op, wait, observations.limits)
            });
        }
    }
    let mut summary = format!(
        "{}, the longest took {}; {} for a connection, the longest took {} of {}",
        counted(u64::try_from(ops.len()).unwrap_or(u64::MAX), "op"),
        Seconds(longest_op),
        counted(waits, "wait"),
        Seconds(longest_wait),
        Seconds(observations.limits.pool_timeout_us),
    );
    if grace > GRACE_US {
        summary = format!(
            "{summary}; {} allowed for stalls of the machine",
            Seconds(grace)
        );
    }
    if ops.is_empty() {
        return tally.conclude_void(Guarantee::T, summary, "no op was started");
    }
    tally.conclude(Guarantee::T, summary)
}

/// Whether the subject marks when an op got its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarksAcquires {
    Yes,
    No,
}

/// Checks the deadline and returns how long the op took; none when it never ended.
fn ended_in_time(op: &OpRecord, grace: u64, tally: &mut Tally) -> Option<u64> {
    let Some(ended) = op.ended_us else {
        tally.violation(|| {
            format!(
                "op {} ({}): started at {} with a deadline of {} and never ended ({})",
                op.id,
                op.workload,
                Seconds(op.started_us),
                Seconds(op.deadline_us),
                last_seen(op)
            )
        });
        return None;
    };
    let took = ended.saturating_sub(op.started_us);
    tally.fact(took <= op.deadline_us.saturating_add(grace), || {
        format!(
            "op {} ({}): started at {} with a deadline of {}, ended after {} ({})",
            op.id,
            op.workload,
            Seconds(op.started_us),
            Seconds(op.deadline_us),
            Seconds(took),
            last_seen(op)
        )
    });
    Some(took)
}

/// Returns how long the op waited for a connection, if that is known.
fn wait(op: &OpRecord, marks_acquires: MarksAcquires) -> Option<u64> {
    let until = match (op.acquired_us, op.outcome) {
        (Some(acquired), _) => acquired,
        (None, Outcome::Shed) => op.ended_us?,
        (None, Outcome::Fail)
            if marks_acquires == MarksAcquires::Yes && op.commit_sent_us.is_none() =>
        {
            op.ended_us?
        }
        (None, _) => return None,
    };
    Some(until.saturating_sub(op.started_us))
}

fn waited_too_long(op: &OpRecord, wait: u64, limits: Limits) -> String {
    let outcome = if op.acquired_us.is_some() {
        "got a connection"
    } else {
        "gave up"
    };
    format!(
        "op {} ({}): started at {}, {outcome} after {}, pool_timeout is {}",
        op.id,
        op.workload,
        Seconds(op.started_us),
        Seconds(wait),
        Seconds(limits.pool_timeout_us)
    )
}

fn largest_lag(ops: &[OpRecord]) -> u64 {
    ops.iter()
        .map(|op| op.started_us.saturating_sub(op.intended_us))
        .max()
        .unwrap_or(0)
}

fn last_seen(op: &OpRecord) -> String {
    match (op.acquired_us, op.commit_sent_us) {
        (_, Some(at)) => format!("COMMIT sent at {}", Seconds(at)),
        (Some(at), None) => format!("connection since {}", Seconds(at)),
        (None, None) => "without a connection".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::bounded;
    use crate::fixture::{World, cancelled, committed, failed, shed};
    use crate::{GuaranteeStatus, OpRecord, Outcome};

    /// Ends `took_us` after its start.
    fn ending_after(op: OpRecord, took_us: u64) -> OpRecord {
        OpRecord {
            ended_us: Some(op.started_us + took_us),
            ..op
        }
    }

    #[test]
    fn ops_and_waits_up_to_their_limits_and_the_grace_keep_t() {
        let waited_long = OpRecord {
            acquired_us: Some(1_350_000),
            ..ending_after(committed(1), 2_000_000)
        };
        // Late by as much as the grace, and no more: that is no stall.
        let lagging = OpRecord {
            intended_us: committed(90).started_us - 250_000,
            ..committed(90)
        };
        let world = World::with_ops([
            ending_after(committed(0), 5_250_000),
            waited_long,
            shed(2, 1_250_000),
            cancelled(3),
            lagging,
        ]);
        let result = bounded(&world.observations());
        assert_eq!(
            result.status,
            GuaranteeStatus::Held,
            "{:?}",
            result.evidence
        );
        assert_eq!(result.checked, 10);
        assert_eq!(
            result.summary,
            "5 ops, the longest took 5.250 s; 5 waits for a connection, \
             the longest took 1.250 s of 1.000 s"
        );
    }

    #[test]
    fn a_stall_of_the_machine_extends_the_grace_by_its_length_and_no_more() {
        let held_up = OpRecord {
            intended_us: committed(90).started_us - 300_000,
            ..committed(90)
        };
        let judge = |overrun_us: u64| {
            let op = ending_after(committed(0), 5_000_000 + overrun_us);
            bounded(&World::with_ops([op, held_up.clone()]).observations())
        };
        let held = judge(550_000);
        assert_eq!(held.status, GuaranteeStatus::Held, "{:?}", held.evidence);
        assert!(
            held.summary
                .ends_with("; 0.550 s allowed for stalls of the machine")
        );
        assert_eq!(judge(550_001).status, GuaranteeStatus::Violated);
    }

    #[test]
    fn an_op_that_outlives_its_deadline_is_caught() {
        let world = World::with_ops([committed(0), ending_after(committed(1), 5_250_001)]);
        assert_eq!(
            bounded(&world.observations()).evidence,
            [
                "op 1 (bank): started at 0.100 s with a deadline of 5.000 s, \
                 ended after 5.250001 s (COMMIT sent at 0.115 s)"
            ]
        );
    }

    #[test]
    fn an_op_that_never_ended_is_caught_once() {
        let stuck = OpRecord {
            acquired_us: None,
            ended_us: None,
            ..failed(1)
        };
        let world = World::with_ops([committed(0), stuck]);
        let result = bounded(&world.observations());
        assert_eq!(result.violations, 1);
        assert_eq!(
            result.evidence,
            [
                "op 1 (bank): started at 0.100 s with a deadline of 5.000 s and never ended \
                 (without a connection)"
            ]
        );
    }

    #[test]
    fn a_late_connection_is_caught() {
        let late = OpRecord {
            acquired_us: Some(1_350_001),
            ..ending_after(committed(1), 2_000_000)
        };
        let world = World::with_ops([late]);
        assert_eq!(
            bounded(&world.observations()).evidence,
            [
                "op 1 (bank): started at 0.100 s, got a connection after 1.250001 s, \
                 pool_timeout is 1.000 s"
            ]
        );
    }

    #[test]
    fn giving_up_late_is_caught_whether_shed_or_failed() {
        let failed_in_the_queue = OpRecord {
            acquired_us: None,
            outcome: Outcome::Fail,
            ..shed(2, 4_000_000)
        };
        let world = World::with_ops([committed(0), shed(1, 1_250_001), failed_in_the_queue]);
        assert_eq!(
            bounded(&world.observations()).evidence,
            [
                "op 1 (bank): started at 0.100 s, gave up after 1.250001 s, \
                 pool_timeout is 1.000 s",
                "op 2 (bank): started at 0.200 s, gave up after 4.000 s, pool_timeout is 1.000 s",
            ]
        );
    }

    #[test]
    fn a_subject_that_never_marks_acquires_is_not_blamed_for_long_waits() {
        let unmarked = OpRecord {
            acquired_us: None,
            ..ending_after(failed(0), 4_000_000)
        };
        let world = World::with_ops([unmarked]);
        let result = bounded(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 1);
    }

    #[test]
    fn an_empty_history_is_void() {
        assert_eq!(
            bounded(&World::default().observations()).status,
            GuaranteeStatus::Void("no op was started".into())
        );
    }
}
