//! What the open sessions of a pool are doing: who opened them, since when, in which transaction.
//!
//! Each connection has a [`Track`], which its session writes and the listing and the reaper read. Its
//! lock is held for a few assignments only and is next to never contended.

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::conn::{Backend, Pinned, Target};
use super::control;
use super::listing::{Activity, OpenSession, OpenTransaction, Reaped, Stale};

/// Bytes of a statement's text that are kept. Its first words are in there.
const TEXT_KEPT: usize = 96;

/// How long sessions may be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) session: Option<Duration>,
    pub(super) idle_in_transaction: Option<Duration>,
}

/// What a session sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Errand<'a> {
    /// A statement of its holder, with its text.
    Statement(&'a str),
    /// The beginning of a transaction.
    Begin,
    /// The end of one that keeps what it did.
    Commit,
    /// The end of one that does not.
    Rollback,
    /// Anything else that controls one.
    Control,
}

/// The record of one connection.
#[derive(Debug)]
pub(super) struct Track {
    /// What served it when it was opened.
    backend: Backend,
    pinned: Pinned,
    record: Mutex<Option<Record>>,
}

/// The record of one session.
#[derive(Debug, Clone)]
struct Record {
    location: &'static Location<'static>,
    since: Instant,
    statements: u64,
    activity: Activity,
    activity_since: Instant,
    transaction: Option<Begun>,
    text: Text,
    reaped: Option<Reaped>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    since: Instant,
    statements: u64,
    /// What serves it, where that is pinned to it only, until its end is sent.
    serving: Option<Target>,
}

/// The beginning of a text, in place, so that no statement costs an allocation.
#[derive(Clone)]
struct Text {
    bytes: [u8; TEXT_KEPT],
    len: usize,
    is_cut: bool,
}

impl Text {
    const EMPTY: Self = Self {
        bytes: [0; TEXT_KEPT],
        len: 0,
        is_cut: false,
    };

    fn set(&mut self, text: &str) {
        let kept = &text[..text.floor_char_boundary(TEXT_KEPT)];
        self.bytes[..kept.len()].copy_from_slice(kept.as_bytes());
        self.len = kept.len();
        self.is_cut = kept.len() < text.len();
    }

    fn words(&self) -> Option<String> {
        let kept = std::str::from_utf8(&self.bytes[..self.len])
            .expect("bug: a text was cut within a character");
        let mut words = control::outline(kept);
        if self.is_cut {
            words.push('…');
        }
        Some(words).filter(|words| !words.is_empty())
    }
}

impl fmt::Debug for Text {
    /// Shows no more than the listing does: the text may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words().fmt(f)
    }
}

impl Record {
    fn serving(&self) -> Option<Target> {
        self.transaction?.serving
    }

    /// From now on, what serves the transaction may come to serve others.
    fn release(&mut self) {
        if let Some(begun) = &mut self.transaction {
            begun.serving = None;
        }
    }
}

impl Track {
    pub(super) fn new(backend: Backend, pinned: Pinned) -> Self {
        Self {
            backend,
            pinned,
            record: Mutex::new(None),
        }
    }

    /// A session opens.
    pub(super) fn open(&self, location: &'static Location<'static>, since: Instant) {
        *self.lock() = Some(Record {
            location,
            since,
            statements: 0,
            activity: Activity::Idle,
            activity_since: since,
            transaction: None,
            text: Text::EMPTY,
            reaped: None,
        });
    }

    /// The session ends. From now on it cannot be reaped; returns whether it was before.
    pub(super) fn close(&self) -> Option<Reaped> {
        self.lock().take()?.reaped
    }

    /// The session is about to send something. `Err` means that it must not.
    pub(super) fn depart(&self, errand: Errand<'_>) -> Result<(), Reaped> {
        let now = Instant::now();
        let mut record = self.lock();
        let Some(record) = record.as_mut() else {
            return Ok(());
        };
        if let Some(reaped) = record.reaped {
            return Err(reaped);
        }
        record.activity = Activity::Running;
        record.activity_since = now;
        match errand {
            Errand::Statement(text) => {
                record.statements += 1;
                record.text.set(text);
                if let Some(transaction) = &mut record.transaction {
                    transaction.statements += 1;
                }
            }
            Errand::Begin => {
                record.transaction = Some(Begun {
                    since: now,
                    statements: 0,
                    serving: None,
                });
            }
            Errand::Commit => {
                record.activity = Activity::Committing;
                record.release();
            }
            Errand::Rollback => record.release(),
            Errand::Control => {}
        }
        Ok(())
    }

    /// The transaction is served by this process, until its end is sent.
    pub(super) fn serve(&self, target: Target) {
        if let Some(record) = self.lock().as_mut()
            && let Some(begun) = &mut record.transaction
        {
            begun.serving = Some(target);
        }
    }

    /// The server has answered. Returns whether the session was reaped meanwhile.
    pub(super) fn arrive(&self) -> Option<Reaped> {
        let now = Instant::now();
        let mut record = self.lock();
        let record = record.as_mut()?;
        record.activity = Activity::Idle;
        record.activity_since = now;
        record.reaped
    }

