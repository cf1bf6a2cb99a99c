//! Counts facts and keeps the first few violations.

use crate::{Guarantee, GuaranteeResult, GuaranteeStatus};

/// How many violations a result shows. The rest is only counted: five lines are enough to find
/// them in the history, and a report stays readable.
const EVIDENCE_LINES: usize = 5;

const NOTHING: &str = "nothing was checked";

/// The facts that one checker looked at.
#[derive(Debug, Default)]
pub(super) struct Tally {
    checked: u64,
    violations: u64,
    evidence: Vec<String>,
}

impl Tally {
    /// Counts one fact; `evidence` is asked only for a violation that will be shown.
    pub(super) fn fact(&mut self, holds: bool, evidence: impl FnOnce() -> String) {
        if holds {
            self.held(1);
        } else {
            self.violations(1, evidence);
        }
    }

    /// Counts facts that hold.
    pub(super) fn held(&mut self, facts: u64) {
        self.checked += facts;
    }

    /// Counts facts that do not hold and share one line of evidence.
    pub(super) fn violations(&mut self, facts: u64, evidence: impl FnOnce() -> String) {
        self.checked += facts;
        self.violations += facts;
        if self.evidence.len() < EVIDENCE_LINES {
            self.evidence.push(evidence());
        }
    }

    /// Counts a fact that does not hold.
    pub(super) fn violation(&mut self, evidence: impl FnOnce() -> String) {
        self.violations(1, evidence);
    }

    /// Concludes with `held` or `violated`.
    pub(super) fn conclude(self, guarantee: Guarantee, summary: String) -> GuaranteeResult {
        self.finish(guarantee, summary, GuaranteeStatus::Held)
    }

    /// Concludes with `void`, unless something was violated all the same.
    pub(super) fn conclude_void(
        self,
        guarantee: Guarantee,
        summary: String,
        reason: &str,
    ) -> GuaranteeResult {
        self.finish(guarantee, summary, GuaranteeStatus::Void(reason.to_owned()))
    }

    /// Concludes that the guarantee was not judged, with `status`, unless something was violated all
    /// the same.
    pub(super) fn conclude_unjudged(
        self,
        guarantee: Guarantee,
        summary: Option<String>,
        status: GuaranteeStatus,
    ) -> GuaranteeResult {
        if self.violations == 0 {
            return unjudged(guarantee, status);
        }
        let summary = summary.unwrap_or_else(|| NOTHING.to_owned());
        self.conclude(guarantee, summary)
    }

    fn finish(
        self,
        guarantee: Guarantee,
        summary: String,
        otherwise: GuaranteeStatus,
    ) -> GuaranteeResult {
        GuaranteeResult {
            guarantee,
            status: if self.violations > 0 {
                GuaranteeStatus::Violated
            } else {
                otherwise
            },
            checked: self.checked,
            violations: self.violations,
            summary,
            evidence: self.evidence,
        }
    }
}

/// The result of a guarantee whose look failed.
pub(super) fn unseen(guarantee: Guarantee, reason: &str) -> GuaranteeResult {
    unjudged(guarantee, GuaranteeStatus::Void(reason.to_owned()))
}

/// The result of a guarantee that the scenario holds nothing for.
pub(super) fn nothing_to_check(guarantee: Guarantee, reason: &str) -> GuaranteeResult {
    let status = GuaranteeStatus::NothingToCheck(reason.to_owned());
    unjudged(guarantee, status)
}

fn unjudged(guarantee: Guarantee, status: GuaranteeStatus) -> GuaranteeResult {
    GuaranteeResult {
        guarantee,
        status,
        checked: 0,
        violations: 0,
        summary: NOTHING.to_owned(),
        evidence: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::{Guarantee, GuaranteeStatus};

    #[test]
    fn the_first_five_violations_are_shown_and_all_are_counted() {
        let mut tally = Tally::default();
        for fact in 0..20 {
            tally.fact(fact % 2 == 0, || format!("fact {fact}"));
        }
        let result = tally.conclude(Guarantee::X, "twenty facts".into());
        assert_eq!((result.checked, result.violations), (20, 10));
        assert_eq!(
            result.evidence,
            ["fact 1", "fact 3", "fact 5", "fact 7", "fact 9"]
        );
        assert_eq!(result.status, GuaranteeStatus::Violated);
    }

    #[test]
    fn a_violation_decides_before_void() {
        let mut tally = Tally::default();
        tally.violation(|| "broken".into());
        let result = tally.conclude_void(Guarantee::X, String::new(), "nothing happened");
        assert_eq!(result.status, GuaranteeStatus::Violated);
    }
}
