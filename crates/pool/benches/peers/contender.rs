//! Who is compared, and how.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::report;
use crate::statistics::{Interval, median, percentile, ratio};

/// A case and what poolproof has to reach in it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) floors: Vec<Floor>,
}

/// How many times as fast poolproof must be.
pub(crate) struct Floor {
    /// The pool that it is compared with; none for the fastest that shares connections.
    pub(crate) against: Option<&'static str>,
    pub(crate) at_least: f64,
}

/// What one round came to.
pub(crate) struct Round {
    pub(crate) took: Duration,
    pub(crate) operations: u64,
    /// How long each acquire took, in nanoseconds; empty where that was not measured.
    pub(crate) waits: Vec<u64>,
}

impl Round {
    fn per_operation(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let operations = self.operations as f64;
        self.took.as_secs_f64() * 1e9 / operations
    }
}

/// Whether a round measures how long each acquire takes, which costs two looks at the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    Measured,
    Ignored,
}

type RunRound = Box<dyn Fn(Waits) -> BoxFuture<'static, Round>>;

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Whether it shares its connections, as a pool does.
    pub(crate) shares: bool,
    run: RunRound,
}

impl Contender {
    pub(crate) fn new<F, R>(name: &'static str, run: F) -> Self
    where
        F: Fn(Waits) -> R + 'static,
        R: Future<Output = Round> + Send + 'static,
    {
        Self {
            name,
            shares: true,
            run: Box::new(move |waits| Box::pin(run(waits))),
        }
    }

    pub(crate) fn that_shares_nothing(self) -> Self {
        Self {
            shares: false,
            ..self
        }
    }
}

/// One line of the result; times in nanoseconds.
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) pool: &'static str,
    pub(crate) shares: bool,
    pub(crate) median_ns: f64,
    pub(crate) p999_wait_ns: u64,
    pub(crate) max_wait_ns: u64,
    /// This pool's time over poolproof's.
    pub(crate) ratio: Interval,
}

/// Every this many rounds measures waits instead of the whole.
const WAITS_EVERY: usize = 4;

/// Runs all contenders in turns. The first is poolproof.
pub(crate) async fn compare(case: &Case, contenders: &[Contender], rounds: usize) -> Vec<Row> {
    let begun = Instant::now();
    let mut times = vec![Vec::new(); contenders.len()];
    let mut waits = vec![Vec::new(); contenders.len()];
    for contender in contenders {
        // Warms up.
        (contender.run)(Waits::Ignored).await;
    }
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let ran = (contenders[index].run)(Waits::Ignored).await;
            times[index].push(ran.per_operation());
        }
        if round % WAITS_EVERY == 0 {
            for (contender, waits) in contenders.iter().zip(&mut waits) {
                let mut sorted = (contender.run)(Waits::Measured).await.waits;
                sorted.sort_unstable();
                waits.push((
                    percentile(&sorted, 0.999),
                    sorted.last().copied().unwrap_or(0),
                ));
            }
        }
    }
    let rows: Vec<Row> = contenders
        .iter()
        .zip(times.iter().zip(&waits))
        .map(|(contender, (own, waits))| Row {
            case: case.name,
            pool: contender.name,
            shares: contender.shares,
            median_ns: median(own),
            p999_wait_ns: middle(waits.iter().map(|(p999, _)| *p999)),
            max_wait_ns: waits.iter().map(|(_, max)| *max).max().unwrap_or(0),
            ratio: ratio(own, &times[0]),
        })
        .collect();
    report::print_case(case, &rows, begun.elapsed());
    rows
}

fn middle(values: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = values.collect();
    sorted.sort_unstable();
    percentile(&sorted, 0.5)
}