    /// The session has left its transaction.
    pub(super) fn left_transaction(&self) {
        if let Some(record) = self.lock().as_mut() {
            record.transaction = None;
        }
    }

    /// Marks the session for its end if it is stale now. Otherwise returns when it would be.
    fn judge(&self, patience: Patience, now: Instant) -> Judged {
        let mut record = self.lock();
        let Some(record) = record.as_mut().filter(|record| record.reaped.is_none()) else {
            return Judged::Fine(None);
        };
        let idle_since = record
            .transaction
            .and((record.activity == Activity::Idle).then_some(record.activity_since));
        let limits = [
            (
                Stale::Session,
                patience.session,
                // What is committing may be stored already; it will not take long.
                (record.activity != Activity::Committing).then_some(record.since),
            ),
            (
                Stale::IdleInTransaction,
                patience.idle_in_transaction,
                idle_since,
            ),
        ];
        let mut due = None;
        for (stale, limit, since) in limits {
            let (Some(limit), Some(since)) = (limit, since) else {
                continue;
            };
            let after = now.saturating_duration_since(since);
            if after >= limit {
                let reaped = Reaped {
                    stale,
                    after,
                    limit,
                };
                record.reaped = Some(reaped);
                let target = match self.pinned {
                    Pinned::Transaction => record.serving(),
                    Pinned::Connection | Pinned::Declared => Some(self.backend.into()),
                };
                return Judged::Stale(Doomed {
                    target,
                    location: record.location,
                    reaped,
                });
            }
            due = due.into_iter().chain(since.checked_add(limit)).min();
        }
        Judged::Fine(due)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Record>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self, now: Instant) -> Option<OpenSession> {
        // A copy, so that the words are looked for without the lock.
        let record = self.lock().clone()?;
        let ago = |since: Instant| now.saturating_duration_since(since);
        let serving = record.serving().map(|target| target.backend);
        Some(OpenSession {
            backend: serving.unwrap_or(self.backend),
            location: record.location,
            open_for: ago(record.since),
            statements: record.statements,
            activity: record.activity,
            activity_for: ago(record.activity_since),
            transaction: record.transaction.map(|begun| OpenTransaction {
                open_for: ago(begun.since),
                statements: begun.statements,
            }),
            last_statement: record.text.words(),
            reaped: record.reaped,
        })
    }
}

enum Judged {
    /// With the time when it would be stale, if ever.
    Fine(Option<Instant>),
    Stale(Doomed),
}

/// A session that is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doomed {
    /// What may be ended at the server; none where that may serve others.
    pub(super) target: Option<Target>,
    pub(super) location: &'static Location<'static>,
    pub(super) reaped: Reaped,
}

/// What the reaper finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// No connection is left; whoever adds the next one must start another reaper.
    NothingToWatch,
    /// These are stale, and until then nothing else will be.
    Sessions {
        doomed: Vec<Doomed>,
        next: Option<Instant>,
    },
}

/// All connections of a pool.
#[derive(Debug, Default)]
pub(super) struct Registry {
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    tracks: Vec<Weak<Track>>,
    has_reaper: bool,
}

impl Registry {
    /// Adds a connection. Returns whether a reaper must be started, should one be wanted.
    pub(super) fn add(&self, track: &Arc<Track>) -> bool {
        let mut watched = self.lock();
        watched.tracks.retain(|track| track.strong_count() > 0);
        watched.tracks.push(Arc::downgrade(track));
        !std::mem::replace(&mut watched.has_reaper, true)
    }

    /// Returns the open sessions, the oldest first.
    pub(super) fn sessions(&self) -> Vec<OpenSession> {
        let tracks: Vec<Arc<Track>> = self.lock().living();
        let now = Instant::now();
        let mut sessions: Vec<OpenSession> = tracks
            .iter()
            .filter_map(|track| track.listed(now))
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.open_for));
        sessions
    }

    /// Marks the stale sessions.
    pub(super) fn scan(&self, patience: Patience, now: Instant) -> Scan {
        let tracks = {
            let mut watched = self.lock();
            watched.tracks.retain(|track| track.strong_count() > 0);
            if watched.tracks.is_empty() {
                watched.has_reaper = false;
                return Scan::NothingToWatch;
            }
            watched.living()
        };
        // A session that opens or begins right after this look is not due before the shorter limit.
        let mut next = [patience.session, patience.idle_in_transaction]
            .into_iter()
            .flatten()
            .min()
            .and_then(|shortest| now.checked_add(shortest));
        let mut doomed = Vec::new();
        for track in tracks {
            match track.judge(patience, now) {
                Judged::Fine(due) => next = next.into_iter().chain(due).min(),
                Judged::Stale(session) => doomed.push(session),
            }
        }
        Scan::Sessions { doomed, next }
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn living(&self) -> Vec<Arc<Track>> {
        self.tracks.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests;
