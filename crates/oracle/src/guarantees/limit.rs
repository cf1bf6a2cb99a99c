//! The limit on the pool's connections, at every look that the run took at the pool's own books.

use std::cmp::Reverse;

use super::tally::Tally;
use crate::Observations;
use crate::figures::{Seconds, counted, grouped};

/// Checks the size in every sample against the limit, and returns what was found in one phrase;
/// none without a limit, or when no sample tells a size.
///
/// A connection that is being closed counts as long as the pool counts it: the server may still
/// hold its backend. All samples above the limit share one line of evidence.
pub(super) fn within_limit(observations: &Observations<'_>, tally: &mut Tally) -> Option<String> {
    let max = observations.limits.pool_max?;
    let sizes: Vec<(u64, u64)> = observations
        .samples
        .iter()
        .filter_map(|sample| Some((sample.at_us, sample.pool.size?)))
        .collect();
    let (peak_at, peak) = *sizes
        .iter()
        .max_by_key(|(at, size)| (*size, Reverse(*at)))?;
    let above: Vec<(u64, u64)> = sizes
        .iter()
        .filter(|(_, size)| *size > max)
        .copied()
        .collect();
    let samples = counted(count_of(sizes.len()), "sample");
    if let Some((first_at, first)) = above.first() {
        tally.violations(count_of(above.len()), || {
            format!(
                "size: expected at most {max}, found {first} first at {} and {peak} at the peak \
                 at {}; above in {} of {samples}",
                Seconds(*first_at),
                Seconds(peak_at),
                grouped(count_of(above.len())),
            )
        });
    }
    tally.held(count_of(sizes.len() - above.len()));
    Some(format!(
        "during the run: size at most {peak} of {max} in {samples}"
    ))
}

fn count_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::fixture::World;
    use crate::guarantees::leaks::pool_books;
    use crate::{GuaranteeResult, GuaranteeStatus, PoolView, Sample};

    /// One sample each 100 ms.
    fn samples(sizes: impl IntoIterator<Item = Option<u64>>) -> Vec<Sample> {
        (0..)
            .zip(sizes)
            .map(|(index, size)| Sample {
                at_us: index * 100_000,
                pool: PoolView {
                    size,
                    ..PoolView::default()
                },
                in_flight: 0,
                links: 0,
            })
            .collect()
    }

    fn judge(pool_max: Option<u64>, sizes: &[u64]) -> GuaranteeResult {
        let mut world = World {
            samples: samples(sizes.iter().copied().map(Some)),
            ..World::default()
        };
        world.limits.pool_max = pool_max;
        pool_books(&world.observations())
    }

    #[test]
    fn a_pool_that_fills_its_limit_keeps_l1() {
        let result = judge(Some(15), &[5, 12, 15, 15, 5]);
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 8 + 5);
        assert!(
            result
                .summary
                .starts_with("during the run: size at most 15 of 15 in 5 samples; at quiescence: "),
            "{}",
            result.summary
        );
    }

    #[test]
    fn a_pool_that_exceeds_its_limit_between_two_quiet_moments_is_caught() {
        let result = judge(Some(15), &[5, 16, 15, 40, 40, 17, 5]);
        assert_eq!(result.status, GuaranteeStatus::Violated);
        assert_eq!((result.checked, result.violations), (8 + 7, 4));
        assert_eq!(
            result.evidence,
            [
                "size: expected at most 15, found 16 first at 0.100 s and 40 at the peak \
                 at 0.300 s; above in 4 of 7 samples"
            ]
        );
    }

    #[test]
    fn a_pool_without_a_limit_cannot_exceed_it() {
        let result = judge(None, &[5, 4_000]);
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 7);
    }

    #[test]
    fn samples_that_tell_no_size_are_passed_over() {
        let mut world = World {
            samples: samples([None, Some(15), None, Some(16)]),
            ..World::default()
        };
        assert_eq!(
            pool_books(&world.observations()).evidence,
            [
                "size: expected at most 15, found 16 first at 0.300 s and 16 at the peak \
                 at 0.300 s; above in 1 of 2 samples"
            ]
        );
        world.samples = samples([None, None]);
        assert_eq!(pool_books(&world.observations()).checked, 8);
    }

    #[test]
    fn a_size_above_the_limit_counts_whatever_is_not_known_of_quiescence() {
        let mut world = World {
            samples: samples([Some(15)]),
            pool: PoolView::default(),
            ..World::default()
        };
        let untold = "the subject tells nothing about its leases and connections";
        let gone = "the subject is gone".to_owned();
        for (pool, status) in [
            (
                Ok(PoolView::default()),
                GuaranteeStatus::NotChecked(untold.into()),
            ),
            (Err(gone.clone()), GuaranteeStatus::Void(gone)),
        ] {
            let mut observations = world.observations();
            observations.pool = pool;
            assert_eq!(pool_books(&observations).status, status);
            let above = samples([Some(16)]);
            observations.samples = &above;
            let result = pool_books(&observations);
            assert_eq!(result.status, GuaranteeStatus::Violated);
            assert_eq!(result.violations, 1);
        }
        world.samples.clear();
        assert_eq!(
            pool_books(&world.observations()).status,
            GuaranteeStatus::NotChecked(untold.into())
        );
    }

    #[test]
    fn a_pool_that_rests_above_its_limit_is_caught() {
        let mut world = World::default();
        world.limits.pool_max = Some(4);
        assert_eq!(
            pool_books(&world.observations()).evidence,
            ["size: expected at most 4 at quiescence, found 5"]
        );
        world.pool = PoolView {
            size: Some(5),
            ..PoolView::default()
        };
        assert_eq!(
            pool_books(&world.observations()).status,
            GuaranteeStatus::Violated
        );
    }
}
