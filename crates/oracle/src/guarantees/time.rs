//! T: every call ends in time, whatever the network and the server do.

use std::fmt::Write;

use super::tally::Tally;
use crate::figures::{Seconds, counted};
use crate::spans::Spans;
use crate::{Guarantee, GuaranteeResult, Limits, Observations, OpRecord, Outcome};

/// What a call may take beyond its limit, in microseconds: scheduling of a busy machine, not a wait.
pub const GRACE_US: u64 = 250_000;

/// Checks that each op ended within its deadline, and that no wait for a connection outlasted
/// `pool_timeout`, both with 250 ms of grace.
///
/// The wait of an op that got a connection ends there. The wait of one that never got any ends
/// with the op, which counts for shed ops, and for others only if the subject marks acquires at
/// all. An op that never ended is a violation, unless the run was cut short before its deadline:
/// then it shows nothing. Lag of the generator is no violation: times count from the actual start.
///
/// An overrun that is no longer than the stalls of the process within the call shows nothing: what
/// held up the process may have held up the call. Nobody can tell a busy machine from a pool
/// that blocks the runtime by that, so such a call neither breaks the guarantee nor keeps it, and
/// the guarantee is void unless something else broke it.
pub(super) fn bounded(observations: &Observations<'_>) -> GuaranteeResult {
    let ops = observations.ops;
    let pool_timeout_us = observations.limits.pool_timeout_us;
    let marks_acquires = if ops.iter().any(|op| op.acquired_us.is_some()) {
        MarksAcquires::Yes
    } else {
        MarksAcquires::No
    };
    let stalls = stalls(observations);
    let mut tally = Tally::default();
    let mut held_up = HeldUp::default();
    let mut cut_short = 0;
    let (mut waits, mut longest_wait, mut longest_op) = (0, 0, 0);
    for op in ops {
        let Some(ended) = op.ended_us else {
            if op.was_cut_short() {
                cut_short += 1;
            } else {
                tally.violation(|| never_ended(op));
            }
            continue;
        };
        let call = Call::new(op, ended, op.deadline_us);
        longest_op = longest_op.max(call.took());
        let mut overrun = call.check(&stalls, &mut tally, || ended_too_late(op, call.took()));
        if let Some(until) = waited_until(op, marks_acquires) {
            let call = Call::new(op, until, pool_timeout_us);
            waits += 1;
            longest_wait = longest_wait.max(call.took());
            overrun = overrun.max(call.check(&stalls, &mut tally, || {
                waited_too_long(op, call.took(), observations.limits)
            }));
        }
        held_up.count(overrun);
    }
    let mut summary = format!(
        "{}, the longest took {}; {} for a connection, the longest took {} of {}",
        counted(u64::try_from(ops.len()).unwrap_or(u64::MAX), "op"),
        Seconds(longest_op),
        counted(waits, "wait"),
        Seconds(longest_wait),
        Seconds(pool_timeout_us),
    );
    if cut_short > 0 {
        let them = counted(cut_short, "op");
        write!(
            summary,
            "; {them} cut short before the deadline, not judged"
        )
        .expect("bug: a string takes all that is written to it");
    }
    if !ops.is_empty() && ops.iter().all(OpRecord::was_cut_short) {
        let reason = "the run was cut short before any op ended or had to";
        return tally.conclude_void(Guarantee::T, summary, reason);
    }
    if ops.is_empty() {
        return tally.conclude_void(Guarantee::T, summary, "no op was started");
    }
    match held_up.reason() {
        None => tally.conclude(Guarantee::T, summary),
        Some(reason) => {
            let summary = format!("{summary}; {reason}");
            let reason = format!("{reason}: run again on a quieter machine");
            tally.conclude_void(Guarantee::T, summary, &reason)
        }
    }
}

/// Returns when everything was held up: the process did not get to run, or an op that should have
/// started had to wait.
fn stalls(observations: &Observations<'_>) -> Spans {
    let seen = observations.stalls.iter();
    let seen = seen.map(|stall| (stall.from_us, stall.until_us));
    let late = observations.ops.iter();
    let late = late.map(|op| (op.intended_us, op.started_us));
    Spans::merged(
        seen.chain(late)
            .filter(|(from, until)| until.saturating_sub(*from) > GRACE_US),
    )
}

/// Whether the subject marks when an op got its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarksAcquires {
    Yes,
    No,
}

/// What had to end in time: an op, or its wait for a connection.
#[derive(Debug, Clone, Copy)]
struct Call {
    from: u64,
    until: u64,
    limit: u64,
}

impl Call {
    fn new(op: &OpRecord, until: u64, limit: u64) -> Self {
        Self {
            from: op.started_us,
            until,
            limit,
        }
    }

