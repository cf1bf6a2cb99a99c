//! The schedule: which ops, when each should start, and how each ends.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use poolproof_oracle::{Ending, Op};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::seed::{Purpose, Stream};
use crate::workload::{WRITE_SET_TABLES_MAX, Workload};

/// The most ops that a schedule can have: they are all kept in memory, with a record each.
pub const OPS_MAX: u32 = 10_000_000;

/// What to ask of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSpec {
    /// Ops per second, on average.
    pub rate_per_s: f64,
    /// How they are spread.
    pub arrivals: Arrivals,
    /// How long ops are started.
    pub duration: Duration,
    /// How long one op may take from its actual start.
    pub deadline: Duration,
    /// Pause of each op between its last statement and its ending.
    pub hold: Duration,
    /// Fraction of ops that look at the state of the connection they got, 0 to 1. An op whose
    /// connection is suspect looks in any case.
    pub clean_checks: f64,
    /// How often each ending occurs.
    pub endings: EndingWeights,
    /// Cancelled ops are dropped at a moment uniform in 0 to this, from their actual start.
    pub cancel_within: Duration,
    /// How often each workload occurs; each kind at most once.
    pub workloads: Vec<WeightedWorkload>,
}

/// How arrivals are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Independent arrivals: exponential gaps.
    Poisson,
    /// Equal gaps; the first op at 0.
    Uniform,
}

/// How often each ending occurs, relative to the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndingWeights {
    /// The transaction commits.
    pub commit: u32,
    /// The transaction rolls back.
    pub rollback: u32,
    /// The code that holds the transaction panics.
    pub panic: u32,
    /// The future that runs the op is dropped.
    pub cancel: u32,
}

/// A workload and how often it occurs, relative to the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightedWorkload {
    /// The workload.
    pub workload: Workload,
    /// Its weight.
    pub weight: u32,
}

/// All ops of a run, in the order of their intended starts; an op's id is its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The ops.
    pub ops: Vec<Op>,
}

/// Why there is no schedule.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ScheduleError {
    /// The rate is zero, negative or not a number.
    #[error("generate arrivals at {0} operations per second: the rate must be above 0")]
    Rate(f64),
    /// More ops than can be kept.
    #[error("generate about {0:.0} operations: at most {OPS_MAX} fit in one run")]
    TooManyOps(f64),
    /// The fraction lies outside its interval.
    #[error("check {0} of the connections: the fraction must lie between 0 and 1")]
    CleanChecks(f64),
    /// An op would be over before it began.
    #[error("generate operations with a deadline of 0")]
    Deadline,
    /// All weights of endings are zero.
    #[error("choose endings: all their weights are 0")]
    NoEnding,
    /// There is no workload, or all weights are zero.
    #[error("choose workloads: there is none with a weight above 0")]
    NoWorkload,
    /// Both would use the same tables.
    #[error("generate two workloads `{0}`: each kind can be used once")]
    DuplicateWorkload(&'static str),
    /// A transfer needs two accounts.
    #[error(
        "generate transfers between {0} accounts: at least 2 and at most 2147483647 are needed"
    )]
    Accounts(u32),
    /// The sum over all accounts would overflow.
    #[error("open {accounts} accounts with {opening_balance} each: the total exceeds a bigint")]
    Total {
        /// How many accounts.
        accounts: u32,
        /// Balance of each.
        opening_balance: i64,
    },
    /// No table, or too many.
    #[error("write into {0} tables: a write set has 1 to {WRITE_SET_TABLES_MAX}")]
    Tables(u32),
}

impl Schedule {
    /// Generates the ops of a run.
    ///
    /// Op k depends on the seed, k and `spec` alone, so a longer duration only appends ops, and a
    /// changed weight of endings moves no arrival.
    ///
    /// # Errors
    /// A value of `spec` makes no sense; see [`ScheduleError`].
    pub fn generate(spec: &LoadSpec, seed: u64) -> Result<Self, ScheduleError> {
        check(spec)?;
        let end_ns = nanos(spec.duration);
        let mut clock = ArrivalClock::new(spec, seed);
        let mut ops = Vec::new();
        while let Some(at_ns) = clock.next().filter(|at_ns| *at_ns < end_ns) {
            ops.push(op(spec, seed, ops.len() as u64, at_ns / 1_000));
        }
        Ok(Self { ops })
    }

    /// Returns the SHA-256 over the ops, in hexadecimal: over one JSON object and one newline per
    /// op.
    ///
    /// # Panics
    /// Never: an op is plain data.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        let mut line = Vec::new();
        for op in &self.ops {
            line.clear();
            serde_json::to_writer(&mut line, op).expect("bug: an op is plain data");
            line.push(b'\n');
            hasher.update(&line);
        }
        let mut hex = String::with_capacity(64);
        for byte in hasher.finalize() {
            write!(hex, "{byte:02x}").expect("bug: writing to a String cannot fail");
        }
        hex
    }
}

