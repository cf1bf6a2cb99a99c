//! The address refuses connections.

use super::{FOR, Fault, FaultKind, Hides, Kind, Word};

pub(super) const FAULT: Fault = Fault {
    kind: Kind {
        name: Word {
            word: "down",
            synonyms: &["disable"],
            doc: "The address refuses connections, and those that exist are closed.",
        },
        keys: &[FOR],
    },
    read: |_, _| Some(FaultKind::Down),
    hides: Hides::All {
        why: "here no connection exists",
    },
};
