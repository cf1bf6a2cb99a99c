//! R3, the rollback property: what is stored after a program of transactions is what a model says,
//! whatever fails, panics, or is dropped, nested and at the same time.
//!
//! `POOLPROOF_PROGRAMS` says how many programs (default 200), `POOLPROOF_SEED` which ones (default 1),
//! and `POOLPROOF_PROGRAM` runs a single one of them again.

mod model;
mod program;
mod run;

use std::cell::Cell;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use sqlx::{ConnectOptions, Executor};
use tokio::time::Instant;

use crate::cluster::cluster;

const PROGRAMS: u64 = 200;
const SEED: u64 = 1;

const TABLE: &str = "create table r3 (program bigint, k text, v bigint, \
    owed bigint references r3_owed deferrable initially deferred, primary key (program, k))";

#[test]
fn r3_what_is_stored_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let cluster = runtime.block_on(cluster());
    runtime.block_on(async {
        let mut admin = cluster.options().connect().await.unwrap();
        let owed = "create table r3_owed (id bigint primary key)";
        admin.execute(owed).await.unwrap();
        admin.execute(TABLE).await.unwrap();
    });
    let (seed, count) = (
        number("POOLPROOF_SEED", SEED),
        number("POOLPROOF_PROGRAMS", PROGRAMS),
    );
    let only = std::env::var("POOLPROOF_PROGRAM").is_ok();
    let chosen = number("POOLPROOF_PROGRAM", 0);
    let indices = if only { chosen..chosen + 1 } else { 0..count };
    let (begun, runs, tally) = (Instant::now(), Cell::new(0), run::Tally::default());
    for index in indices {
        let config = Config {
            failure_persistence: None,
            cases: 1,
            max_shrink_iters: 300,
            max_shrink_time: 60_000,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, rng(seed, index));
        let outcome = runner.run(&program::programs(), |program| {
            // Shrinking runs variants of a program: each has rows of its own.
            runs.set(runs.get() + 1);
            runtime
                .block_on(run::program(&cluster, &program, runs.get(), &tally))
                .map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, smallest)) => panic!(
                "program {index}: {reason}\nthe smallest program that fails so: {smallest:#?}\n\
                 to run it again: POOLPROOF_SEED={seed} POOLPROOF_PROGRAM={index} \
                 cargo test -p poolproof-pool --test proof r3_"
            ),
            Err(TestError::Abort(reason)) => panic!("program {index} was not run: {reason}"),
        }
    }
    println!(
        "{} programs in {:?}: {tally:?}",
        runs.get(),
        begun.elapsed()
    );
    if !only && count >= PROGRAMS {
        tally.assert_everything_happened();
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
        Err(_) => default,
    }
}

/// The randomness of one program: it does not depend on the programs before it.
fn rng(seed: u64, index: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}
