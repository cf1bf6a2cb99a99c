//! The keys of a scenario file, section by section. A new key is one entry here, and a line where
//! its section is read.
//!
//! Keys that only some kinds of fault or workload have stand with the kind, under `faults` and in
//! `workloads`.

use super::faults::FAULT_KINDS;
use super::key::{Bounds, Key, Quantity, Table, Word, Words};
use super::outside;
use super::workloads::WORKLOADS;

const DURATION: Quantity = Quantity::Duration { zero: false };
const DURATION_OR_ZERO: Quantity = Quantity::Duration { zero: true };

/// The file.
pub(super) const ROOT: Table = Table::new(
    "the scenario",
    &[
        Key::new(
            "name",
            Quantity::Name,
            "What the scenario is called; also the folder of its reports.",
        )
        .required("name = \"my-scenario\""),
        Key::new("load", Quantity::Table(&LOAD), "What is asked of the pool.").required("[load]"),
        Key::new(
            "title",
            Quantity::Text,
            "What it is about, in one sentence.",
        )
        .otherwise("the name"),
        Key::new("pool", Quantity::Table(&POOL), "The pool under test.").otherwise("all defaults"),
        Key::new(
            "postgres",
            Quantity::Table(&POSTGRES),
            "What the private server is told.",
        ),
        Key::new(
            "objective",
            Quantity::Table(&OBJECTIVE),
            "What is expected, in figures.",
        )
        .also(&["objectives", "slo"])
        .otherwise("no figure is judged"),
        Key::new(
            "fault",
            Quantity::Tables(&FAULT),
            "The faults, in any order.",
        )
        .also(&["faults"]),
    ],
    "Keys that stand before the first section, and the sections themselves.",
);

/// What is asked of the pool.
pub(super) const LOAD: Table = Table::new(
    "[load]",
    &[
        Key::new(
            "rate",
            Quantity::Number(Bounds::AboveZero),
            "How many operations arrive. They do not wait for answers: like users, they keep coming.",
        )
        .required("rate = 400")
        .unit("operations per second")
        .also(&["rps", "ops", "rate_per_s"])
        .explain(outside::rate),
        Key::new("duration", DURATION, "How long load is offered.")
            .required("duration = \"20s\"")
            .also(&["time", "for"]),
        Key::new(
            "arrivals",
            Quantity::Word(&ARRIVALS),
            "How operations are spread over time.",
        )
        .default("poisson")
        .also(&["arrival"]),
        Key::new(
            "deadline",
            DURATION,
            "How long one operation may take from its start.",
        )
        .default("5s")
        .also(&["timeout"]),
        Key::new(
            "hold",
            DURATION_OR_ZERO,
            "Extra time that each operation keeps its connection. Shorter than `deadline` and than \
             `response`.",
        )
        .default("0s"),
        Key::new(
            "clean_checks",
            Quantity::Number(Bounds::Fraction),
            "The fraction of operations that check whether their connection came clean. After an \
             operation that was cancelled, panicked or failed, the next on its connection always does.",
        )
        .default("0.1")
        .explain(outside::clean_checks),
        Key::new(
            "cancel_within",
            DURATION,
            "Cancelled operations are dropped at some moment up to this.",
        )
        .default("8ms"),
        Key::new(
            "endings",
            Quantity::Table(&ENDINGS),
            "How operations end, in parts of the whole.",
        )
        .default("commit = 1"),
        Key::new(
            "workload",
            Quantity::Tables(&WORKLOAD),
            "What operations do; one entry per kind.",
        )
        .required("[[load.workload]]` followed by `kind = \"bank\"")
        .also(&["workloads", "op"]),
    ],
    "What is asked of the pool.",
);

const ARRIVALS: Words = Words {
    what: "arrival process",
    all: &[
        Word {
            word: "poisson",
            synonyms: &["exponential", "random"],
            doc: "at random, as from many users who know nothing of each other",
        },
        Word {
            word: "uniform",
            synonyms: &["constant", "fixed", "even"],
            doc: "with equal gaps",
        },
    ],
};

const WEIGHT: Quantity = Quantity::count(0);

