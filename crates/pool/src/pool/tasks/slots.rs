//! The slots of connections that are being opened, reset or closed. Dropping one reports its end to the books.

use std::sync::Arc;
use std::time::Instant;

use super::super::{Inner, now};
use super::jitter;
use crate::connector::Connector;
use crate::critical::Critical;
use crate::error::ConnectError;
use crate::span::OutcomeSpan;
use crate::state::{Conn, Failure, Mode, Opened, Reason, Severity};

/// A connection being opened.
pub(super) struct OpeningSlot<C: Connector> {
    /// None once the outcome was reported.
    pub(super) inner: Option<Arc<Inner<C>>>,
    pub(super) generation: u64,
    pub(super) span: OutcomeSpan,
}

impl<C: Connector> OpeningSlot<C> {
    pub(super) fn inner(&self) -> Arc<Inner<C>> {
        Arc::clone(self.inner.as_ref().expect("bug: outcome reported twice"))
    }

    pub(super) fn opened(mut self, value: C::Connection, begun: Instant) {
        self.span.record("pid", self.inner().connector.pid(&value));
        self.span.end("ok");
        let inner = self.inner.take().expect("bug: outcome reported twice");
        let now = now();
        inner.meters.connect(now.saturating_duration_since(begun));
        inner.told.up();
        let opened = Opened {
            value,
            generation: self.generation,
            begun,
            jitter: jitter(),
        };
        inner.change(|books| books.opened(opened, now));
    }

    pub(super) fn failed(mut self, error: ConnectError<C::Error>, severity: Severity) {
        self.span.end("failed");
        let inner = self.inner.take().expect("bug: outcome reported twice");
        report_failure(&inner, error, severity);
    }
}

impl<C: Connector> Drop for OpeningSlot<C> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            report_failure(&inner, ConnectError::Abandoned, Severity::Transient);
        }
    }
}

fn report_failure<C: Connector>(
    inner: &Arc<Inner<C>>,
    error: ConnectError<C::Error>,
    severity: Severity,
) {
    tracing::debug!(%error, ?severity, "a connection could not be opened");
    let failure = Failure {
        error: error.clone(),
        severity,
        jitter: jitter(),
    };
    let counts = inner.change_and_tell(|books| {
        let actions = books.open_failed(failure, now());
        (books.counts(), actions)
    });
    let ended = matches!(error, ConnectError::Abandoned) || counts.mode == Mode::Closed;
    if counts.out + counts.idle == 0 && !ended && inner.told.down() {
        let cause = Arc::new(error);
        inner.hooks.tell(&Critical::PoolDown { cause });
    }
}

/// A connection being reset or closed. Its slot stays taken until this is dropped.
pub(super) struct ClosingSlot<C: Connector> {
    /// None once the connection went back.
    pub(super) inner: Option<Arc<Inner<C>>>,
    pub(super) conn: Option<Conn<C::Connection>>,
    /// Why it is closed, unless that was counted when it was ordered.
    pub(super) reason: Option<Reason>,
}

impl<C: Connector> ClosingSlot<C> {
    pub(super) fn new(
        inner: &Arc<Inner<C>>,
        conn: Conn<C::Connection>,
        reason: Option<Reason>,
    ) -> Self {
        Self {
            inner: Some(Arc::clone(inner)),
            conn: Some(conn),
            reason,
        }
    }

    pub(super) fn inner(&self) -> Arc<Inner<C>> {
        Arc::clone(self.inner.as_ref().expect("bug: slot freed twice"))
    }

    pub(super) fn restore(mut self) {
        let inner = self.inner.take().expect("bug: slot freed twice");
        let conn = self.conn.take().expect("bug: nothing to restore");
        inner.change(|books| books.restore(conn, now()));
    }
}

impl<C: Connector> Drop for ClosingSlot<C> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            // The socket goes first: a slot is not free while its connection exists.
            drop(self.conn.take());
            let reason = self.reason;
            inner.change(|books| match reason {
                None => books.closed(now()),
                Some(reason) => books.lost(reason, now()),
            });
        }
    }
}