    fn took(self) -> u64 {
        self.until.saturating_sub(self.from)
    }

    /// Counts the call as kept or broken, unless stalls explain its overrun, which is returned.
    fn check(
        self,
        stalls: &Spans,
        tally: &mut Tally,
        evidence: impl FnOnce() -> String,
    ) -> Option<u64> {
        let overrun = self
            .took()
            .saturating_sub(self.limit.saturating_add(GRACE_US));
        if overrun > 0 && overrun <= stalls.within(self.from, self.until) {
            return Some(overrun);
        }
        tally.fact(overrun == 0, evidence);
        None
    }
}

/// The ops that overran, and of which nobody can say whether the pool is to blame.
#[derive(Debug, Default)]
struct HeldUp {
    ops: u64,
    longest_overrun: u64,
}

impl HeldUp {
    fn count(&mut self, overrun: Option<u64>) {
        if let Some(overrun) = overrun {
            self.ops += 1;
            self.longest_overrun = self.longest_overrun.max(overrun);
        }
    }

    fn reason(&self) -> Option<String> {
        (self.ops > 0).then(|| {
            format!(
                "{} overran by up to {} while the machine, or the pool itself, held up everything \
                 for as long",
                counted(self.ops, "call"),
                Seconds(self.longest_overrun)
            )
        })
    }
}

fn never_ended(op: &OpRecord) -> String {
    format!(
        "op {} ({}): started at {} with a deadline of {} and never ended ({})",
        op.id,
        op.workload,
        Seconds(op.started_us),
        Seconds(op.deadline_us),
        last_seen(op)
    )
}

fn ended_too_late(op: &OpRecord, took: u64) -> String {
    format!(
        "op {} ({}): started at {} with a deadline of {}, ended after {} ({})",
        op.id,
        op.workload,
        Seconds(op.started_us),
        Seconds(op.deadline_us),
        Seconds(took),
        last_seen(op)
    )
}

