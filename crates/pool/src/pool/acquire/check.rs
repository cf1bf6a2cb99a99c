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
use super::{Acquire, Vetted, turn};
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
        let unsure = self.needs_ping(granted.conn.last_used, granted.since());
        // A wait that is over takes what is idle as it is, because a ping is a wait as well.
        let ping = unsure && !self.left().is_zero();
        let inner = self.inner.take();
        let inner = inner.expect("bug: an acquire was used after it ended");
        if !ping && inner.hooks.acquire.is_none() {
            let lease = Lease::new(inner, granted, self.location);
            self.note_lease(&lease);
            return Some(lease);
        }
        self.inner = Some(Arc::clone(&inner));
        self.begin_vetting(Lease::new(inner, granted, self.location), ping);
        None
    }

    #[cold]
    fn begin_vetting(&mut self, lease: Lease<C>, ping: bool) {
        let within = self.left();
        let checks = Checks { ping, within };
        let vetting = Box::pin(vet(Arc::clone(self.inner()), lease, checks));
        self.rare().vetting = Some(vetting);
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
                self.note_lease(&lease);
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

    /// Returns how much of the budget there is.
    fn left(&self) -> Duration {
        self.budget.saturating_sub(self.elapsed())
    }

    fn waited(&self, until: Instant) -> Duration {
        let begun = self.begun.expect("bug: ends before its first poll");
        until.saturating_duration_since(begun)
    }

    /// Measures a wait that ended with a lease: at the hand-over of its connection, because what the task
    /// takes to notice is time in which it holds the connection.
    #[inline]
    fn note_lease(&mut self, lease: &Lease<C>) {
        turn::count();
        if self.begun == Some(lease.since()) {
            lease.meters().no_queue_wait();
        } else {
            lease.meters().queue_wait(self.waited(lease.since()));
        }
        if self.is(|rare| !rare.span.is_silent()) {
            self.tell_lease(lease);
        }
    }

    #[cold]
    fn tell_lease(&mut self, lease: &Lease<C>) {
        let waited = self.waited(lease.since());
        let span = &mut self.rare().span;
        span.record("wait_us", micros(waited));
        span.record("pid", lease.pid());
        span.end("ok");
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
            self.rare().span = span.into();
        }
    }

    #[cold]
    pub(super) fn note_refusal(&mut self, error: &AcquireError<C::Error>) {
        turn::count();
        let kind = error.kind();
        let waited = self.waited(now());
        if let Some(rare) = &mut self.rare {
            rare.span.record("wait_us", micros(waited));
            rare.span.end(kind.as_str());
        }
        if self.is(|rare| rare.sparing) {
            return;
        }
        self.inner().meters.queue_wait(waited);
        self.inner().meters.error(kind);
    }
}

/// Microseconds, as logs have them.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
