//! A small deterministic model of a pool under the demo's load and faults.

use poolproof_oracle::{
    Effect, Ending, ErrorCategory, OpError, OpRecord, Outcome, PoolView, Sample,
};

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const END: u64 = 20 * SECOND;
pub(crate) const TIMEOUT: u64 = SECOND;
const ROUND_TRIPS: u64 = 6;
pub(crate) const RESET_AT: u64 = 6_500_000;
pub(crate) const TERMINATED_AT: u64 = 16 * SECOND;
const LIMIT: usize = 15;
const KEPT: usize = 5;

/// Runs on integers only, so that it gives the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn round_trip(at_us: u64, dice: &mut Dice) -> u64 {
    let plain = 180 + dice.below(240) + dice.below(40) * dice.below(40);
    match at_us {
        t if (5 * SECOND..8 * SECOND).contains(&t) => plain + 30_000 + dice.below(20_000),
        t if (11 * SECOND..13 * SECOND).contains(&t) => 13 * SECOND - t + plain,
        _ => plain,
    }
}

/// A queue before `LIMIT` servers whose service time follows the faults.
pub(crate) fn history() -> Vec<OpRecord> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut free_at = [0_u64; LIMIT];
    let mut at = 0;
    let mut ops = Vec::new();
    let mut terminated = false;
    loop {
        at += 1 + dice.below(5_000);
        if at >= END {
            return ops;
        }
        let id = ops.len() as u64;
        let mut op = new_op(id, at, dice.below(100));
        op.started_us = at + 40 + dice.below(300);
        let slot = (0..LIMIT).min_by_key(|i| free_at[*i]).unwrap();
        let acquired = free_at[slot].max(op.started_us) + 8 + dice.below(40);
        if acquired - op.started_us > TIMEOUT {
            end(
                &mut op,
                at + TIMEOUT + 300,
                Outcome::Shed,
                ErrorCategory::Capacity,
            );
            ops.push(op);
            continue;
        }
        op.acquired_us = Some(acquired);
        let mut now = acquired;
        for trip in 0..ROUND_TRIPS {
            if trip + 1 == ROUND_TRIPS && op.ending == Ending::Commit {
                op.commit_sent_us = Some(now);
            }
            now += round_trip(now, &mut dice);
        }
        settle(&mut op, now, &mut terminated);
        free_at[slot] = op.ended_us.unwrap_or(now);
        ops.push(op);
    }
}

fn new_op(id: u64, at: u64, die: u64) -> OpRecord {
    OpRecord {
        id,
        workload: if id.is_multiple_of(3) {
            "write-set"
        } else {
            "bank"
        }
        .into(),
        ending: match die {
            0..80 => Ending::Commit,
            80..90 => Ending::Rollback,
            90..95 => Ending::Panic,
            _ => Ending::Cancel { after_us: 1_500 },
        },
        effect: Effect::Transfer {
            from: 1,
            to: 2,
            amount: 5,
        },
        intended_us: at,
        started_us: at,
        deadline_us: 3 * SECOND,
        acquired_us: None,
        commit_sent_us: None,
        ended_us: None,
        outcome: Outcome::Ok,
        error: None,
        backend_pid: None,
        previous_op: None,
        clean_probe: None,
    }
}

fn settle(op: &mut OpRecord, done: u64, terminated: &mut bool) {
    let acquired = op.acquired_us.unwrap();
    if (acquired..done).contains(&RESET_AT) {
        if op.commit_sent_us.is_some_and(|sent| sent < RESET_AT) {
            return end(op, RESET_AT, Outcome::Info, ErrorCategory::Ambiguous);
        }
        op.commit_sent_us = None;
        return end(op, RESET_AT, Outcome::Fail, ErrorCategory::Connection);
    }
    if !*terminated && (acquired..done).contains(&TERMINATED_AT) {
        *terminated = true;
        op.commit_sent_us = None;
        return end(op, TERMINATED_AT, Outcome::Fail, ErrorCategory::Connection);
    }
    match op.ending {
        Ending::Commit | Ending::Rollback => op.ended_us = Some(done),
        Ending::Panic => end(op, done, Outcome::Fail, ErrorCategory::Panicked),
        Ending::Cancel { after_us } => {
            let at = (op.started_us + after_us).clamp(acquired, done);
            end(op, at, Outcome::Fail, ErrorCategory::Cancelled);
        }
    }
}

fn end(op: &mut OpRecord, at: u64, outcome: Outcome, category: ErrorCategory) {
    op.ended_us = Some(at);
    op.outcome = outcome;
    op.error = Some(OpError {
        category,
        sqlstate: None,
        message: match category {
            ErrorCategory::Capacity => "no connection within 1 s (15 of 15 in use, 211 waiting)",
            ErrorCategory::Connection => "connection reset by peer",
            ErrorCategory::Ambiguous => "connection reset by peer after COMMIT was written",
            ErrorCategory::Panicked => "planned panic",
            _ => "cancelled by the driver after 1.5 ms",
        }
        .into(),
    });
}

pub(crate) fn samples(ops: &[OpRecord]) -> Vec<Sample> {
    let mut open = KEPT;
    let mut opened_total = KEPT as u64;
    let mut samples = Vec::new();
    for at_us in (0..END).step_by(50_000) {
        let held = |op: &&OpRecord| {
            op.acquired_us.is_some_and(|t| t <= at_us) && op.ended_us.is_some_and(|t| t > at_us)
        };
        let queued = |op: &&OpRecord| {
            op.started_us <= at_us && op.acquired_us.or(op.ended_us).is_some_and(|t| t > at_us)
        };
        let in_use = ops.iter().filter(held).count();
        let waiting = ops.iter().filter(queued).count() as u64;
        if at_us == RESET_AT {
            open = 0;
        }
        let wanted = in_use.max(KEPT);
        let opening = wanted.saturating_sub(open) as u64;
        opened_total += opening;
        open = wanted;
        samples.push(Sample {
            at_us,
            pool: PoolView {
                in_use: Some(in_use as u64),
                idle: Some((open - in_use) as u64),
                opening: Some(opening.min(3)),
                waiting: Some(waiting),
                size: Some(open as u64),
                opened_total: Some(opened_total),
                ..PoolView::default()
            },
            in_flight: in_use as u64 + waiting,
            links: open as u64,
        });
    }
    samples
}
