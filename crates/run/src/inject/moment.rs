//! The moment for a reset: when which commits are in flight.

use std::time::Duration;

use super::MOMENT;

/// The commits that wait for their answer, under a latency of which half lies on the way there.
pub(super) struct InFlight {
    /// When each was sent.
    pub(super) sent_us: Vec<u64>,
    pub(super) now_us: u64,
    pub(super) latency_us: u64,
}

impl InFlight {
    /// A reset is worth most when it cuts both kinds: a commit that has reached the server, which a pool
    /// that tries again applies twice, and one that has not, which a pool that hopes for the best loses.
    /// After a reset all connections go on in step, and then commits of one kind only may be in flight:
    /// the longer the moment does not come, the less is asked of it.
    pub(super) fn is_the_moment(&self, wanted: u32, waited: Duration) -> bool {
        let enough = self.sent_us.len() as u64 >= u64::from(wanted);
        if wanted == 0 || self.latency_us == 0 {
            return enough;
        }
        let ages = || {
            self.sent_us
                .iter()
                .map(|at| self.now_us.saturating_sub(*at))
        };
        let has_reached = ages().any(|age| age * 4 >= self.latency_us * 3);
        let has_not = ages().any(|age| age * 4 <= self.latency_us);
        enough && (has_reached || waited >= MOMENT) && (has_not || waited >= MOMENT / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits of these ages, in milliseconds, under a latency of 60 ms.
    fn is_the_moment(ages: &[u64], waited: Duration) -> bool {
        let in_flight = InFlight {
            sent_us: ages.iter().map(|age| (1_000 - age) * 1_000).collect(),
            now_us: 1_000_000,
            latency_us: 60_000,
        };
        in_flight.is_the_moment(3, waited)
    }

    #[test]
    fn a_reset_comes_when_it_cuts_commits_that_have_reached_the_server_and_others() {
        let at_once = Duration::ZERO;
        for (ages, wanted) in [
            (&[50, 30, 5][..], true),
            (&[45, 15, 15][..], true),
            (&[50, 5][..], false),
            (&[50, 48, 46][..], false),
            (&[1, 2, 3][..], false),
            (&[30, 30, 30][..], false),
        ] {
            assert_eq!(is_the_moment(ages, at_once), wanted, "{ages:?}");
        }
        assert!(is_the_moment(&[50, 48, 46], MOMENT / 2));
        assert!(!is_the_moment(&[1, 2, 3], MOMENT / 2));
        assert!(is_the_moment(&[1, 2, 3], MOMENT));
        assert!(!is_the_moment(&[1, 2], MOMENT));
    }

    #[test]
    fn without_latency_there_is_but_one_kind_and_without_a_number_none_is_needed() {
        let in_flight = |sent_us: &[u64], latency_us| InFlight {
            sent_us: sent_us.to_vec(),
            now_us: 9,
            latency_us,
        };
        assert!(in_flight(&[1, 2], 0).is_the_moment(2, Duration::ZERO));
        assert!(!in_flight(&[1], 0).is_the_moment(2, Duration::ZERO));
        assert!(in_flight(&[], 60_000).is_the_moment(0, Duration::ZERO));
    }
}
