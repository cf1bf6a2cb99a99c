//! Randomness from (seed, op index, purpose), so that an op is the same whatever surrounds it.
//!
//! A stream per purpose keeps choices apart: a changed weight of endings moves no arrival and no
//! transfer.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for. The numbers are part of what a seed means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Gap = 1,
    Workload = 2,
    Content = 3,
    Ending = 4,
    CancelPoint = 5,
    CleanCheck = 6,
}

/// A stream of random numbers.
#[derive(Debug)]
pub(crate) struct Stream(Xoshiro256PlusPlus);

impl Stream {
    pub(crate) fn new(seed: u64, index: u64, purpose: Purpose) -> Self {
        let key = mix(mix(mix(seed).wrapping_add(index)).wrapping_add(purpose as u64));
        Self(Xoshiro256PlusPlus::seed_from_u64(key))
    }

    /// Draws an integer in `0..bound`, or 0 for a `bound` of 0. Multiplying instead of rejecting
    /// biases it by less than `bound` in 2^64 and keeps it independent of a library's version.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("bug: the high half of a 128-bit product has 64 bits")
    }

    /// Draws from the 2^53 equidistant numbers in (0, 1]. Never 0, so its logarithm is finite.
    pub(crate) fn unit(&mut self) -> f64 {
        let numerator = (self.0.next_u64() >> 11) + 1;
        numerator as f64 / (1_u64 << 53) as f64
    }
}

/// The output function of SplitMix64: neighbouring inputs give unrelated outputs. Xoshiro's own
/// seeding does not mix an index with a seed.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_fixed_for_all_time() {
        // These numbers are what a printed seed means: a change breaks every replay command.
        let mut stream = Stream::new(42, 7, Purpose::Content);
        let drawn: Vec<u64> = (0..4).map(|_| stream.below(1_000_000)).collect();
        assert_eq!(drawn, [230_339, 221_099, 932_139, 548_869]);
    }

    #[test]
    fn seed_index_and_purpose_each_change_the_stream() {
        let first = |seed, index, purpose| Stream::new(seed, index, purpose).below(u64::MAX);
        let base = first(1, 1, Purpose::Gap);
        assert_ne!(base, first(2, 1, Purpose::Gap));
        assert_ne!(base, first(1, 2, Purpose::Gap));
        assert_ne!(base, first(1, 1, Purpose::Workload));
    }

    #[test]
    fn first_draws_of_neighbouring_indexes_spread_evenly() {
        // 10,000 indexes over 10 bins: 1,000 each, standard deviation 30.
        let mut bins = [0_u32; 10];
        for index in 0..10_000 {
            let bin = Stream::new(3, index, Purpose::Content).below(10);
            bins[usize::try_from(bin).unwrap()] += 1;
        }
        assert!(bins.iter().all(|n| (850..=1150).contains(n)), "{bins:?}");
    }

    #[test]
    fn unit_stays_within_its_interval() {
        for index in 0..10_000 {
            let unit = Stream::new(9, index, Purpose::Gap).unit();
            assert!(unit > 0.0, "{unit}");
            assert!(unit <= 1.0, "{unit}");
        }
    }
}
