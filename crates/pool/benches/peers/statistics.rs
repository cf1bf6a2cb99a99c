//! Medians and their uncertainty.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// An estimate with its 95 % interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) estimate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

const RESAMPLES: usize = 4_000;

/// Bootstraps the median of the rounds' ratios: a round's times belong together.
pub(crate) fn ratio(theirs: &[f64], ours: &[f64]) -> Interval {
    let ratios: Vec<f64> = theirs
        .iter()
        .zip(ours)
        .map(|(them, us)| them / us)
        .collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let resampled: Vec<f64> = (0..ratios.len())
                .map(|_| ratios[rng.random_range(0..ratios.len())])
                .collect();
            median(&resampled)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    Interval {
        estimate: median(&ratios),
        low: medians[RESAMPLES * 25 / 1_000],
        high: medians[RESAMPLES * 975 / 1_000],
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// The smallest value that at least this part of all does not exceed; 0 for none.
pub(crate) fn percentile(sorted: &[u64], part: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts far below 2^52"
    )]
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}
