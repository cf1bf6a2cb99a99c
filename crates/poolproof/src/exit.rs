//! Exit codes. Nothing else in the workspace knows them.

use poolproof_report::{CutShort, Verdict};
use poolproof_run::RunError;

/// Everything that could be judged was good.
pub(crate) const OK: u8 = 0;
/// A guarantee or an objective was violated.
pub(crate) const FAILED: u8 = 1;
/// A mistake on the command line or in a file.
pub(crate) const USAGE: u8 = 2;
/// Something that is needed is not there.
pub(crate) const ENVIRONMENT: u8 = 3;
/// Something that was to be judged could not be.
pub(crate) const INCONCLUSIVE: u8 = 4;
/// A fault without effect, or a measurement that cannot be trusted.
pub(crate) const INVALID: u8 = 5;
/// Ctrl-C or SIGTERM.
pub(crate) const INTERRUPTED: u8 = 130;

/// The paragraph that help texts end with.
pub(crate) const HELP: &str = "\
Exit codes:
    0  pass
    1  a guarantee or an objective failed
    2  a mistake on the command line or in a scenario file
    3  Postgres, the proxy or another part of the environment is not available
    4  inconclusive: something that was to be judged could not be
    5  invalid: a fault had no effect, or a measurement that the verdict needs cannot be trusted
  130  interrupted (Ctrl-C or SIGTERM); a partial report is still written";

/// From good to bad. A violated guarantee is worse than not knowing.
const ORDER: [u8; 7] = [
    OK,
    INCONCLUSIVE,
    INVALID,
    ENVIRONMENT,
    USAGE,
    FAILED,
    INTERRUPTED,
];

/// Returns the code of a run that took place: that of its verdict, but that of an interrupt for one that
/// was interrupted, and that of the environment for one without a violation whose server was lost.
pub(crate) fn of(verdict: Verdict, cut_short: Option<CutShort>) -> u8 {
    match (cut_short, verdict) {
        (Some(CutShort::Interrupted), _) => INTERRUPTED,
        (_, Verdict::Fail) => FAILED,
        (Some(CutShort::ServerLost), _) => ENVIRONMENT,
        (None, Verdict::Pass) => OK,
        (None, Verdict::Inconclusive) => INCONCLUSIVE,
        (None, Verdict::Invalid) => INVALID,
    }
}

/// Returns the code of a run that did not take place.
pub(crate) fn of_error(error: &RunError) -> u8 {
    match error {
        RunError::NotLoopback { .. }
        | RunError::WrongConfirmation { .. }
        | RunError::NotTcp { .. }
        | RunError::Schedule(_)
        | RunError::Scenario(_)
        | RunError::Unfit { .. } => USAGE,
        RunError::Start(_)
        | RunError::Container(_)
        | RunError::Connect { .. }
        | RunError::Prepare { .. }
        | RunError::Pooler { .. }
        | RunError::Elsewhere { .. }
        | RunError::NotKept { .. }
        | RunError::Proxy(_)
        | RunError::NoRoom { .. }
        | RunError::Subject { .. }
        | RunError::Report { .. }
        | RunError::Unreported { .. }
        | RunError::Slow { .. } => ENVIRONMENT,
        RunError::Interrupted => INTERRUPTED,
    }
}

/// Returns the worse of two codes.
pub(crate) fn worse(a: u8, b: u8) -> u8 {
    let rank = |code| ORDER.iter().position(|known| *known == code);
    match (rank(a), rank(b)) {
        (Some(a_rank), Some(b_rank)) if a_rank >= b_rank => a,
        (Some(_), Some(_)) => b,
        (None, _) => a,
        (_, None) => b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violated_guarantee_is_worse_than_an_invalid_run() {
        assert_eq!(worse(INVALID, FAILED), FAILED);
        assert_eq!(worse(FAILED, INVALID), FAILED);
    }

    #[test]
    fn a_run_ends_with_what_ended_it_unless_something_broke_before() {
        let (user, server) = (Some(CutShort::Interrupted), Some(CutShort::ServerLost));
        for (verdict, cut_short, code) in [
            (Verdict::Pass, None, OK),
            (Verdict::Fail, None, FAILED),
            (Verdict::Inconclusive, None, INCONCLUSIVE),
            (Verdict::Invalid, None, INVALID),
            (Verdict::Inconclusive, user, INTERRUPTED),
            (Verdict::Inconclusive, server, ENVIRONMENT),
            (Verdict::Fail, server, FAILED),
            (Verdict::Fail, user, INTERRUPTED),
        ] {
            assert_eq!(of(verdict, cut_short), code, "{verdict} {cut_short:?}");
        }
    }

    #[test]
    fn an_interrupt_is_the_worst_and_a_pass_the_best() {
        for code in ORDER {
            assert_eq!(worse(code, INTERRUPTED), INTERRUPTED);
            assert_eq!(worse(OK, code), code);
        }
    }

    #[test]
    fn the_help_text_names_every_code() {
        for code in ORDER {
            assert!(HELP.contains(&format!("{code:>5}  ")), "{code}");
        }
    }
}
