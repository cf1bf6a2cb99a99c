//! What a schedule promises: the same for all time, arrivals as asked for, well-formed contents.

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof_load::{
    Arrivals, EndingWeights, LoadSpec, Schedule, ScheduleError, TRANSFER_MAX, WeightedWorkload,
    Workload,
};
use poolproof_oracle::{Effect, Ending, Op};
use proptest::prelude::*;

const BANK: Workload = Workload::Bank {
    accounts: 64,
    opening_balance: 1_000,
};
const WRITE_SET: Workload = Workload::WriteSet { tables: 3 };

fn spec() -> LoadSpec {
    LoadSpec {
        rate_per_s: 400.0,
        arrivals: Arrivals::Poisson,
        duration: Duration::from_secs(10),
        deadline: Duration::from_secs(5),
        hold: Duration::from_millis(2),
        clean_checks: 0.1,
        endings: EndingWeights {
            commit: 80,
            rollback: 10,
            panic: 5,
            cancel: 5,
        },
        cancel_within: Duration::from_millis(8),
        workloads: vec![weighted(BANK, 3), weighted(WRITE_SET, 1)],
    }
}

fn weighted(workload: Workload, weight: u32) -> WeightedWorkload {
    WeightedWorkload { workload, weight }
}

fn generate(spec: &LoadSpec, seed: u64) -> Schedule {
    Schedule::generate(spec, seed).expect("the spec makes sense")
}

#[test]
fn a_seed_means_the_same_ops_for_all_time() {
    // A printed replay command has to find the same ops in every later version and on every
    // platform. Change this hash only together with a note in the change log.
    assert_eq!(
        generate(&spec(), 42).sha256(),
        "1b91413ba7bbd54b1975853cfc6bbd36838736f74c5d573b7b1a7e5e9a34733b"
    );
}

#[test]
fn the_hash_follows_the_seed() {
    let spec = spec();
    assert_eq!(generate(&spec, 1).sha256(), generate(&spec, 1).sha256());
    assert_ne!(generate(&spec, 1).sha256(), generate(&spec, 2).sha256());
}

#[test]
fn the_hash_sees_every_part_of_an_op() {
    type Change = fn(&mut Op);
    let schedule = generate(&spec(), 1);
    let changes: [Change; 9] = [
        |op| op.id += 1,
        |op| op.at_us += 1,
        |op| op.deadline_us += 1,
        |op| op.workload = "other".into(),
        |op| op.statements[0].params[0] += 1,
        |op| op.statements[0].sql.to_mut().push(' '),
        |op| op.hold_us += 1,
        |op| op.ending = Ending::Cancel { after_us: 123_456 },
        |op| op.check_clean = !op.check_clean,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = schedule.clone();
        change(&mut changed.ops[5]);
        assert_ne!(changed.sha256(), schedule.sha256(), "change {index}");
    }
}

#[test]
fn a_longer_load_only_appends_ops() {
    for arrivals in [Arrivals::Poisson, Arrivals::Uniform] {
        let short = LoadSpec { arrivals, ..spec() };
        let long = LoadSpec {
            duration: short.duration * 3,
            ..short.clone()
        };
        let (short, long) = (generate(&short, 7), generate(&long, 7));
        assert!(long.ops.len() > 2 * short.ops.len());
        assert_eq!(long.ops[..short.ops.len()], short.ops);
    }
}

#[test]
fn other_endings_change_neither_arrivals_nor_contents() {
    let without_endings = |schedule: Schedule| -> Vec<Op> {
        let strip = |op| Op {
            ending: Ending::Commit,
            ..op
        };
        schedule.ops.into_iter().map(strip).collect()
    };
    let changed = LoadSpec {
        endings: EndingWeights {
            commit: 1,
            rollback: 1,
            panic: 1,
            cancel: 1,
        },
        ..spec()
    };
    let (base, changed) = (generate(&spec(), 7), generate(&changed, 7));
    assert_ne!(base, changed);
    assert_eq!(without_endings(base), without_endings(changed));
}

