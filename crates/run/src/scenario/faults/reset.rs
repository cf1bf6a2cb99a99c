//! Every connection is reset.

use super::{Fault, FaultKind, Hides, Key, Kind, Quantity, Word};

pub(super) const FAULT: Fault = Fault {
    kind: Kind {
        name: Word {
            word: "reset",
            synonyms: &["reset_peer", "disconnect"],
            doc: "Every connection is reset.",
        },
        keys: &[Key::new(
            "commits_in_flight",
            Quantity::count(0),
            "It waits, from `at` on, until so many commits wait for their answer: some have reached \
             the server by then and some have not. At most what the pool can open.",
        )
        .default("0")],
    },
    read: |values, _| {
        let commits_in_flight = values.get("commits_in_flight");
        Some(FaultKind::Reset { commits_in_flight })
    },
    hides: Hides::Nothing,
};
