//! The vocabulary of a run and the invariants that judge it.
//!
//! A run produces a *history* (what was asked of the pool and what it answered), *fault events*
//! and *observations* (what the pool, the server and the tables showed afterwards). [`judge`]
//! turns them into one [`GuaranteeResult`] per guarantee.
//!
//! Not here: a runtime, a clock, a socket, a file. Everything is a value that somebody else
//! measured, so property tests and scenario runs use the same checkers.

mod clean;
mod counts;
mod doubt;
mod fault;
mod figures;
#[cfg(test)]
mod fixture;
mod history;
mod judge;
mod objective;
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
pub use history::{CommitInDoubt, DoubtCause, OpRecord};
pub use judge::{GRACE_US, judge};
pub use objective::{Answers, answers, lag_limit_us};
pub use observe::{
    BackendRow, BankSnapshot, CapacityProbe, Limits, Observations, PoolView, Sample, ServerView,
    Stall, Store,
};
pub use op::{Effect, Ending, Op, Statement};
pub use outcome::{ErrorCategory, OpError, Outcome};
pub use recovery::recovery_us;
pub use verdict::{Guarantee, GuaranteeResult, GuaranteeStatus, Verdict, verdict};
