//! The outage gate: how many connections may be opened at once, and when to try again.
//!
//! Up: `window` attempts at a time, growing by one per success, so that it doubles with every round.
//! Down: one attempt at a time (the prober), each after a full-jitter exponential pause. When that has
//! lasted for long, and no connection has shown to work meanwhile, newcomers are turned away at once:
//! the gate is the circuit breaker as well.

use std::time::{Duration, Instant};

/// Bounds of the pause between attempts while the server cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// Returns a pause between zero and `min * 2^(failures - 1)`, capped at `max`; `jitter` is the
    /// fraction in units of 2^-32.
    pub(crate) fn pause(self, failures: u32, jitter: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self.min.saturating_mul(1 << doublings).min(self.max);
        let nanos = (ceiling.as_nanos() * u128::from(jitter)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Gate<E> {
    /// The last attempt reached the server.
    Up { window: usize },
    /// The server could not be reached since `since`.
    Down {
        since: Instant,
        cause: E,
        failures: u32,
        /// When a connection was last seen to work, `since` if none was.
        proved: Instant,
        /// When the prober may try; none when it may try now.
        pause_until: Option<Instant>,
    },
}

impl<E> Gate<E> {
    /// Returns how many attempts may be in flight.
    pub(crate) fn window(&self) -> usize {
        match self {
            Self::Up { window } => *window,
            Self::Down {
                pause_until: Some(_),
                ..
            } => 0,
            Self::Down {
                pause_until: None, ..
            } => 1,
        }
    }

    /// Returns when the next attempt may be made, where that is not now.
    pub(crate) fn pause_until(&self) -> Option<Instant> {
        match self {
            Self::Up { .. } => None,
            Self::Down { pause_until, .. } => *pause_until,
        }
    }

    /// Returns whether the server is out of reach, as far as is known.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// Returns the last error, while the server cannot be reached.
    pub(crate) fn cause(&self) -> Option<&E> {
        match self {
            Self::Up { .. } => None,
            Self::Down { cause, .. } => Some(cause),
        }
    }

    /// Returns since when the server cannot be reached.
    pub(crate) fn down_since(&self) -> Option<Instant> {
        match self {
            Self::Up { .. } => None,
            Self::Down { since, .. } => Some(*since),
        }
    }

    /// Returns why and since when to turn newcomers away, if that is what to do.
    pub(crate) fn turns_away(&self, patience: Duration, now: Instant) -> Option<(&E, Instant)> {
        match self {
            Self::Down {
                since,
                cause,
                proved,
                ..
            } if now.saturating_duration_since(*proved) >= patience => Some((cause, *since)),
            Self::Up { .. } | Self::Down { .. } => None,
        }
    }

    /// Records that a connection came back that works: new ones cannot be opened, and yet waiting is
    /// worth it.
    pub(crate) fn prove(&mut self, now: Instant) {
        if let Self::Down { proved, .. } = self {
            *proved = now;
        }
    }

    /// Ends a pause whose time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        if let Self::Down { pause_until, .. } = self
            && pause_until.is_some_and(|at| at <= now)
        {
            *pause_until = None;
        }
    }

    /// Records that the server was reached.
    pub(crate) fn succeeded(&mut self, max_window: usize) {
        *self = match self {
            Self::Up { window } => Self::Up {
                window: (*window).saturating_add(1).min(max_window),
            },
            Self::Down { .. } => Self::Up {
                window: 2.min(max_window),
            },
        };
    }

    /// Records that the server was not reached; `pause` tells how long to wait after that many failures.
    pub(crate) fn failed(&mut self, error: E, now: Instant, pause: impl Fn(u32) -> Duration) {
        match self {
            Self::Up { .. } => {
                *self = Self::Down {
                    since: now,
                    cause: error,
                    failures: 1,
                    proved: now,
                    pause_until: Some(now + pause(1)),
                };
            }
            Self::Down {
                cause,
                failures,
                pause_until,
                ..
            } => {
                *cause = error;
                // A straggler from before the outage says nothing new about the pause.
                if pause_until.is_none() {
                    *failures = failures.saturating_add(1);
                    *pause_until = Some(now + pause(*failures));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; nothing here measures time"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    const BACKOFF: Backoff = Backoff {
        min: Duration::from_millis(10),
        max: Duration::from_secs(5),
    };

    fn longest(failures: u32) -> Duration {
        BACKOFF.pause(failures, u32::MAX)
    }

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_jitter_scales_it_down_to_nothing() {
        let ceilings: Vec<u128> = [1, 2, 3, 9, 10, 11, 60]
            .map(|failures| BACKOFF.pause(failures, u32::MAX).as_micros())
            .to_vec();
        assert_eq!(
            ceilings,
            [
                9_999, 19_999, 39_999, 2_559_999, 4_999_999, 4_999_999, 4_999_999
            ]
        );
        assert_eq!(BACKOFF.pause(9, 0), Duration::ZERO);
        assert_eq!(BACKOFF.pause(2, 1 << 31), Duration::from_millis(10));
    }

    #[test]
    fn an_outage_lets_one_prober_through_and_ends_in_a_slow_start() {
        let mut gate = Gate::Up { window: 8 };
        let start = origin();
        gate.failed("refused", start, longest);
        assert_eq!(gate.window(), 0);
        gate.tick(start);
        assert_eq!(gate.window(), 0, "the pause is not over");
        let over = gate.pause_until().unwrap();
        gate.tick(over);
        assert_eq!(gate.window(), 1);
        gate.failed("refused again", over, longest);
        assert_eq!(gate.window(), 0);
        assert!(gate.pause_until().unwrap() > over + Duration::from_millis(19));
        gate.succeeded(8);
        assert_eq!(gate.window(), 2);
        gate.succeeded(8);
        gate.succeeded(8);
        assert_eq!(gate.window(), 4);
        for _ in 0..9 {
            gate.succeeded(8);
        }
        assert_eq!(gate.window(), 8);
    }

    #[test]
    fn newcomers_are_turned_away_when_nothing_has_worked_for_long() {
        let (start, patience) = (origin(), Duration::from_secs(30));
        let later = |secs| start + Duration::from_secs(secs);
        let mut gate = Gate::Up { window: 8 };
        assert_eq!(gate.turns_away(Duration::ZERO, later(99)), None);
        gate.failed("refused", start, longest);
        assert_eq!(gate.turns_away(patience, later(29)), None);
        let down = Some((&"refused", start));
        assert_eq!((gate.is_down(), gate.cause()), (true, Some(&"refused")));
        assert_eq!(gate.down_since(), Some(start));
        assert_eq!(gate.turns_away(patience, later(30)), down);
        gate.prove(later(30));
        assert_eq!(gate.turns_away(patience, later(59)), None);
        assert_eq!(gate.turns_away(patience, later(60)), down);
        gate.succeeded(8);
        assert_eq!(gate.turns_away(patience, later(60)), None);
        assert_eq!((gate.is_down(), gate.cause()), (false, None));
    }

    #[test]
    fn a_straggler_changes_the_cause_and_not_the_pause() {
        let start = origin();
        let mut gate = Gate::Up { window: 8 };
        gate.failed("first", start, longest);
        let pause = gate.pause_until();
        gate.failed("second", start + Duration::from_millis(3), longest);
        assert_eq!(
            gate,
            Gate::Down {
                since: start,
                cause: "second",
                failures: 1,
                proved: start,
                pause_until: pause
            }
        );
    }
}