/// Returns when the op's wait for a connection ended, if that is known.
fn waited_until(op: &OpRecord, marks_acquires: MarksAcquires) -> Option<u64> {
    match (op.acquired_us, op.outcome) {
        (Some(acquired), _) => Some(acquired),
        (None, Outcome::Shed) => op.ended_us,
        (None, Outcome::Fail)
            if marks_acquires == MarksAcquires::Yes && op.commit_sent_us.is_none() =>
        {
            op.ended_us
        }
        (None, _) => None,
    }
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
    use crate::fixture::{World, cancelled, committed, cut_short, failed, shed};
    use crate::{GuaranteeStatus, OpRecord, Outcome, Stall, Verdict, verdict};

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

    /// An op that should have started at `from_us` and could not until `until_us`.
    fn held_up(from_us: u64, until_us: u64) -> OpRecord {
        OpRecord {
            intended_us: from_us,
            started_us: until_us,
            acquired_us: Some(until_us),
            ended_us: Some(until_us + 1_000),
            ..committed(90)
        }
    }

    fn void(reason: &str) -> GuaranteeStatus {
        GuaranteeStatus::Void(format!(
            "{reason} while the machine, or the pool itself, held up everything for as long: \
             run again on a quieter machine"
        ))
    }

    #[test]
    fn an_overrun_as_long_as_the_stall_within_it_shows_nothing_and_a_longer_one_does() {
        let stall = held_up(3_000_000, 3_300_000);
        let judge = |overrun_us: u64| {
            let op = ending_after(committed(0), 5_250_000 + overrun_us);
            bounded(&World::with_ops([op, stall.clone()]).observations())
        };
        let kept = judge(0);
        assert_eq!(kept.status, GuaranteeStatus::Held);
        assert_eq!(kept.checked, 4);

        let explained = judge(300_000);
        assert_eq!(explained.status, void("1 call overran by up to 0.300 s"));
        assert_eq!((explained.checked, explained.violations), (3, 0));
        assert!(
            explained.summary.ends_with(
                "; 1 call overran by up to 0.300 s while the machine, or the pool itself, \
                 held up everything for as long"
            ),
            "{}",
            explained.summary
        );
        assert_eq!(judge(300_001).status, GuaranteeStatus::Violated);
    }

    #[test]
    fn a_stall_elsewhere_in_the_run_excuses_nothing() {
        let late = || ending_after(committed(10), 5_500_000);
        // The op runs from 1 s to 6.5 s; of each stall, less than its overrun lies within. The
        // last is no stall: a lag of the grace itself is the scheduling of a busy machine.
        for stall in [
            held_up(0, 1_000_000),
            held_up(6_500_000, 9_000_000),
            held_up(0, 1_249_999),
            held_up(6_250_001, 9_000_000),
            held_up(3_000_000, 3_250_000),
        ] {
            let result = bounded(&World::with_ops([late(), stall]).observations());
            assert_eq!(result.status, GuaranteeStatus::Violated);
            assert_eq!(result.violations, 1);
        }
        for stall in [held_up(0, 1_250_000), held_up(6_250_000, 9_000_000)] {
            let result = bounded(&World::with_ops([late(), stall]).observations());
            assert_eq!(result.status, void("1 call overran by up to 0.250 s"));
        }
    }

    #[test]
    fn ops_that_were_held_up_together_stall_nothing_twice() {
        let late = ending_after(committed(0), 5_850_000);
        let together = [
            held_up(3_000_000, 3_300_000),
            held_up(3_010_000, 3_300_000),
            held_up(3_020_000, 3_310_000),
        ];
        let world = World::with_ops([late].into_iter().chain(together));
        assert_eq!(
            bounded(&world.observations()).status,
            GuaranteeStatus::Violated
        );
    }

    #[test]
    fn a_wait_is_excused_only_by_what_stalled_during_the_wait() {
        let waited = || OpRecord {
            acquired_us: Some(1_400_000),
            ..ending_after(committed(0), 4_000_000)
        };
        let judge = |stall| bounded(&World::with_ops([waited(), stall]).observations());
        assert_eq!(
            judge(held_up(500_000, 900_000)).status,
            void("1 call overran by up to 0.150 s")
        );
        assert_eq!(
            judge(held_up(2_000_000, 2_400_000)).status,
            GuaranteeStatus::Violated
        );
    }

    #[test]
    fn a_violation_wins_over_overruns_that_show_nothing() {
        let explained = || ending_after(committed(0), 5_500_000);
        let stuck = OpRecord {
            ended_us: None,
            ..committed(1)
        };
        let shed_late = OpRecord {
            started_us: 8_000_000,
            intended_us: 8_000_000,
            ended_us: Some(9_500_000),
            ..shed(2, 0)
        };
        for broken in [stuck, shed_late] {
            let stall = held_up(3_000_000, 3_300_000);
            let world = World::with_ops([explained(), broken, stall]);
            let result = bounded(&world.observations());
            assert_eq!(result.status, GuaranteeStatus::Violated);
            assert_eq!((result.violations, result.evidence.len()), (1, 1));
            assert!(result.summary.contains("1 call overran by up to 0.250 s"));
        }
    }

    #[test]
    fn overruns_that_show_nothing_leave_a_run_without_a_verdict() {
        let late = ending_after(committed(0), 5_500_000);
        let waiting = shed(1, 1_450_000);
        let world = World::with_ops([late, waiting, held_up(1_000_000, 1_300_000)]);
        let result = bounded(&world.observations());
        assert_eq!(result.status, void("2 calls overran by up to 0.250 s"));
        let (decided, reasons) = verdict(&[result], &[], &[]);
        assert_eq!(decided, Verdict::Inconclusive);
        assert_eq!(reasons.len(), 1);
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
    fn an_op_cut_short_before_its_deadline_is_neither_held_nor_violated() {
        let judge = |ops: Vec<OpRecord>| bounded(&World::with_ops(ops).observations());
        let partial = judge(vec![committed(0), cut_short(1), cut_short(2)]);
        assert_eq!(partial.status, GuaranteeStatus::Held);
        assert_eq!((partial.checked, partial.violations), (2, 0));
        assert!(
            partial
                .summary
                .ends_with("; 2 ops cut short before the deadline, not judged"),
            "{}",
            partial.summary
        );
        assert_eq!(
            judge(vec![cut_short(1)]).status,
            GuaranteeStatus::Void("the run was cut short before any op ended or had to".into())
        );
        // One whose deadline had come is not excused by the others.
        let stuck = OpRecord {
            ended_us: None,
            ..failed(3)
        };
        let broken = judge(vec![committed(0), cut_short(1), stuck]);
        assert_eq!(
            (broken.status, broken.violations),
            (GuaranteeStatus::Violated, 1)
        );
    }

    #[test]
    fn a_stall_of_the_process_after_the_last_arrival_excuses_as_one_before_it_does() {
        let judge = |until_us: u64| {
            let late = ending_after(committed(0), 5_550_000);
            let mut world = World::with_ops([late]);
            world.stalls = vec![Stall {
                from_us: 4_000_000,
                until_us,
            }];
            bounded(&world.observations()).status
        };
        assert_eq!(judge(4_300_000), void("1 call overran by up to 0.300 s"));
        assert_eq!(judge(4_299_999), GuaranteeStatus::Violated);
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
