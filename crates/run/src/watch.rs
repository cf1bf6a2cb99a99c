//! Looks at the run while it goes on: the pool's view, the proxy's links, the bank's total, and
//! whether the server is still there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use poolproof_load::Subject;
use poolproof_oracle::{BankSnapshot, Sample};
use tokio::time::MissedTickBehavior;

use crate::error::chain;
use crate::inject::Aim;
use crate::namespace::BankReader;
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
    pub(crate) bank: Option<BankReader>,
}

/// What was seen so far. It outlives the watch, which may be dropped at any time.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) samples: Vec<Sample>,
    pub(crate) bank: Vec<BankSnapshot>,
    /// How long connections took to open, where the subject tells.
    pub(crate) connect_us: Vec<u64>,
    /// Why the bank cannot be read, since it last could.
    pub(crate) bank_unseen: Option<String>,
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
        let Some(bank) = &mut self.bank else { return };
        let problem = match tokio::time::timeout(BANK_LIMIT, bank.snapshot(at_us)).await {
            Ok(Ok(snapshot)) => {
                seen.bank.push(snapshot);
                // A server that was down and is there again shows what happened meanwhile.
                seen.bank_unseen = None;
                return;
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", BANK_LIMIT.as_secs()),
        };
        seen.bank_unseen.get_or_insert_with(|| {
            let at = Duration::from_micros(at_us).as_secs_f64();
            format!("the bank could not be read from {at:.1} s on: {problem}")
        });
    }

    fn now_us(&self) -> u64 {
        micros(self.aim.origin.elapsed())
    }
}
