//! How an acquire that failed explains itself.

use super::super::{Snapshot, holder_at, now};
use super::Acquire;
use crate::connector::Connector;
use crate::error::{AcquireError, ConnectError};
use crate::state::{Counts, Refusal, Shortage};

impl<C: Connector> Acquire<C> {
    pub(super) fn explain(
        &self,
        shortage: Shortage<ConnectError<C::Error>>,
        counts: &Counts,
    ) -> AcquireError<C::Error> {
        let now = now();
        let within = self.elapsed();
        let state = Box::new(Snapshot::of(counts));
        match shortage {
            Shortage::Exhausted {
                out,
                waiting,
                oldest,
                own,
            } => AcquireError::Exhausted {
                size: counts.sizes.0,
                overflow: counts.sizes.1,
                out,
                waiting,
                within,
                oldest: oldest.map(|holder| holder_at(holder, now)),
                own: own.into_iter().map(|held| holder_at(held, now)).collect(),
                state,
            },
            Shortage::Opening { out, opening } => AcquireError::ConnectTimeout {
                opening,
                out,
                within,
                state,
            },
            Shortage::Down { cause, since } => AcquireError::Down {
                cause,
                since: now.saturating_duration_since(since),
                state,
            },
            Shortage::Paused => AcquireError::Paused { within, state },
        }
    }

    pub(super) fn nothing_to_spare(&self, counts: &Counts) -> AcquireError<C::Error> {
        let shortage = Shortage::Exhausted {
            out: counts.out,
            waiting: counts.waiting,
            oldest: counts.oldest,
            own: Vec::new(),
        };
        self.explain(shortage, counts)
    }
}

/// Returns whether the pool can lend one and still has one.
pub(super) fn can_spare_one(counts: &Counts) -> bool {
    Snapshot::of(counts).can_spare_one()
}

pub(super) fn refused<E: std::error::Error>(refusal: Refusal) -> AcquireError<E> {
    match refusal {
        Refusal::Draining => AcquireError::Draining,
        Refusal::Closed => AcquireError::Closed,
    }
}
