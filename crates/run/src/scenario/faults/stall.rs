//! What the server sends is held.

use super::{FOR, Fault, FaultKind, Hides, Kind, Word};

pub(super) const FAULT: Fault = Fault {
    kind: Kind {
        name: Word {
            word: "stall",
            synonyms: &["freeze", "hang"],
            doc: "What the server sends is held back. None of it is lost: it arrives at the end.",
        },
        keys: &[FOR],
    },
    read: |_, _| Some(FaultKind::Bandwidth { rate_kb_s: 0 }),
    hides: Hides::Nothing,
};
