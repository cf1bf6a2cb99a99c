//! Guarantees, their results, and the verdict over a run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FaultEvent;
use crate::figures::counted;

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

/// Whether a guarantee held. There are three ways not to be judged, and only `Void` stands in the
/// way of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "status", content = "reason")]
pub enum GuaranteeStatus {
    /// Checked and found kept.
    Held,
    /// Checked and found broken.
    Violated,
    /// It was to be judged and could not be: the look failed, or the fault or the ops that it needs
    /// never took effect.
    Void(String),
    /// The subject cannot tell what it takes.
    NotChecked(String),
    /// The scenario holds nothing that could keep or break it.
    NothingToCheck(String),
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
    /// Every guarantee that was to be judged was, and held.
    Pass,
    /// A guarantee or an objective was violated.
    Fail,
    /// Something that was to be judged could not be.
    Inconclusive,
    /// A fault had no effect, or a measurement cannot be trusted.
    Invalid,
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

/// Returns the verdict over a run, and why, one line per reason and the most important first.
///
/// `fail` when a guarantee or an objective is violated; else `invalid` when a fault was not seen
/// or an objective is void, since its measurement cannot be trusted; else `inconclusive` when a
/// guarantee is void or an objective was not judged; else `pass`. A guarantee that the subject cannot
/// tell of, or that the scenario does not ask for, changes nothing. The reasons name everything that
/// stands in the way of a pass, not only what decided.
#[must_use]
pub fn verdict(
    guarantees: &[GuaranteeResult],
    objectives: &[GuaranteeStatus],
    faults: &[FaultEvent],
) -> (Verdict, Vec<String>) {
    let failed = failures(guarantees, objectives);
    let invalid = invalidities(objectives, faults);
    let inconclusive: Vec<String> = guarantees
        .iter()
        .filter_map(|result| match &result.status {
            GuaranteeStatus::Void(reason) => Some(format!(
                "{} could not be judged: {reason}",
                result.guarantee.code()
            )),
            _ => None,
        })
        .chain(unjudged(objectives))
        .collect();
    let verdict = if !failed.is_empty() {
        Verdict::Fail
    } else if !invalid.is_empty() {
        Verdict::Invalid
    } else if !inconclusive.is_empty() {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    };
    (verdict, [failed, invalid, inconclusive].concat())
}

fn failures(guarantees: &[GuaranteeResult], objectives: &[GuaranteeStatus]) -> Vec<String> {
    let mut reasons: Vec<String> = guarantees
        .iter()
        .filter(|result| result.status == GuaranteeStatus::Violated)
        .map(|result| {
            let example = match result.evidence.first() {
                Some(line) => format!("; {line}"),
                None => String::new(),
            };
            format!(
                "{} violated ({}): {}{example}",
                result.guarantee.code(),
                result.guarantee.title(),
                counted(result.violations, "violation"),
            )
        })
        .collect();
    let missed = objectives
        .iter()
        .filter(|status| **status == GuaranteeStatus::Violated)
        .count();
    if missed > 0 {
        reasons.push(format!("{missed} of {} missed", objectives_of(objectives)));
    }
    reasons
}

fn invalidities(objectives: &[GuaranteeStatus], faults: &[FaultEvent]) -> Vec<String> {
    let unseen = faults
        .iter()
        .filter(|fault| !fault.effect.seen)
        .map(|fault| {
            let problem = fault
                .effect
                .problem
                .as_deref()
                .unwrap_or("no effect was seen");
            format!(
                "fault {} ({}) does not count: {problem}",
                fault.name, fault.title
            )
        });
    let untrusted = objectives.iter().filter_map(|status| match status {
        GuaranteeStatus::Void(reason) => Some(format!("an objective cannot be judged: {reason}")),
        _ => None,
    });
    unseen.chain(untrusted).collect()
}

/// An objective that a scenario sets and nobody judged is no plain pass.
fn unjudged(objectives: &[GuaranteeStatus]) -> impl Iterator<Item = String> {
    objectives.iter().filter_map(|status| match status {
        GuaranteeStatus::NotChecked(reason) => {
            Some(format!("an objective was not judged: {reason}"))
        }
        _ => None,
    })
}

fn objectives_of(objectives: &[GuaranteeStatus]) -> String {
    counted(
        u64::try_from(objectives.len()).unwrap_or(u64::MAX),
        "objective",
    )
}

#[cfg(test)]
mod tests {
    use super::{Guarantee, GuaranteeResult, GuaranteeStatus, Verdict, verdict};
    use crate::{FaultEffect, FaultEvent};

