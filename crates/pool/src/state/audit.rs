//! What must hold after every transition, whatever it costs to check; and what the search needs.

use super::{HolderKey, Known, Mode, Reason, State, Totals};

impl<C, W, E: Clone> State<C, W, E> {
    pub(crate) fn idle(&self) -> impl Iterator<Item = &Known<C>> {
        self.idle.iter()
    }

    /// Returns the connections of the grants that nobody has taken.
    pub(crate) fn granted(&self) -> impl Iterator<Item = &Known<C>> {
        self.queue.untaken().map(|granted| &*granted.conn)
    }

    pub(crate) fn audit(&self) {
        self.check();
        self.queue.audit();
        self.idle.audit();
        self.audit_totals();
        assert!(
            self.idle().all(|conn| conn.generation == self.generation),
            "bug: a stale connection is idle"
        );
        assert!(
            self.idle().all(|conn| conn.holder == HolderKey::NONE),
            "bug: an idle connection believes that it is lent"
        );
        assert!(
            self.ceiling == self.limits.max_open || self.ceiling == self.open(),
            "bug: the ceiling floats"
        );
        assert!(
            !self.steady || self.is_steady(),
            "bug: the quick way is open and should not be"
        );
        if self.mode == Mode::Open {
            assert!(
                self.idle.marked() <= self.refill,
                "bug: a marked connection waits for a replacement that nobody ordered"
            );
            // F15: what is missing is on its way, or will be tried again.
            assert!(
                self.missing() == 0
                    || self.open() >= self.limits.max_open
                    || self.opening > 0
                    || self.timer.is_some(),
                "bug: {} are missing and nothing is being done about it",
                self.missing()
            );
        }
    }

    fn audit_totals(&self) {
        let totals = self.totals;
        assert_eq!(
            totals.opened - totals.closed,
            (self.holders.len() + self.idle.len() + self.closing) as u64,
            "bug: connections appear or vanish"
        );
        assert!(
            self.leases_issued >= self.taken(),
            "bug: leases appear or vanish"
        );
        let reasons: u64 = totals.closed_by.iter().sum();
        assert!(
            totals.closed <= reasons && reasons <= totals.closed + self.closing as u64,
            "bug: a connection was closed without a reason, or for two"
        );
    }

    /// Forgets what makes no difference to what follows, so that a search meets a state again that it
    /// reached in another way.
    pub(crate) fn forget_history(&mut self) {
        let out = self.holders.len();
        let reasons: u64 = self.totals.closed_by.iter().sum();
        let mut closed_by = [0; Reason::COUNT];
        // Those that are being closed, and whose reason was counted.
        closed_by[0] = reasons - self.totals.closed;
        self.totals = Totals {
            opened: (out + self.idle.len() + self.closing) as u64,
            closed_by,
            ..Totals::default()
        };
        self.leases_issued = self.taken();
        self.connect_times.clear();
    }
}
