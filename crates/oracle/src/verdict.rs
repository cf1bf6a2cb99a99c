//! Guarantees, their results, and the verdict over a run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A promise that a pool keeps or breaks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Guarantee {
    /// No leak, by the pool's own books.
    L1,
    /// No leak, by the server's books.
    L2,
    /// No leak, by using the whole capacity.
    L6,
    /// A borrower finds a clean connection.
    C,
    /// The bank's total never changes.
    R1,
    /// A write set is there whole or not at all.
    R2,
    /// Nothing acknowledged is lost, nothing is applied twice.
    X,
    /// Every call ends within its deadline.
    T,
}

impl Guarantee {
    /// All guarantees, in the order in which reports show them.
    pub const ALL: [Self; 8] = [
        Self::L1,
        Self::L2,
        Self::L6,
        Self::C,
        Self::R1,
        Self::R2,
        Self::X,
        Self::T,
    ];

    /// Returns its code, as used in reports and exit messages.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L6 => "L6",
            Self::C => "C",
            Self::R1 => "R1",
            Self::R2 => "R2",
            Self::X => "X",
            Self::T => "T",
        }
    }

    /// Returns the promise in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::L1 => "no leaked connection (pool's books)",
            Self::L2 => "no leaked connection, no open transaction (server's books)",
            Self::L6 => "full capacity after the run",
            Self::C => "clean connection at checkout",
            Self::R1 => "atomic transfers: the bank's total is constant",
            Self::R2 => "atomic write sets: all tables or none",
            Self::X => "no acknowledged commit lost, nothing applied twice",
            Self::T => "nothing waits beyond its deadline",
        }
    }
}

/// Whether a guarantee held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "status", content = "reason")]
pub enum GuaranteeStatus {
    /// Checked and found kept.
    Held,
    /// Checked and found broken.
    Violated,
    /// The fault or the ops that it needs never took effect.
    Void(String),
    /// It could not be checked.
    NotChecked(String),
}

/// What came of checking one guarantee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuaranteeResult {
    /// Which one.
    pub guarantee: Guarantee,
    /// The result.
    #[serde(flatten)]
    pub status: GuaranteeStatus,
    /// How many single facts were checked.
    pub checked: u64,
    /// How many of them broke the guarantee.
    pub violations: u64,
    /// What was checked, in one phrase with its figures.
    pub summary: String,
    /// The first few violations, each in one line.
    pub evidence: Vec<String>,
}

/// The verdict over a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every guarantee that could be checked held.
    Pass,
    /// A guarantee or an objective was violated.
    Fail,
    /// Something that was to be judged could not be.
    Inconclusive,
    /// A fault had no effect, or a measurement cannot be trusted.
    Invalid,
}

impl Verdict {
    /// Returns the exit code that stands for it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 4,
            Self::Invalid => 5,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Invalid => "invalid",
        })
    }
}
