//! Nothing arrives any more, in either direction.

use super::{FOR, Fault, FaultKind, Hides, Kind, Word};

pub(super) const FAULT: Fault = Fault {
    kind: Kind {
        name: Word {
            word: "silence",
            synonyms: &["timeout", "blackhole", "partition"],
            doc: "Nothing arrives any more, in either direction, and nobody is told.",
        },
        keys: &[FOR],
    },
    read: |_, _| Some(FaultKind::Silence),
    hides: Hides::Kinds {
        kinds: &["latency", "bandwidth", "stall"],
        why: "here nothing passes that could be held back",
    },
};