#[test]
fn poisson_gaps_are_exponential() {
    // 100,000 gaps at 1,000/s: mean 1,000 us, and a standard deviation equal to the mean. The
    // standard error of the mean is 0.3 %, that of the variance 0.9 %: bounds of four of them.
    let spec = LoadSpec {
        rate_per_s: 1_000.0,
        duration: Duration::from_secs(100),
        ..spec()
    };
    let ops = generate(&spec, 11).ops;
    let gaps: Vec<f64> = ops
        .windows(2)
        .map(|pair| (pair[1].at_us - pair[0].at_us) as f64)
        .collect();
    let count = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / count;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    let longer_than_mean = gaps.iter().filter(|gap| **gap > 1_000.0).count() as f64 / count;
    assert!((987.0..1_013.0).contains(&mean), "mean {mean}");
    let spread = variance / (mean * mean);
    assert!((0.964..1.036).contains(&spread), "spread {spread}");
    // e^-1 of an exponential's values exceed its mean.
    assert!(
        (0.361..0.375).contains(&longer_than_mean),
        "{longer_than_mean}"
    );
}

#[test]
fn uniform_arrivals_do_not_drift() {
    let spec = LoadSpec {
        rate_per_s: 300.0,
        arrivals: Arrivals::Uniform,
        ..spec()
    };
    let ops = generate(&spec, 1).ops;
    assert_eq!(ops.len(), 3_000);
    for op in ops {
        assert_eq!(op.at_us, op.id * 1_000_000 / 300, "op {}", op.id);
    }
}

#[test]
fn weights_and_fractions_are_kept() {
    let spec = LoadSpec {
        rate_per_s: 10_000.0,
        arrivals: Arrivals::Uniform,
        ..spec()
    };
    let ops = generate(&spec, 5).ops;
    assert_eq!(ops.len(), 100_000);
    let mut counts = BTreeMap::new();
    for op in &ops {
        let ending = match op.ending {
            Ending::Commit => "commit",
            Ending::Rollback => "rollback",
            Ending::Panic => "panic",
            Ending::Cancel { .. } => "cancel",
        };
        *counts.entry(ending).or_insert(0_u32) += 1;
        *counts.entry(&*op.workload).or_default() += 1;
        if op.check_clean {
            *counts.entry("clean").or_default() += 1;
        }
    }
    // The standard deviation of each count is at most 137.
    for (name, expected) in [
        ("commit", 80_000),
        ("rollback", 10_000),
        ("panic", 5_000),
        ("cancel", 5_000),
        ("bank", 75_000),
        ("write-set", 25_000),
        ("clean", 10_000),
    ] {
        assert!(
            counts[name].abs_diff(expected) < 600,
            "{name}: {}",
            counts[name]
        );
    }
}

#[test]
fn fractions_of_none_and_all_are_exact() {
    for (clean_checks, expected) in [(0.0, 0), (1.0, 4_000)] {
        let spec = LoadSpec {
            arrivals: Arrivals::Uniform,
            clean_checks,
            ..spec()
        };
        let ops = generate(&spec, 1).ops;
        assert_eq!(ops.iter().filter(|op| op.check_clean).count(), expected);
    }
}

#[test]
fn every_account_pays_and_receives() {
    let spec = LoadSpec {
        workloads: vec![weighted(BANK, 1)],
        ..spec()
    };
    let (mut paid, mut received) = ([0_u32; 64], [0_u32; 64]);
    for op in generate(&spec, 1).ops {
        let Effect::Transfer { from, to, .. } = op.effect else {
            panic!("a bank's op has the effect {:?}", op.effect);
        };
        paid[from as usize] += 1;
        received[to as usize] += 1;
    }
    // About 4,000 transfers over 64 accounts: 62 each, standard deviation 8.
    assert!(paid.iter().all(|n| (25..110).contains(n)), "{paid:?}");
    assert!(
        received.iter().all(|n| (25..110).contains(n)),
        "{received:?}"
    );
}

#[test]
fn a_spec_that_makes_no_sense_is_refused() {
    type Spoil = fn(&mut LoadSpec);
    let none = EndingWeights {
        commit: 0,
        rollback: 0,
        panic: 0,
        cancel: 0,
    };
    assert_eq!(
        Schedule::generate(
            &LoadSpec {
                endings: none,
                ..spec()
            },
            1
        ),
        Err(ScheduleError::NoEnding)
    );
    let cases: [(Spoil, &str); 12] = [
        (|s| s.rate_per_s = 0.0, "generate arrivals at 0 op"),
        (|s| s.rate_per_s = -1.0, "generate arrivals at -1 op"),
        (|s| s.rate_per_s = f64::NAN, "generate arrivals at NaN op"),
        (|s| s.rate_per_s = 2e6, "generate about 20000000 operations"),
        (|s| s.clean_checks = 1.1, "check 1.1 of the connections"),
        (|s| s.deadline = Duration::ZERO, "with a deadline of 0"),
        (|s| s.workloads.clear(), "choose workloads"),
        (|s| s.workloads[1].workload = BANK, "two workloads `bank`"),
        (
            |s| s.workloads[0].workload = bank(1, 0),
            "between 1 accounts",
        ),
        (
            |s| s.workloads[0].workload = bank(3, i64::MAX / 2),
            "open 3 accounts",
        ),
        (
            |s| s.workloads[1].workload = Workload::WriteSet { tables: 0 },
            "write into 0 tables",
        ),
        (
            |s| s.workloads[1].workload = Workload::WriteSet { tables: 17 },
            "write into 17 tables",
        ),
    ];
    for (spoil, text) in cases {
        let mut spec = spec();
        spoil(&mut spec);
        let error = Schedule::generate(&spec, 1).unwrap_err().to_string();
        assert!(error.contains(text), "`{text}` is not in `{error}`");
    }
}

