//! From a connection to a lease: what is measured, told and checked on the way.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tracing::field::Empty;
use tracing::level_filters::LevelFilter;

use super::super::lease::Lease;
use super::super::now;
use super::super::shell::Wait;
use super::super::vet::{Checks, Unfit, vet};
use super::{Acquire, Vetted};
use crate::connector::Connector;
use crate::error::AcquireError;
use crate::hooks::HookError;
use crate::state::Granted;

/// A hook that rejects this many connections would reject any: SQLAlchemy gives up after as many
/// (rule 32).
const REJECTIONS_MAX: u8 = 2;

impl<C: Connector> Acquire<C> {
    /// Makes a lease of a connection, or begins what it must pass first.
    #[inline]
    pub(super) fn check(&mut self, granted: Granted<C::Connection>) -> Option<Lease<C>> {
        let waited = self.measure(granted.since());
        if self.rare.is_some() {
            self.note_grant(waited, &granted.conn.value);
        }
        let ping = self.needs_ping(granted.conn.last_used, granted.since());
        let inner = self.inner.take();
        let inner = inner.expect("bug: an acquire was used after it ended");
        if !ping && inner.hooks.acquire.is_none() {
            if let Some(rare) = &self.rare {
                rare.span.record("outcome", "ok");
            }
            return Some(Lease::new(inner, granted, self.location));
        }
        self.inner = Some(Arc::clone(&inner));
        self.begin_vetting(Lease::new(inner, granted, self.location), ping);
        None
    }

    #[cold]
    fn begin_vetting(&mut self, lease: Lease<C>, ping: bool) {
        let left = self.budget.saturating_sub(self.elapsed());
        // An expired budget does not shorten the checks to nothing: zero still takes what is idle.
        let within = if left.is_zero() {
            self.inner().config.ping_timeout
        } else {
            left
        };
        let checks = Checks { ping, within };
        let vetting = Box::pin(vet(Arc::clone(self.inner()), lease, checks));
        let rare = self.rare();
        rare.measured = true;
        rare.vetting = Some(vetting);
    }

    /// Goes on checking. None means that the connection was not fit.
    #[cold]
    pub(super) fn poll_vetting(&mut self, cx: &mut Context<'_>) -> Poll<Vetted<C>> {
        let rare = self.rare.as_mut();
        let rare = rare.expect("bug: an acquire was polled after it ended");
        let vetting = rare.vetting.as_mut();
        let vetting = vetting.expect("bug: an acquire was polled after it ended");
        let vetted = ready!(vetting.as_mut().poll(cx));
        rare.vetting = None;
        let unfit = match vetted {
            Ok(lease) => {
                rare.span.record("outcome", "ok");
                return Poll::Ready(Ok(Some(lease)));
            }
            Err(unfit) => unfit,
        };
        if let Unfit::Hook(cause) = unfit {
            rare.rejected += 1;
            let out_of_time = matches!(cause, HookError::TimedOut { .. });
            if out_of_time || rare.rejected == REJECTIONS_MAX {
                return Poll::Ready(Err(AcquireError::Hook { cause }));
            }
        }
        self.wait = Wait::AskAgain;
        Poll::Ready(Ok(None))
    }

    #[inline]
    fn needs_ping(&self, last_used: Instant, now: Instant) -> bool {
        let config = &self.inner().config;
        if !config.pre_ping {
            return false;
        }
        // What was opened or came back during this very acquire needs no ping, however small
        // `pre_ping_after` is.
        let just_now = self.begun.is_some_and(|begun| last_used >= begun);
        let unused = now.saturating_duration_since(last_used);
        !just_now && unused >= config.pre_ping_after
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| {
            now().saturating_duration_since(begun)
        })
    }

    /// Measures the wait at its first end, the hand-over of a connection: what the task takes to notice is
    /// time in which it holds the connection. Returns how long the wait has been.
    #[inline]
    fn measure(&mut self, now: Instant) -> Duration {
        let begun = self.begun.expect("bug: ends before its first poll");
        let waited = now.saturating_duration_since(begun);
        if !self.is(|rare| rare.measured) {
            self.inner().meters.queue_wait(waited);
        }
        waited
    }

    #[inline]
    pub(super) fn open_span(&mut self) {
        // Where nobody listens at all the macro costs more than the rest of an acquire's books.
        if LevelFilter::current() >= LevelFilter::DEBUG {
            self.open_span_for_listeners();
        }
    }

    #[cold]
    fn open_span_for_listeners(&mut self) {
        let span = tracing::debug_span!(
            "acquire",
            pool = self.inner().config.name,
            wait_us = Empty,
            pid = Empty,
            outcome = Empty,
        );
        if !span.is_disabled() {
            self.rare().span = span;
        }
    }

    #[cold]
    fn note_grant(&self, waited: Duration, connection: &C::Connection) {
        let Some(rare) = &self.rare else { return };
        rare.span.record("wait_us", micros(waited));
        let pid = self.inner().connector.pid(connection);
        rare.span.record("pid", pid);
    }

    #[cold]
    pub(super) fn note_refusal(&mut self, error: &AcquireError<C::Error>) {
        if self.is(|rare| rare.sparing) {
            return;
        }
        let kind = error.kind();
        let waited = self.measure(now());
        self.inner().meters.error(kind);
        if let Some(rare) = &self.rare {
            rare.span.record("wait_us", micros(waited));
            rare.span.record("outcome", kind.as_str());
        }
    }
}

/// Microseconds, as logs have them.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
