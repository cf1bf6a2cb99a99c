//! The server terminates one backend.

use super::{BackendTarget, Fault, FaultKind, Hides, Key, Kind, Quantity, Word, Words};

pub(super) const FAULT: Fault = Fault {
    kind: Kind {
        name: Word {
            word: "terminate-backend",
            synonyms: &["kill", "kill-backend", "terminate"],
            doc: "The server terminates one of its processes.",
        },
        keys: &[Key::new("target", Quantity::Word(&TARGETS), "Which.").default("any")],
    },
    read: |values, _| {
        let target = match values.get("target") {
            "in-transaction" => BackendTarget::InTransaction,
            "idle" => BackendTarget::Idle,
            "any" => BackendTarget::Any,
            word => panic!("bug: the target {word:?} is not read"),
        };
        Some(FaultKind::TerminateBackend { target })
    },
    hides: Hides::Nothing,
};

const TARGETS: Words = Words {
    what: "target",
    all: &[
        Word {
            word: "in-transaction",
            synonyms: &["transaction", "idle in transaction", "active"],
            doc: "one that is in a transaction",
        },
        Word {
            word: "idle",
            synonyms: &[],
            doc: "one that waits for work",
        },
        Word {
            word: "any",
            synonyms: &["random"],
            doc: "any one of the pool's",
        },
    ],
};
