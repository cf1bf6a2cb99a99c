//! Looks at the run while it goes on: the pool's view, the proxy's links, the bank's total, and
//! whether the server is still there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use poolproof_load::Subject;
use poolproof_oracle::{BankSnapshot, Sample};
use tokio::time::MissedTickBehavior;

use crate::inject::Aim;
use crate::namespace::Tables;
use crate::time::micros;

/// How often the pool and the proxy are looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// How often the bank is read: every so many samples.
const BANK_EVERY: usize = 5;
/// A read of the bank that takes longer counts as failed.
const BANK_LIMIT: Duration = Duration::from_secs(5);

/// What is looked at.
pub(crate) struct Watch {
    pub(crate) subject: Arc<dyn Subject>,
    pub(crate) aim: Aim,
    /// Reads the bank's total, where the run has a bank.
    pub(crate) bank: Option<Tables>,
}

/// What was seen so far. It outlives the watch, which may be dropped at any time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) samples: Vec<Sample>,
    pub(crate) bank: Vec<BankSnapshot>,
    /// How long connections took to open, where the subject tells.
    pub(crate) connect_us: Vec<u64>,
    /// Reads of the bank that failed, with the first error.
    pub(crate) bank_problem: Option<String>,
}

impl Watch {
    /// Looks at fixed intervals, for ever.
    ///
    /// # Cancel safety
    /// Safe: `seen` holds every look that was finished.
    pub(crate) async fn run(&mut self, seen: &mut Seen) -> Infallible {
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.look(seen);
            if seen.samples.len().is_multiple_of(BANK_EVERY) {
                self.read_bank(seen).await;
            }
        }
    }

    /// Looks once at the pool and the proxy.
    pub(crate) fn look(&self, seen: &mut Seen) {
        seen.samples.push(self.sample());
        // Often, because a subject may keep the newest only.
        seen.connect_us.extend(self.subject.take_connect_times());
    }

    fn sample(&self) -> Sample {
        Sample {
            at_us: self.now_us(),
            pool: self.subject.view(),
            in_flight: self.aim.gauges.in_flight(),
            links: self.aim.stats().map_or(0, |stats| stats.live_links),
        }
    }

    async fn read_bank(&mut self, seen: &mut Seen) {
        let at_us = self.now_us();
        let Some(tables) = &mut self.bank else { return };
        let problem = match tokio::time::timeout(BANK_LIMIT, tables.bank_snapshot(at_us)).await {
            Ok(Ok(snapshot)) => {
                seen.bank.push(snapshot);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", BANK_LIMIT.as_secs()),
        };
        // A connection that failed or holds half an answer says nothing more.
        self.bank = None;
        seen.bank_problem.get_or_insert(problem);
    }

    fn now_us(&self) -> u64 {
        micros(self.aim.origin.elapsed())
    }
}