/// Intended starts in nanoseconds, one per index, without end.
#[derive(Debug)]
struct ArrivalClock {
    arrivals: Arrivals,
    rate_per_s: f64,
    seed: u64,
    index: u64,
    at_ns: u64,
}

impl ArrivalClock {
    fn new(spec: &LoadSpec, seed: u64) -> Self {
        Self {
            arrivals: spec.arrivals,
            rate_per_s: spec.rate_per_s,
            seed,
            index: 0,
            at_ns: 0,
        }
    }
}

impl Iterator for ArrivalClock {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let index = self.index;
        self.index += 1;
        self.at_ns = match self.arrivals {
            // Rounding each gap to a nanosecond also hides the last bits of `ln`, in which
            // platforms differ.
            Arrivals::Poisson => {
                let unit = Stream::new(self.seed, index, Purpose::Gap).unit();
                self.at_ns
                    .saturating_add(rounded(-unit.ln() / self.rate_per_s * 1e9))
            }
            // From the index and not from the last arrival: rounding must not add up.
            Arrivals::Uniform => rounded(index as f64 * 1e9 / self.rate_per_s),
        };
        Some(self.at_ns)
    }
}

fn op(spec: &LoadSpec, seed: u64, id: u64, at_us: u64) -> Op {
    let stream = |purpose| Stream::new(seed, id, purpose);
    let workload = spec.workloads[pick(
        spec.workloads.iter().map(|w| w.weight),
        &mut stream(Purpose::Workload),
    )]
    .workload;
    let (statements, effect) = workload.content(id, &mut stream(Purpose::Content));
    Op {
        id,
        at_us,
        deadline_us: micros(spec.deadline),
        workload: Cow::Borrowed(workload.name()),
        statements,
        hold_us: micros(spec.hold),
        ending: ending(spec, seed, id),
        check_clean: stream(Purpose::CleanCheck).unit() <= spec.clean_checks,
        effect,
    }
}

fn ending(spec: &LoadSpec, seed: u64, id: u64) -> Ending {
    let EndingWeights {
        commit,
        rollback,
        panic,
        cancel,
    } = spec.endings;
    let weights = [commit, rollback, panic, cancel].into_iter();
    match pick(weights, &mut Stream::new(seed, id, Purpose::Ending)) {
        0 => Ending::Commit,
        1 => Ending::Rollback,
        2 => Ending::Panic,
        _ => Ending::Cancel {
            after_us: Stream::new(seed, id, Purpose::CancelPoint).below(micros(spec.cancel_within)),
        },
    }
}

/// Draws an index in proportion to the weights.
fn pick(weights: impl Iterator<Item = u32> + Clone, stream: &mut Stream) -> usize {
    let mut left = stream.below(weights.clone().map(u64::from).sum());
    weights
        .map(u64::from)
        .position(|weight| match left.checked_sub(weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
        .expect("bug: weights were checked to have a sum above 0")
}

fn check(spec: &LoadSpec) -> Result<(), ScheduleError> {
    if !(spec.rate_per_s.is_finite() && spec.rate_per_s > 0.0) {
        return Err(ScheduleError::Rate(spec.rate_per_s));
    }
    let expected = spec.rate_per_s * spec.duration.as_secs_f64();
    if expected > f64::from(OPS_MAX) {
        return Err(ScheduleError::TooManyOps(expected));
    }
    if !(0.0..=1.0).contains(&spec.clean_checks) {
        return Err(ScheduleError::CleanChecks(spec.clean_checks));
    }
    if micros(spec.deadline) == 0 {
        return Err(ScheduleError::Deadline);
    }
    let EndingWeights {
        commit,
        rollback,
        panic,
        cancel,
    } = spec.endings;
    if [commit, rollback, panic, cancel] == [0; 4] {
        return Err(ScheduleError::NoEnding);
    }
    if spec.workloads.iter().all(|w| w.weight == 0) {
        return Err(ScheduleError::NoWorkload);
    }
    for (index, weighted) in spec.workloads.iter().enumerate() {
        let name = weighted.workload.name();
        if spec.workloads[..index]
            .iter()
            .any(|other| other.workload.name() == name)
        {
            return Err(ScheduleError::DuplicateWorkload(name));
        }
        check_workload(weighted.workload)?;
    }
    Ok(())
}

fn check_workload(workload: Workload) -> Result<(), ScheduleError> {
    match workload {
        Workload::Bank { accounts, .. } if accounts < 2 || i32::try_from(accounts).is_err() => {
            Err(ScheduleError::Accounts(accounts))
        }
        Workload::Bank {
            accounts,
            opening_balance,
        } if opening_balance.checked_mul(i64::from(accounts)).is_none() => {
            Err(ScheduleError::Total {
                accounts,
                opening_balance,
            })
        }
        Workload::WriteSet { tables } if !(1..=WRITE_SET_TABLES_MAX).contains(&tables) => {
            Err(ScheduleError::Tables(tables))
        }
        Workload::Bank { .. } | Workload::WriteSet { .. } => Ok(()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and a time beyond 584 years is beyond every duration"
)]
fn rounded(value: f64) -> u64 {
    value.round() as u64
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
