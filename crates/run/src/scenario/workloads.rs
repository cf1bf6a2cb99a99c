//! The kinds of workload that a scenario can name.

use poolproof_load::{WRITE_SET_TABLES_MAX, Workload};

use super::key::{Key, Kind, Kinds, Quantity, Word};
use super::outside;
use super::values::Values;

/// What `kind` in `[[load.workload]]` may say.
pub(super) const WORKLOADS: Kinds = Kinds {
    what: "workload",
    all: || ALL.iter().map(|workload| workload.kind).collect(),
    misplaced: |key| {
        key.problem(format!(
            "`{}` belongs to the workload {}",
            key.key, key.owners
        ))
    },
};

const ALL: [Readable; 2] = [BANK, WRITE_SET];

/// A kind, and what is made of a table of it.
#[derive(Debug, Clone, Copy)]
struct Readable {
    kind: Kind,
    read: fn(&Values) -> Workload,
}

/// The most accounts: a million rows are written in some seconds.
pub(super) const ACCOUNTS_MAX: i64 = 1_000_000;

const BANK: Readable = Readable {
    kind: Kind {
        name: Word {
            word: "bank",
            synonyms: &["transfer"],
            doc: "Transfers between accounts. The sum over all accounts must never change.",
        },
        keys: &[
            Key::new(
                "accounts",
                Quantity::Integer {
                    least: 2,
                    most: ACCOUNTS_MAX,
                },
                "How many accounts there are; the fewer, the more transfers meet on one.",
            )
            .default("64")
            .explain(outside::accounts),
            Key::new(
                "opening_balance",
                Quantity::Integer {
                    least: 0,
                    most: 1_000_000_000_000,
                },
                "What each account holds at first.",
            )
            .default("1000")
            .also(&["balance"]),
        ],
    },
    read: |values| Workload::Bank {
        accounts: values.get("accounts"),
        opening_balance: values.get("opening_balance"),
    },
};

const WRITE_SET: Readable = Readable {
    kind: Kind {
        name: Word {
            word: "write-set",
            synonyms: &["writes", "writeset"],
            doc: "One id into several tables. It must arrive in all of them or in none.",
        },
        keys: &[Key::new(
            "tables",
            Quantity::Integer {
                least: 1,
                most: WRITE_SET_TABLES_MAX as i64,
            },
            "How many tables.",
        )
        .default("3")],
    },
    read: |values| Workload::WriteSet {
        tables: values.get("tables"),
    },
};

/// Returns what a table of the list says; none without a kind that is known.
pub(super) fn workload(values: &Values) -> Option<Workload> {
    let kind = values.kind?.name.word;
    let workload = ALL.iter().find(|known| known.kind.name.word == kind)?;
    Some((workload.read)(values))
}