/// How operations end.
const ENDINGS: Table = Table::new(
    "[load.endings]",
    &[
        Key::new("commit", WEIGHT, "They commit.")
            .default("0")
            .also(&["ok"]),
        Key::new("rollback", WEIGHT, "They roll back.")
            .default("0")
            .also(&["abort"]),
        Key::new("panic", WEIGHT, "They panic inside the transaction.").default("0"),
        Key::new(
            "cancel",
            WEIGHT,
            "Their future is dropped within `cancel_within`.",
        )
        .default("0")
        .also(&["cancelled", "drop"]),
    ],
    "How operations end, as weights: with `commit = 80` and `cancel = 20` every fifth is cancelled. \
     One of them is above zero.",
);

/// One kind of operation.
const WORKLOAD: Table = Table::new(
    "[[load.workload]]",
    &[
        Key::new(
            "kind",
            Quantity::Kind(&WORKLOADS),
            "What its operations do.",
        )
        .required("kind = \"bank\"")
        .also(&["type", "name"]),
        Key::new(
            "weight",
            WEIGHT,
            "How often it is chosen, beside the others. One of them is above zero.",
        )
        .default("1"),
    ],
    "What operations do. Each kind stands once.",
);

/// How the pool is configured.
pub(super) const POOL: Table = Table::new(
    "[pool]",
    &[
        Key::new("pool_size", Quantity::count(1), "Connections that are kept.")
            .default("5")
            .also(&["size", "min_size", "max_size", "max_connections"])
            .explain(outside::pool_size),
        Key::new(
            "max_overflow",
            Quantity::count(-1),
            "Connections beyond `pool_size`, opened under pressure and closed again; -1 for no limit.",
        )
        .default("10")
        .also(&["overflow"])
        .explain(outside::max_overflow),
        Key::new(
            "pool_timeout",
            DURATION,
            "How long one caller may wait for a connection.",
        )
        .default("30s")
        .also(&["timeout", "acquire_timeout"]),
        Key::new(
            "pre_ping",
            Quantity::Flag,
            "Whether an idle connection is asked for a sign of life before it is lent.",
        )
        .default("false")
        .also(&["pool_pre_ping"]),
    ],
    "The pool under test, in SQLAlchemy's words and with its defaults.",
);

/// What the private server is told.
pub(super) const POSTGRES: Table = Table {
    stray: Some(|word| format!("server settings stand in a table: `settings = {{ {word} = … }}`")),
    ..Table::new(
        "[postgres]",
        &[Key::new(
            "settings",
            Quantity::Settings,
            "Settings by name, as `postgresql.conf` would have them: text, numbers, `true` or `false`; such \
             as `{ max_connections = 60 }`. \
             Those by which the run finds, reaches and reads its server cannot be set.",
        )],
        "What the private server is told. A server that exists keeps its own settings.",
    )
};

/// What is expected, in figures.
pub(super) const OBJECTIVE: Table = Table::new(
    "[objective]",
    &[
        Key::new(
            "response",
            DURATION,
            "The 99th percentile of the response outside faults and recoveries; what fails or is \
             refused counts as never answered. 1 ms or more.",
        )
        .otherwise("not judged; recovery then needs every answer within 250 ms")
        .also(&["response_time", "latency", "target"]),
        Key::new(
            "recovery",
            DURATION,
            "How long after each fault its users may still see it: until the first second in which \
             every operation under way came back as planned within `response`, and at least half as \
             many were answered as arrived. A second of load must be left after each fault.",
        )
        .otherwise("measured, not judged")
        .also(&["recovery_time"]),
    ],
    "What is expected, in figures. One that could not be judged is no pass.",
);

/// What all faults have.
pub(super) const FAULT: Table = Table {
    named: Some("fault"),
    ..Table::new(
        "[[fault]]",
        &[
            Key::new(
                "name",
                Quantity::Label,
                "What the report calls it; each fault has its own.",
            )
            .required("name = \"slow network\""),
            Key::new("kind", Quantity::Kind(&FAULT_KINDS), "What happens.")
                .required("kind = \"latency\"")
                .also(&["type", "toxic"]),
            Key::new(
                "at",
                DURATION_OR_ZERO,
                "When it begins, from the start of the load.",
            )
            .required("at = \"5s\"")
            .also(&["start", "after"]),
        ],
        "What breaks, and when. Faults of one kind do not overlap, and each ends before the load does.",
    )
};
