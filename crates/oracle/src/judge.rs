//! The judge: from the evidence of one run to what it came to. Nothing else knows pass and fail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::objectives::{Measured, Recovery};
use crate::{
    FaultEvent, GuaranteeResult, GuaranteeStatus, ObjectiveResult, Objectives, Observations,
    Verdict, guarantees, recovery_us, verdict,
};

/// What ended a run before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CutShort {
    /// The user.
    Interrupted,
    /// The server died, or answered no more.
    ServerLost,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// At its time.
    Whole,
    /// By the user, at this moment of the load in microseconds.
    Interrupted {
        /// When.
        at_us: u64,
    },
    /// By the loss of its server.
    ServerLost {
        /// When in the load, in microseconds; none when the server was found gone after it.
        at_us: Option<u64>,
        /// What is known of it, and what to do, in one line.
        cause: String,
    },
}

impl Ended {
    /// Returns what ended the run early, if anything did.
    #[must_use]
    pub fn cut_short(&self) -> Option<CutShort> {
        match self {
            Self::Whole => None,
            Self::Interrupted { .. } => Some(CutShort::Interrupted),
            Self::ServerLost { .. } => Some(CutShort::ServerLost),
        }
    }

    /// Returns when in the load it ended early, in microseconds, if it did.
    fn at_us(&self) -> Option<u64> {
        match self {
            Self::Whole => None,
            Self::Interrupted { at_us } => Some(*at_us),
            Self::ServerLost { at_us, .. } => *at_us,
        }
    }
}

/// Everything that was seen of one run.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the guarantees rest on.
    pub observations: Observations<'a>,
    /// How it ended.
    pub ended: Ended,
    /// How long ops were offered, in microseconds.
    pub load_end_us: u64,
    /// How far the generator lagged at p99, in microseconds.
    pub lag_p99_us: u64,
    /// Whether the fault proxy let everything through in the end; else what is the matter with it.
    pub proxy: Result<(), String>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, one line each, most important first; empty for a plain pass.
    pub reasons: Vec<String>,
    /// The guarantees, in the order of [`crate::Guarantee::ALL`].
    pub guarantees: Vec<GuaranteeResult>,
    /// The objectives that are set, the response first.
    pub objectives: Vec<ObjectiveResult>,
    /// How long after each fault the run was well again, in microseconds, if it was; in the order of
    /// the faults. See [`recovery_us`].
    pub recoveries_us: Vec<Option<u64>>,
    /// Whether the generator kept up, so that latencies and rates count.
    pub performance_valid: bool,
}

/// Judges one run by its evidence alone: the same evidence gives the same judgement.
///
/// A run that was cut short passes nothing, since what was left out might have failed: without a
/// violation it is inconclusive. What a lost server made of faults and objectives says nothing of the
/// pool, so only a broken guarantee makes that a failure. An objective that was missed behind a proxy
/// that was gone is void.
#[must_use]
pub fn judge(evidence: &Evidence<'_>, objectives: &Objectives) -> Judgement {
    let Observations { faults, ops, .. } = evidence.observations;
    let recovered = |fault: &FaultEvent| {
        let target_us = objectives.target_us();
        recovery_us(ops, fault.end_us, evidence.load_end_us, target_us)
    };
    let recoveries: Vec<Recovery<'_>> = faults.iter().map(|f| (f, recovered(f))).collect();
    let measured = Measured {
        objectives,
        ops,
        recoveries: &recoveries,
        load_end_us: evidence.load_end_us,
        lag_p99_us: evidence.lag_p99_us,
    };
    let guarantees = guarantees(&evidence.observations);
    let mut objectives = measured.judge();
    excuse(&mut objectives, &evidence.proxy);
    let (verdict, reasons) = over_all(evidence, &guarantees, &objectives);
    Judgement {
        verdict,
        reasons,
        guarantees,
        objectives,
        performance_valid: measured.kept_up(),
        recoveries_us: recoveries.iter().map(|(_, took_us)| *took_us).collect(),
    }
}

/// A pool is not to blame for what it missed behind a proxy that was gone.
fn excuse(objectives: &mut [ObjectiveResult], proxy: &Result<(), String>) {
    let Err(reason) = proxy else { return };
    for objective in objectives {
        if objective.status == GuaranteeStatus::Violated {
            objective.status = GuaranteeStatus::Void(reason.clone());
        }
    }
}

fn over_all(
    evidence: &Evidence<'_>,
    guarantees: &[GuaranteeResult],
    objectives: &[ObjectiveResult],
) -> (Verdict, Vec<String>) {
    let statuses: Vec<_> = objectives.iter().map(|o| o.status.clone()).collect();
    // A fault that the end of the load cut short owes no effect either.
    let at_us = evidence.ended.at_us();
    let owed = |fault: &&FaultEvent| fault.effect.seen || at_us.is_none_or(|at| fault.end_us < at);
    let faults = evidence.observations.faults.iter();
    let faults: Vec<_> = faults.filter(owed).cloned().collect();
    let (verdict, mut reasons) = verdict(guarantees, &statuses, &faults);
    let broken = || {
        let mut statuses = guarantees.iter().map(|g| &g.status);
        statuses.any(|status| *status == GuaranteeStatus::Violated)
    };
    let stands = match &evidence.ended {
        Ended::Whole => true,
        Ended::Interrupted { .. } => verdict == Verdict::Fail,
        Ended::ServerLost { cause, .. } => {
            reasons.insert(0, cause.clone());
            broken()
        }
    };
    let verdict = if stands {
        verdict
    } else {
        Verdict::Inconclusive
    };
    (verdict, reasons)
}
