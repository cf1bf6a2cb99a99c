//! Finds out when this process did not get to run: it was stopped, or the machine was busy
//! elsewhere, or something blocked the runtime.

use std::time::Duration;

use poolproof_oracle::{GRACE_US, Stall};
use tokio::time::{Instant, sleep_until};

use crate::interrupt::Interrupt;
use crate::time::micros;

/// How often it has to run.
const BEAT: Duration = Duration::from_millis(50);

/// Beats until `ended`, and returns where a beat was late by more than a call may be. Times count
/// from `origin`.
pub(crate) async fn stalls(origin: Instant, ended: Interrupt) -> Vec<Stall> {
    let mut stalls = Vec::new();
    loop {
        let due = Instant::now() + BEAT;
        tokio::select! {
            () = sleep_until(due) => {}
            () = ended.triggered() => {}
        }
        // The last beat counts too: what held it up may have held up the last call.
        if due.elapsed() > Duration::from_micros(GRACE_US) {
            stalls.push(Stall {
                from_us: micros(due - origin),
                until_us: micros(origin.elapsed()),
            });
        }
        if ended.is_triggered() {
            return stalls;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Moves the clock by each of `jumps`, letting others run in between, and returns the stalls.
    async fn seen(jumps: &[u64]) -> Vec<(u64, u64)> {
        let (trigger, ended) = Interrupt::new();
        let mut beating = tokio::task::JoinSet::new();
        beating.spawn(stalls(Instant::now(), ended));
        tokio::task::yield_now().await;
        for jump in jumps {
            tokio::time::advance(ms(*jump)).await;
        }
        trigger.trigger();
        let stalls = beating.join_next().await.unwrap().unwrap();
        let spans = stalls.iter().map(|stall| (stall.from_us, stall.until_us));
        spans.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_is_late_by_more_than_a_call_may_be_is_a_stall() {
        assert_eq!(seen(&[60, 60, 60]).await, []);
        assert_eq!(seen(&[300]).await, []);
        assert_eq!(seen(&[310]).await, [(50_000, 310_000)]);
        let [first, second] = seen(&[60, 4_000, 60, 500]).await[..] else {
            panic!("two stalls")
        };
        assert_eq!((first.1, second.1), (4_060_000, 4_620_000));
    }
}