fn bank(accounts: u32, opening_balance: i64) -> Workload {
    Workload::Bank {
        accounts,
        opening_balance,
    }
}

prop_compose! {
    fn any_spec()(
        rate_per_s in 1.0..2_000.0,
        arrivals in prop_oneof![Just(Arrivals::Poisson), Just(Arrivals::Uniform)],
        duration_ms in 0_u64..500,
        cancel_within_us in 0_u64..10_000,
        weights in prop::array::uniform4(0_u32..5),
        accounts in 2_u32..70,
        tables in 1_u32..=16,
        bank_weight in 0_u32..5,
    ) -> LoadSpec {
        let [commit, rollback, panic, cancel] = weights;
        LoadSpec {
            rate_per_s,
            arrivals,
            duration: Duration::from_millis(duration_ms),
            // One ending has to be possible.
            endings: EndingWeights { commit: commit + 1, rollback, panic, cancel },
            cancel_within: Duration::from_micros(cancel_within_us),
            workloads: vec![
                weighted(bank(accounts, 100), bank_weight),
                weighted(Workload::WriteSet { tables }, 1),
            ],
            ..spec()
        }
    }
}

proptest! {
    #[test]
    fn every_schedule_is_well_formed(spec in any_spec(), seed in any::<u64>()) {
        let schedule = generate(&spec, seed);
        let end_us = u64::try_from(spec.duration.as_micros()).unwrap();
        let mut last_us = 0;
        for (index, op) in schedule.ops.iter().enumerate() {
            prop_assert_eq!(op.id, index as u64);
            prop_assert!(op.at_us >= last_us);
            prop_assert!(op.at_us < end_us);
            last_us = op.at_us;
            prop_assert_eq!(op.deadline_us, 5_000_000);
            prop_assert_eq!(op.hold_us, 2_000);
            if let Ending::Cancel { after_us } = op.ending {
                prop_assert!(Duration::from_micros(after_us) <= spec.cancel_within);
            }
            check_content(op, &spec)?;
        }
    }
}

fn check_content(op: &Op, spec: &LoadSpec) -> Result<(), TestCaseError> {
    let id = i64::try_from(op.id).expect("ids are small");
    let log = &op.statements[0];
    prop_assert_eq!(&*log.sql, "insert into op_log (op) values ($1)");
    prop_assert_eq!(&log.params, &[id]);
    match op.effect {
        Effect::Transfer { from, to, amount } => {
            let Workload::Bank { accounts, .. } = spec.workloads[0].workload else {
                panic!("the first workload is the bank");
            };
            prop_assert_eq!(&*op.workload, "bank");
            prop_assert_ne!(from, to);
            prop_assert!(from.max(to) < accounts);
            prop_assert!((1..=TRANSFER_MAX).contains(&amount));
            let updates: Vec<_> = op.statements[1..]
                .iter()
                .map(|s| s.params.clone())
                .collect();
            let delta = |account| if account == from { -amount } else { amount };
            let expected = [from.min(to), from.max(to)]
                .map(|account| vec![delta(account), i64::from(account)]);
            prop_assert_eq!(updates, expected);
        }
        Effect::WriteSet { tables } => {
            prop_assert_eq!(spec.workloads[1].workload, Workload::WriteSet { tables });
            prop_assert_eq!(&*op.workload, "write-set");
            prop_assert_eq!(op.statements.len(), 1 + tables as usize);
            for (table, statement) in op.statements[1..].iter().enumerate() {
                let sql = format!("insert into write_set_{table} (op) values ($1)");
                prop_assert_eq!(&*statement.sql, sql);
                prop_assert_eq!(&statement.params, &[id]);
            }
        }
    }
    Ok(())
}