    fn result(guarantee: Guarantee, status: GuaranteeStatus) -> GuaranteeResult {
        let violations = u64::from(status == GuaranteeStatus::Violated) * 2;
        GuaranteeResult {
            guarantee,
            status,
            checked: 10,
            violations,
            summary: "ten facts".into(),
            evidence: vec!["op 7: applied twice".into(); usize::from(violations > 0)],
        }
    }

    fn fault(seen: bool, problem: Option<&str>) -> FaultEvent {
        FaultEvent {
            name: "cut".into(),
            kind: "reset".into(),
            title: "reset all links".into(),
            start_us: 1,
            end_us: 1,
            effect: FaultEffect {
                seen,
                count: 0,
                unit: "links reset".into(),
                problem: problem.map(Into::into),
            },
            planned: None,
            within: Vec::new(),
        }
    }

    fn void(reason: &str) -> GuaranteeStatus {
        GuaranteeStatus::Void(reason.into())
    }

    #[test]
    fn what_is_held_or_not_checked_passes_without_a_reason() {
        let guarantees = [
            result(
                Guarantee::L1,
                GuaranteeStatus::NotChecked("no books".into()),
            ),
            result(Guarantee::X, GuaranteeStatus::Held),
        ];
        assert_eq!(
            verdict(&guarantees, &[GuaranteeStatus::Held], &[fault(true, None)]),
            (Verdict::Pass, Vec::new())
        );
        assert_eq!(verdict(&[], &[], &[]), (Verdict::Pass, Vec::new()));
    }

    #[test]
    fn a_violation_fails_whatever_else_is_wrong_and_every_reason_is_named() {
        let guarantees = [
            result(Guarantee::C, void("no clean probe was answered")),
            result(Guarantee::X, GuaranteeStatus::Violated),
        ];
        let objectives = [GuaranteeStatus::Violated, void("the generator lagged")];
        let faults = [fault(false, Some("no link was open")), fault(false, None)];
        assert_eq!(
            verdict(&guarantees, &objectives, &faults),
            (
                Verdict::Fail,
                vec![
                    "X violated (no acknowledged commit lost, nothing applied twice): \
                     2 violations; op 7: applied twice"
                        .to_owned(),
                    "1 of 2 objectives missed".to_owned(),
                    "fault cut (reset all links) does not count: no link was open".to_owned(),
                    "fault cut (reset all links) does not count: no effect was seen".to_owned(),
                    "an objective cannot be judged: the generator lagged".to_owned(),
                    "C could not be judged: no clean probe was answered".to_owned(),
                ]
            )
        );
    }

    #[test]
    fn a_missed_objective_alone_fails() {
        let guarantees = [result(Guarantee::X, GuaranteeStatus::Held)];
        assert_eq!(
            verdict(&guarantees, &[GuaranteeStatus::Violated], &[]),
            (Verdict::Fail, vec!["1 of 1 objective missed".to_owned()])
        );
    }

    #[test]
    fn an_objective_that_was_not_judged_is_no_pass() {
        let guarantees = [result(Guarantee::X, GuaranteeStatus::Held)];
        let objectives = [
            GuaranteeStatus::Held,
            GuaranteeStatus::NotChecked("the load ended too soon".into()),
        ];
        assert_eq!(
            verdict(&guarantees, &objectives, &[]),
            (
                Verdict::Inconclusive,
                vec!["an objective was not judged: the load ended too soon".to_owned()]
            )
        );
    }

    #[test]
    fn an_unseen_fault_or_an_untrusted_objective_is_invalid_before_inconclusive() {
        let guarantees = [result(Guarantee::R2, void("no write set was applied"))];
        let (unseen, _) = verdict(&guarantees, &[], &[fault(true, None), fault(false, None)]);
        assert_eq!(unseen, Verdict::Invalid);
        let (untrusted, _) = verdict(&guarantees, &[void("the generator lagged")], &[]);
        assert_eq!(untrusted, Verdict::Invalid);
        assert_eq!(
            verdict(&guarantees, &[], &[fault(true, None)]),
            (
                Verdict::Inconclusive,
                vec!["R2 could not be judged: no write set was applied".to_owned()]
            )
        );
    }
}
