//! The guarantees: one checker for each, all over the same observations.
//!
//! A checker counts single *facts* in a tally; a fact that does not hold is a violation and leaves
//! a line of evidence. A violation decides, whatever else is missing: `violated` comes before
//! `void`, and `void` before `held`.

mod atomic;
mod clean;
mod culprit;
mod leaks;
mod limit;
mod once;
mod tally;
mod time;

use crate::{Guarantee, GuaranteeResult, Observations};

pub use time::GRACE_US;

/// Judges a run: one result per guarantee, in the order of [`Guarantee::ALL`].
///
/// A part of the observations whose look failed makes the guarantees that rest on it `void` with its
/// reason, and so does a run in which nothing relevant happened (no probe was answered, no op was
/// applied). What the subject cannot tell is `not-checked`; what the scenario holds nothing for has
/// `nothing-to-check`. Evidence comes in the order of the history, so the same
/// observations give the same results.
///
/// The rules are those of Jepsen's outcome model (`ok`, `fail`, `info`), of its bank test, and of
/// an op log that may hold an id twice. Takes O((ops + rows) · log rows).
#[must_use]
pub fn guarantees(observations: &Observations<'_>) -> Vec<GuaranteeResult> {
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
    use super::guarantees;
    use crate::fixture::World;
    use crate::{Guarantee, GuaranteeStatus};

    #[test]
    fn every_guarantee_is_judged_once_in_the_order_of_reports() {
        let world = World::default();
        let order: Vec<Guarantee> = guarantees(&world.observations())
            .into_iter()
            .map(|result| result.guarantee)
            .collect();
        assert_eq!(order, Guarantee::ALL);
    }

    #[test]
    fn without_history_and_looks_everything_is_void() {
        let world = World::default();
        let mut observations = world.observations();
        observations.pool = Err("the subject is gone".into());
        observations.server = Err("the server is gone".into());
        observations.capacity = Err("the run was interrupted".into());
        observations.store = Err("the tables are gone".into());
        let statuses: Vec<GuaranteeStatus> = guarantees(&observations)
            .into_iter()
            .map(|result| result.status)
            .collect();
        let void = |reason: &str| GuaranteeStatus::Void(reason.into());
        assert_eq!(
            statuses,
            [
                void("the subject is gone"),
                void("the server is gone"),
                void("the run was interrupted"),
                void("no clean probe was answered"),
                void("the tables are gone"),
                void("the tables are gone"),
                void("the tables are gone"),
                void("no op was started"),
            ]
        );
    }
}
