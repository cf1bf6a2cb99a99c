//! Tests of the draws.

use super::*;

fn key(seed: u64, proxy: &str, ordinal: u64) -> LaneKey {
    LaneKey::new(seed, proxy, ordinal, Stream::Upstream)
}

fn first(key: LaneKey, toxic: &str) -> f64 {
    key.draws(toxic).next_unit()
}

#[test]
fn draws_are_the_same_in_every_build_and_on_every_machine() {
    // The values are part of what a seed means: a change of them changes every replay.
    let mut draws = key(42, "pg", 7).draws("latency_upstream");
    let seen: Vec<f64> = (0..3).map(|_| draws.next_unit()).collect();
    let unit = |numerator: u32| f64::from(numerator) / 4_294_967_296.0;
    assert_eq!(
        seen,
        [
            unit(1_560_903_303),
            unit(1_363_126_707),
            unit(3_923_503_687)
        ]
    );
}

#[test]
fn every_part_of_the_key_changes_the_draw() {
    let base = first(key(1, "pg", 2), "t");
    let others = [
        first(key(2, "pg", 2), "t"),
        first(key(1, "pq", 2), "t"),
        first(key(1, "pg", 3), "t"),
        first(key(1, "pg", 2), "u"),
        first(LaneKey::new(1, "pg", 2, Stream::Downstream), "t"),
    ];
    for other in others {
        assert_ne!(base, other);
    }
}

#[test]
fn parts_of_the_key_do_not_run_into_each_other() {
    let long = LaneKey::new(1, "pgup", 2, Stream::Upstream).draws("x");
    let short = LaneKey::new(1, "pg", 2, Stream::Upstream).draws("upx");
    assert_ne!(long.clone().next_unit(), short.clone().next_unit());
}

#[test]
fn draws_over_ordinals_and_within_a_sequence_are_spread_evenly() {
    // 10,000 draws in 10 bins: 1,000 expected, standard deviation 30; 150 off is five of them.
    let mut sequence = key(9, "pg", 0).draws("t");
    let over_ordinals = (0..10_000).map(|ordinal| first(key(9, "pg", ordinal), "t"));
    let in_sequence = (0..10_000).map(|_| sequence.next_unit());
    for draws in [over_ordinals.collect::<Vec<_>>(), in_sequence.collect()] {
        for bin in 0..10 {
            let low = f64::from(bin) / 10.0;
            let hits = draws
                .iter()
                .filter(|d| (low..low + 0.1).contains(*d))
                .count();
            assert!((850..1150).contains(&hits), "bin {bin}: {hits}");
        }
    }
}
