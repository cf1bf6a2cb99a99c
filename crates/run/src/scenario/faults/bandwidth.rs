//! What the server sends arrives slowly.

use super::{FOR, Fault, FaultKind, Hides, Key, Kind, Quantity, Word};

pub(super) const FAULT: Fault = Fault {
    kind: Kind {
        name: Word {
            word: "bandwidth",
            synonyms: &[],
            doc: "What the server sends arrives slowly.",
        },
        keys: &[
            Key::new("rate", Quantity::count(0), "How fast. 0 is a `stall`.")
                .required("rate = 100")
                .unit("kB/s (1000 bytes per second)"),
            FOR,
        ],
    },
    read: |values, _| {
        let rate_kb_s = values.given("rate")?.value;
        Some(FaultKind::Bandwidth { rate_kb_s })
    },
    hides: Hides::Nothing,
};
