//! Who had each connection last and whether that use was seen to end: which connections are suspect.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// Which server process serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BackendId {
    /// Its process id.
    pub pid: i32,
    /// Tells it from a later process with the same id: when it was started, or its number among
    /// the connections that were opened.
    pub birth: u64,
}

/// The last lease of each connection of one subject.
///
/// A connection is *suspect* unless its last lease was settled: its end was a commit or rollback
/// that somebody saw. Whoever was cancelled, panicked, failed or is in doubt settled nothing. A
/// connection without a lease before is no suspect.
///
/// Connections that the subject cannot tell apart are suspect as long as any lease of any of them
/// is not settled. Once one ended badly, that is until the end of the run: nobody knows which of
/// them it was.
#[derive(Debug, Default)]
pub struct Leases {
    /// Held for a look-up, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: HashMap<BackendId, Last>,
    nameless_unsettled: u64,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    op: u64,
    is_settled: bool,
}

/// What a lease begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) backend: Option<BackendId>,
    /// The op that had the connection before, where that is known.
    pub(crate) previous_op: Option<u64>,
    pub(crate) is_suspect: bool,
    is_settled: bool,
}

impl Leases {
    pub(crate) fn begin(&self, op: u64, backend: Option<BackendId>) -> Lease {
        let mut state = self.state();
        let Some(id) = backend else {
            let is_suspect = state.nameless_unsettled > 0;
            state.nameless_unsettled += 1;
            return Lease {
                backend,
                previous_op: None,
                is_suspect,
                is_settled: false,
            };
        };
        let begun = Last {
            op,
            is_settled: false,
        };
        let before = state.last.insert(id, begun);
        Lease {
            backend,
            previous_op: before.map(|last| last.op),
            is_suspect: before.is_some_and(|last| !last.is_settled),
            is_settled: false,
        }
    }

    /// Settles a lease of `op`.
    pub(crate) fn settle(&self, op: u64, lease: &mut Lease) {
        if std::mem::replace(&mut lease.is_settled, true) {
            return;
        }
        let mut state = self.state();
        let Some(id) = lease.backend else {
            state.nameless_unsettled -= 1;
            return;
        };
        if let Some(last) = state.last.get_mut(&id)
            && last.op == op
        {
            last.is_settled = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("bug: a panic while a lease was noted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<BackendId> = Some(BackendId { pid: 7, birth: 1 });
    /// The same process id, later.
    const A_AGAIN: Option<BackendId> = Some(BackendId { pid: 7, birth: 2 });
    const B: Option<BackendId> = Some(BackendId { pid: 8, birth: 3 });

    #[test]
    fn a_connection_is_suspect_until_its_last_lease_was_settled() {
        let leases = Leases::default();
        let first = leases.begin(1, A);
        assert_eq!((first.is_suspect, first.previous_op), (false, None));
        let mut second = leases.begin(2, A);
        assert_eq!((second.is_suspect, second.previous_op), (true, Some(1)));
        leases.settle(2, &mut second);
        let third = leases.begin(3, A);
        assert_eq!((third.is_suspect, third.previous_op), (false, Some(2)));
    }

    #[test]
    fn other_connections_are_no_suspects_not_even_a_later_one_with_the_same_pid() {
        let leases = Leases::default();
        leases.begin(1, A);
        for other in [B, A_AGAIN] {
            let lease = leases.begin(2, other);
            assert_eq!((lease.is_suspect, lease.previous_op), (false, None));
        }
    }

    #[test]
    fn a_lease_that_ends_late_does_not_settle_the_next_one() {
        let leases = Leases::default();
        let mut first = leases.begin(1, A);
        leases.begin(2, A);
        leases.settle(1, &mut first);
        assert!(leases.begin(3, A).is_suspect);
    }

    #[test]
    fn connections_without_a_name_are_all_suspect_after_one_lease_ended_badly() {
        let leases = Leases::default();
        for op in 0..3 {
            let mut lease = leases.begin(op, None);
            assert_eq!((lease.is_suspect, lease.previous_op), (false, None));
            leases.settle(op, &mut lease);
            leases.settle(op, &mut lease);
        }
        assert!(!leases.begin(3, None).is_suspect, "this one is cancelled");
        for op in 4..20 {
            let mut lease = leases.begin(op, None);
            assert!(lease.is_suspect, "op {op}");
            leases.settle(op, &mut lease);
        }
        assert!(!leases.begin(20, A).is_suspect, "a name tells it apart");
    }
}
