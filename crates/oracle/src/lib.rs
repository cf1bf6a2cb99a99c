//! The vocabulary of a run and the invariants that judge it.
//!
//! A run produces a *history* (what was asked of the pool and what it answered), *fault events*
//! and *observations* (what the pool, the server and the tables showed afterwards). Together they are
//! its *evidence*, of which [`judge`] makes a [`Judgement`]: guarantees, objectives, verdict.
//!
//! Not here: a runtime, a clock, a socket, a file. Everything is a value that somebody else
//! measured, so property tests and scenario runs use the same checkers.

mod answers;
mod clean;
mod counts;
mod doubt;
mod fault;
mod figures;
#[cfg(test)]
mod fixture;
mod guarantees;
mod history;
mod judge;
mod objectives;
mod observe;
mod op;
mod outcome;
mod recovery;
mod spans;
mod verdict;

pub use clean::CLEAN_PROBE_SQL;
pub use counts::{OpCounts, counts};
pub use doubt::commits_in_doubt;
pub use fault::{FaultEffect, FaultEvent, FaultPlanned};
pub use figures::format_duration;
pub use guarantees::{GRACE_US, guarantees};
pub use history::{CommitInDoubt, DoubtCause, OpRecord};
pub use judge::{CutShort, Ended, Evidence, Judgement, judge};
pub use objectives::{ObjectiveResult, Objectives};
pub use observe::{
    BackendRow, BankSnapshot, CapacityProbe, Limits, Observations, PoolView, Sample, ServerView,
    Stall, Store,
};
pub use op::{Effect, Ending, Op, Statement};
pub use outcome::{ErrorCategory, OpError, Outcome};
pub use recovery::recovery_us;
pub use verdict::{Guarantee, GuaranteeResult, GuaranteeStatus, Verdict, verdict};
