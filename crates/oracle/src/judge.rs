//! The judge: one checker per guarantee, each over the same observations.
//!
//! A checker counts single *facts* in a tally; a fact that does not hold is a violation and leaves
//! a line of evidence. A violation decides, whatever else is missing: `violated` comes before
//! `void`, and `void` before `held`.

mod atomic;
mod clean;
mod leaks;
mod limit;
mod once;
mod tally;
mod time;

use crate::{Guarantee, GuaranteeResult, Observations};

pub use time::GRACE_US;

/// Judges a run: one result per guarantee, in the order of [`Guarantee::ALL`].
///
/// A part of the observations that is missing makes the guarantees that rest on it
/// `not-checked` with its reason. A guarantee for which nothing relevant happened (no probe was
/// answered, no op was applied) is `void`. Evidence comes in the order of the history, so the same
/// observations give the same results.
///
/// The rules are those of Jepsen's outcome model (`ok`, `fail`, `info`), of its bank test, and of
/// an op log that may hold an id twice. Takes O((ops + rows) · log rows).
#[must_use]
pub fn judge(observations: &Observations<'_>) -> Vec<GuaranteeResult> {
    Guarantee::ALL
        .into_iter()
        .map(|guarantee| match guarantee {
            Guarantee::L1 => leaks::pool_books(observations),
            Guarantee::L2 => leaks::server_books(observations),
            Guarantee::L6 => leaks::capacity(observations),
            Guarantee::C => clean::clean_checkout(observations),
            Guarantee::R1 => atomic::bank(observations),
            Guarantee::R2 => atomic::write_sets(observations),
            Guarantee::X => once::op_log(observations),
            Guarantee::T => time::bounded(observations),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::fixture::World;
    use crate::{Guarantee, GuaranteeStatus};

    #[test]
    fn every_guarantee_is_judged_once_in_the_order_of_reports() {
        let world = World::default();
        let order: Vec<Guarantee> = judge(&world.observations())
            .into_iter()
            .map(|result| result.guarantee)
            .collect();
        assert_eq!(order, Guarantee::ALL);
    }

    #[test]
    fn without_history_and_observations_nothing_is_held() {
        let world = World::default();
        let mut observations = world.observations();
        observations.pool = Err("the subject is gone".into());
        observations.server = Err("the server is gone".into());
        observations.capacity = Err("the run was interrupted".into());
        observations.store = Err("the tables are gone".into());
        let statuses: Vec<GuaranteeStatus> = judge(&observations)
            .into_iter()
            .map(|result| result.status)
            .collect();
        let not_checked = |reason: &str| GuaranteeStatus::NotChecked(reason.into());
        assert_eq!(
            statuses,
            [
                not_checked("the subject is gone"),
                not_checked("the server is gone"),
                not_checked("the run was interrupted"),
                GuaranteeStatus::Void("no clean probe was answered".into()),
                not_checked("the tables are gone"),
                not_checked("the tables are gone"),
                not_checked("the tables are gone"),
                GuaranteeStatus::Void("no op was started".into()),
            ]
        );
    }
}
