//! How fast the pool is, compared with its peers: acquire and release of a connection that does nothing,
//! and of real ones.
//!
//! `cargo bench -p poolproof-pool --bench peers [-- case…]` prints a table and writes
//! `reports/bench/peers.json`. All contenders of a case take turns in every round, so that whatever else
//! the machine does meets them alike; a ratio is the median of the rounds' ratios, with a 95 % bootstrap
//! interval. poolproof runs as it comes: holders tracked, deadlines on, metrics on. The peers run as fast
//! as they can be set: no check of what they lend.
//!
//! Not here: what single functions cost (`functions`), memory (`tests/allocations.rs`).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, which measures real time and ends at the first surprise"
)]

mod contender;
#[path = "../../tests/support/frame.rs"]
mod frame;
mod noop;
#[path = "../../tests/support/noop.rs"]
mod nothing;
mod postgres;
#[path = "../../tests/support/relay.rs"]
#[expect(
    dead_code,
    reason = "the tests stop the traffic, and here it is only counted"
)]
mod relay;
mod report;
mod statistics;

use contender::Floor;

/// At least 20, says the comparison's definition.
const ROUNDS: usize = 24;

fn main() {
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let wanted = |case: &str| chosen.is_empty() || chosen.iter().any(|name| name == case);
    let rounds =
        std::env::var("POOLPROOF_BENCH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    report::print_machine();
    let mut rows = Vec::new();
    runtime.block_on(async {
        for shape in noop::SHAPES {
            if wanted(shape.case) {
                let contenders = noop::contenders(shape).await;
                rows.extend(contender::compare(&noop::case(&shape), &contenders, rounds).await);
            }
        }
        if ["select1_64_on_10", "transaction_64_on_10"]
            .into_iter()
            .any(wanted)
        {
            let server = postgres::Server::start().await;
            for kind in [postgres::Kind::Select, postgres::Kind::Transaction] {
                if wanted(kind.case().name) {
                    let contenders = server.contenders(kind).await;
                    rows.extend(contender::compare(&kind.case(), &contenders, rounds).await);
                }
            }
            if wanted("transaction_64_on_10") {
                server.print_round_trips().await;
            }
            server.stop().await;
        }
    });
    if chosen.is_empty() {
        report::write(&rows);
    }
}

/// Floors against peers, apart from those in a case's own table.
fn fastest_peer(at_least: f64) -> Vec<Floor> {
    vec![Floor {
        against: None,
        at_least,
    }]
}

fn against(pool: &'static str, at_least: f64) -> Floor {
    Floor {
        against: Some(pool),
        at_least,
    }
}
