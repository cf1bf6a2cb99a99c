//! From the text of a scenario file to a [`Scenario`], section by section.
//!
//! Each reader returns what it could make of its section, with defaults for the rest; whether
//! the whole is any good is decided once, by the problems that came together.

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof_load::{
    Arrivals, EndingWeights, LoadSpec, WRITE_SET_TABLES_MAX, WeightedWorkload, Workload,
};
use toml::de::DeTable;

use super::problem::{Problem, ScenarioError};
use super::rules::{self, PlacedFault, Places};
use super::section::{Choices, Found, Problems, Section, Synonyms};
use super::{
    BackendTarget, FaultKind, FaultPlan, ObjectiveSection, PoolSection, PostgresSection, Scenario,
    sha256_hex,
};

/// Where each key belongs, for those who put it under the wrong header.
const HOMES: &[(&str, &[&str])] = &[
    (
        "[pool]",
        &["pool_size", "max_overflow", "pool_timeout", "pre_ping"],
    ),
    ("[postgres]", &["settings"]),
    (
        "[load]",
        &[
            "rate",
            "arrivals",
            "duration",
            "deadline",
            "hold",
            "clean_checks",
            "cancel_within",
            "endings",
        ],
    ),
    (
        "[[load.workload]]",
        &["accounts", "opening_balance", "tables", "weight"],
    ),
    ("[objective]", &["response", "recovery"]),
    ("the top of the file", &["title"]),
];

const POOL_SYNONYMS: Synonyms = &[
    ("size", "pool_size"),
    ("min_size", "pool_size"),
    ("max_size", "pool_size"),
    ("max_connections", "pool_size"),
    ("overflow", "max_overflow"),
    ("timeout", "pool_timeout"),
    ("acquire_timeout", "pool_timeout"),
    ("pool_pre_ping", "pre_ping"),
];

const LOAD_SYNONYMS: Synonyms = &[
    ("rps", "rate"),
    ("ops", "rate"),
    ("rate_per_s", "rate"),
    ("arrival", "arrivals"),
    ("time", "duration"),
    ("for", "duration"),
    ("timeout", "deadline"),
    ("workloads", "workload"),
    ("op", "workload"),
];

const FAULT_SYNONYMS: Synonyms = &[
    ("type", "kind"),
    ("toxic", "kind"),
    ("duration", "for"),
    ("start", "at"),
    ("after", "at"),
    ("delay", "latency"),
];

const KINDS: Choices<&str> = Choices {
    words: &[
        ("latency", "latency"),
        ("bandwidth", "bandwidth"),
        ("silence", "silence"),
        ("down", "down"),
        ("reset", "reset"),
        ("terminate-backend", "terminate-backend"),
    ],
    synonyms: &[
        ("reset_peer", "reset"),
        ("timeout", "silence"),
        ("blackhole", "silence"),
        ("partition", "silence"),
        ("disable", "down"),
        ("disconnect", "reset"),
        ("delay", "latency"),
        ("slow", "latency"),
        ("stall", "bandwidth"),
        ("kill", "terminate-backend"),
        ("kill-backend", "terminate-backend"),
        ("terminate", "terminate-backend"),
    ],
};

/// The keys that only some kinds of fault have.
const KIND_KEYS: &[(&str, &str)] = &[
    ("latency", "latency"),
    ("jitter", "latency"),
    ("rate", "bandwidth"),
    ("commits_in_flight", "reset"),
    ("target", "terminate-backend"),
];

/// Settings of the private server that the run itself decides.
const RESERVED_SETTINGS: &[&str] = &[
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
];

pub(super) fn scenario(file_name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let problems = Problems::default();
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        let message = format!("not valid TOML: {}", error.message());
        problems.add(Problem::new(span, message, "here"));
    }
    let broken_syntax = !problems.is_empty();
    let root = Section::new(
        "the scenario".to_owned(),
        0..0,
        document.get_ref(),
        &problems,
    );
    let scenario = whole(&root, file_name, text);
    let mut problems = problems.into_vec();
    if broken_syntax {
        // What the parser could not read must not be reported as missing.
        problems.retain(|p| p.message.starts_with("not valid TOML"));
    }
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(scenario),
        _ => Err(ScenarioError {
            file_name: file_name.to_owned(),
            source_text: text.to_owned(),
            problems,
        }),
    }
}

fn whole(root: &Section<'_>, file_name: &str, text: &str) -> Option<Scenario> {
    root.synonyms(&[
        ("faults", "fault"),
        ("objectives", "objective"),
        ("slo", "objective"),
    ]);
    root.require("name", "name = \"my-scenario\"");
    root.require("load", "[load]");
    let mut places = Places::default();
    let name = scenario_name(root);
    let title = root.string("title");
    let pool = root.table("pool").map(|s| pool(&s, &mut places));
    let postgres = root.table("postgres").map(|s| postgres(&s));
    let load = root.table("load").and_then(|s| load(&s, &mut places));
    let objective = root.table("objective").map(|s| objective(&s, &mut places));
    let faults: Vec<PlacedFault> = root
        .tables("fault")
        .iter()
        .filter_map(|section| fault(section))
        .collect();
    root.finish(home_of);

    let name = name?;
    let mut scenario = Scenario {
        title: title.map_or_else(|| name.clone(), |title| title.value),
        name,
        pool: pool.unwrap_or_default(),
        postgres: postgres.unwrap_or_default(),
        load: load?,
        objective: objective.unwrap_or_default(),
        faults: faults.iter().map(|f| f.plan.clone()).collect(),
        remarks: Vec::new(),
        file_name: file_name.to_owned(),
        source: text.to_owned(),
        sha256: sha256_hex(text),
    };
    rules::check(root, &scenario, &places, &faults);
    scenario.remarks = rules::remarks(&scenario);
    scenario.faults.sort_by_key(|fault| fault.at);
    Some(scenario)
}

fn scenario_name(root: &Section<'_>) -> Option<String> {
    let name = root.string("name")?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let ok = name.value.chars().all(plain)
        && name.value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.value.len() <= 64
        && name.value != "latest";
    if !ok {
        root.add(
            Problem::new(
                name.span,
                format!("{:?} cannot be a scenario's name", name.value),
                "names a folder of reports",
            )
            .help(
                "use up to 64 lowercase letters, digits, `-` and `_`; `latest` is taken".to_owned(),
            ),
        );
        return None;
    }
    Some(name.value)
}

fn pool(section: &Section<'_>, places: &mut Places) -> PoolSection {
    let defaults = PoolSection::default();
    section.synonyms(POOL_SYNONYMS);
    let pool_size = pool_size(section);
    let max_overflow = section.integer("max_overflow", -1..=i64::from(i32::MAX));
    let pool_timeout = section.positive_duration("pool_timeout");
    let pre_ping = section.boolean("pre_ping");
    section.finish(home_of);
    places.pool_unread = section.count_of(&["pool_size", "max_overflow"])
        > usize::from(pool_size.is_some()) + usize::from(max_overflow.is_some());
    PoolSection {
        pool_size: pool_size.unwrap_or(defaults.pool_size),
        max_overflow: max_overflow.map_or(defaults.max_overflow, |f| {
            i32::try_from(f.value).expect("bug: the range is within i32")
        }),
        pool_timeout: pool_timeout.map_or(defaults.pool_timeout, |f| f.value),
        pre_ping: pre_ping.map_or(defaults.pre_ping, |f| f.value),
    }
}

fn pool_size(section: &Section<'_>) -> Option<u32> {
    let found = section.integer("pool_size", 0..=i64::from(i32::MAX))?;
    if found.value == 0 {
        section.add(
            Problem::new(
                found.span,
                "`pool_size` is 0".to_owned(),
                "SQLAlchemy reads this as: no limit",
            )
            .help(
                "a pool keeps at least 1 connection; for no limit on connections beyond \
                 `pool_size`, say `max_overflow = -1`"
                    .to_owned(),
            ),
        );
        return None;
    }
    u32::try_from(found.value).ok()
}

fn postgres(section: &Section<'_>) -> PostgresSection {
    let mut settings = BTreeMap::new();
    if let Some(table) = section.table("settings") {
        for (name, found) in table.scalars() {
            if let Some(problem) = setting_problem(&name, &found) {
                section.add(problem);
            }
            settings.insert(name, found.value);
        }
    }
    section.finish(|word| {
        home_of(word).or_else(|| {
            Some(format!(
                "server settings stand in a table: `settings = {{ {word} = … }}`"
            ))
        })
    });
    PostgresSection { settings }
}

fn setting_problem(name: &str, found: &Found<String>) -> Option<Problem> {
    if RESERVED_SETTINGS.contains(&name) {
        let message = format!("the run decides `{name}` itself");
        return Some(
            Problem::new(found.span.clone(), message, "cannot be set")
                .help("the server is private to the run: remove this setting".to_owned()),
        );
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if name.is_empty() || !name.chars().all(plain) {
        let message = format!("{name:?} is not the name of a server setting");
        return Some(Problem::new(found.span.clone(), message, "here"));
    }
    if found.value.chars().any(char::is_control) {
        let message = format!("the value of `{name}` contains a control character");
        return Some(Problem::new(found.span.clone(), message, "here"));
    }
    None
}

fn load(section: &Section<'_>, places: &mut Places) -> Option<LoadSpec> {
    section.synonyms(LOAD_SYNONYMS);
    section.require("rate", "rate = 400");
    section.require("duration", "duration = \"20s\"");
    let rate = section
        .number("rate")
        .filter(|found| above_zero(section, found));
    let arrivals = section.word("arrivals", "arrival process", &ARRIVALS);
    places.duration = section.positive_duration("duration");
    let deadline = section.positive_duration("deadline");
    let hold = section.duration("hold");
    let clean_checks = section
        .number("clean_checks")
        .filter(|f| fraction(section, f));
    let cancel_within = section.positive_duration("cancel_within");
    let endings = section.table("endings").map(|s| endings(&s));
    let workloads = workloads(section);
    section.finish(home_of);
    places.rate = rate.clone();
    places.deadline = deadline.clone();
    places.hold = hold.clone();
    Some(LoadSpec {
        rate_per_s: rate?.value,
        arrivals: arrivals.map_or(Arrivals::Poisson, |f| f.value),
        duration: places.duration.as_ref()?.value,
        deadline: deadline.map_or(Duration::from_secs(5), |f| f.value),
        hold: hold.map_or(Duration::ZERO, |f| f.value),
        clean_checks: clean_checks.map_or(0.1, |f| f.value),
        cancel_within: cancel_within.map_or(Duration::from_millis(8), |f| f.value),
        endings: endings.unwrap_or(ALL_COMMIT),
        workloads,
    })
}

const ALL_COMMIT: EndingWeights = EndingWeights {
    commit: 1,
    rollback: 0,
    panic: 0,
    cancel: 0,
};

const ARRIVALS: Choices<Arrivals> = Choices {
    words: &[
        ("poisson", Arrivals::Poisson),
        ("uniform", Arrivals::Uniform),
    ],
    synonyms: &[
        ("exponential", "poisson"),
        ("random", "poisson"),
        ("constant", "uniform"),
        ("fixed", "uniform"),
        ("even", "uniform"),
    ],
};

fn above_zero(section: &Section<'_>, found: &Found<f64>) -> bool {
    if found.value > 0.0 {
        return true;
    }
    let message = match found.value < 0.0 {
        true => "`rate` is negative",
        false => "`rate` is zero: nothing would be asked of the pool",
    };
    section.add(
        Problem::new(
            found.span.clone(),
            message.to_owned(),
            "operations per second",
        )
        .help("say how many operations arrive in a second, such as `rate = 400`".to_owned()),
    );
    false
}

fn fraction(section: &Section<'_>, found: &Found<f64>) -> bool {
    if (0.0..=1.0).contains(&found.value) {
        return true;
    }
    let message = "`clean_checks` is a fraction between 0 and 1".to_owned();
    let mut problem = Problem::new(found.span.clone(), message, "out of range");
    if found.value > 1.0 && found.value <= 100.0 {
        problem = problem.help(format!(
            "for {} % write `clean_checks = {}`",
            found.value,
            found.value / 100.0
        ));
    }
    section.add(problem);
    false
}

fn endings(section: &Section<'_>) -> EndingWeights {
    section.synonyms(&[
        ("ok", "commit"),
        ("abort", "rollback"),
        ("cancelled", "cancel"),
        ("drop", "cancel"),
    ]);
    let weight = |key| section.count(key, 0).map_or(0, |found| found.value);
    let weights = EndingWeights {
        commit: weight("commit"),
        rollback: weight("rollback"),
        panic: weight("panic"),
        cancel: weight("cancel"),
    };
    section.finish(|_| None);
    let present = ["commit", "rollback", "panic", "cancel"];
    let EndingWeights {
        commit,
        rollback,
        panic,
        cancel,
    } = weights;
    if [commit, rollback, panic, cancel] == [0; 4] && section.sound(&present) {
        section.add(
            Problem::new(
                section.span(),
                "all weights in `endings` are zero: no operation could end".to_owned(),
                "needs one weight above zero",
            )
            .help("for commits only write `endings = { commit = 1 }`".to_owned()),
        );
    }
    weights
}

fn workloads(section: &Section<'_>) -> Vec<WeightedWorkload> {
    let tables = section.tables("workload");
    if tables.is_empty() && !section.has("workload") {
        section.require(
            "workload",
            "[[load.workload]]` followed by `kind = \"bank\"",
        );
    }
    let workloads: Vec<_> = tables.iter().filter_map(workload).collect();
    for (index, (table, this)) in tables.iter().zip(&workloads).enumerate() {
        let name = this.workload.name();
        if workloads.len() == tables.len()
            && let Some(first) = workloads[..index]
                .iter()
                .position(|w| w.workload.name() == name)
        {
            section.add(
                Problem::new(
                    table.span(),
                    format!("there are two workloads of kind `{name}`"),
                    "again here",
                )
                .related(tables[first].span(), "first here")
                .help("each kind stands once; `weight` says how often it is chosen".to_owned()),
            );
        }
    }
    if !workloads.is_empty()
        && workloads.len() == tables.len()
        && workloads.iter().all(|w| w.weight == 0)
        && tables.iter().all(|t| t.sound(&["weight"]))
    {
        section.add(Problem::new(
            tables[0].span(),
            "the weights of all workloads are zero: no operation could be chosen".to_owned(),
            "needs a `weight` above zero",
        ));
    }
    workloads
}

const WORKLOADS: Choices<&str> = Choices {
    words: &[("bank", "bank"), ("write-set", "write-set")],
    synonyms: &[
        ("transfer", "bank"),
        ("writes", "write-set"),
        ("writeset", "write-set"),
    ],
};

fn workload(section: &Section<'_>) -> Option<WeightedWorkload> {
    section.synonyms(&[
        ("type", "kind"),
        ("name", "kind"),
        ("balance", "opening_balance"),
    ]);
    section.require("kind", "kind = \"bank\"");
    let kind = section.word("kind", "workload", &WORKLOADS);
    let weight = section.count("weight", 0).map_or(1, |found| found.value);
    // Keys of an unknown kind cannot be judged.
    let kind = kind?.value;
    let workload = if kind == "bank" {
        Workload::Bank {
            accounts: section.count("accounts", 2).map_or(64, |f| f.value),
            opening_balance: section
                .integer("opening_balance", 0..=1_000_000_000_000)
                .map_or(1000, |f| f.value),
        }
    } else {
        let tables = section
            .integer("tables", 1..=i64::from(WRITE_SET_TABLES_MAX))
            .map_or(3, |f| f.value);
        Workload::WriteSet {
            tables: u32::try_from(tables).expect("bug: the range is within u32"),
        }
    };
    section.finish(|word| match word {
        "accounts" | "opening_balance" => Some(format!("`{word}` belongs to the workload `bank`")),
        "tables" => Some("`tables` belongs to the workload `write-set`".to_owned()),
        _ => home_of(word),
    });
    Some(WeightedWorkload { workload, weight })
}

fn objective(section: &Section<'_>, places: &mut Places) -> ObjectiveSection {
    let defaults = ObjectiveSection::default();
    section.synonyms(&[("response_time", "response"), ("recovery_time", "recovery")]);
    let response = section.positive_duration("response");
    let recovery = section.positive_duration("recovery");
    section.finish(home_of);
    places.response = response.clone();
    ObjectiveSection {
        response: response.map_or(defaults.response, |f| f.value),
        recovery: recovery.map(|f| f.value),
    }
}

fn fault(section: &Section<'_>) -> Option<PlacedFault> {
    section.synonyms(FAULT_SYNONYMS);
    section.require("name", "name = \"slow network\"");
    section.require("kind", "kind = \"latency\"");
    section.require("at", "at = \"5s\"");
    let name = section.string("name");
    let kind = section.word("kind", "fault", &KINDS);
    let at = section.duration("at");
    let lasts = section.positive_duration("for");
    let kind_word = kind.as_ref()?.value;
    let parameters = fault_kind(section, kind_word);
    section.finish(|word| {
        let (_, owner) = KIND_KEYS.iter().find(|(key, _)| *key == word)?;
        Some(format!(
            "`{word}` belongs to faults of kind `{owner}`; this one is `{kind_word}`"
        ))
    });
    let windowed = matches!(kind_word, "latency" | "bandwidth" | "silence" | "down");
    if !windowed && section.has("for") {
        section.add(
            Problem::new(
                lasts
                    .as_ref()
                    .map_or_else(|| section.span(), |f| f.span.clone()),
                format!("a fault of kind `{kind_word}` happens at one moment"),
                "has no duration",
            )
            .help("remove `for`".to_owned()),
        );
    }
    if windowed {
        section.require("for", "for = \"3s\"");
        lasts.as_ref()?;
    }
    let (name, at) = (name?, at?);
    Some(PlacedFault {
        plan: FaultPlan {
            name: name.value,
            kind: parameters?,
            at: at.value,
            duration: if windowed {
                lasts.as_ref().map(|f| f.value)
            } else {
                None
            },
        },
        name_span: name.span,
        at_span: at.span,
        for_span: lasts.map(|f| f.span),
        span: section.span(),
    })
}

const TARGETS: Choices<BackendTarget> = Choices {
    words: &[
        ("in-transaction", BackendTarget::InTransaction),
        ("idle", BackendTarget::Idle),
        ("any", BackendTarget::Any),
    ],
    synonyms: &[
        ("transaction", "in-transaction"),
        ("idle in transaction", "in-transaction"),
        ("active", "in-transaction"),
        ("random", "any"),
    ],
};

fn fault_kind(section: &Section<'_>, word: &str) -> Option<FaultKind> {
    match word {
        "latency" => latency(section),
        "bandwidth" => {
            section.require("rate", "rate = 100");
            let rate_kb_s = section.count("rate", 0)?.value;
            Some(FaultKind::Bandwidth { rate_kb_s })
        }
        "silence" => Some(FaultKind::Silence),
        "down" => Some(FaultKind::Down),
        "reset" => {
            let commits = section.count("commits_in_flight", 0);
            Some(FaultKind::Reset {
                commits_in_flight: commits.map_or(0, |f| f.value),
            })
        }
        _ => {
            let target = section.word("target", "target", &TARGETS);
            Some(FaultKind::TerminateBackend {
                target: target.map_or(BackendTarget::Any, |f| f.value),
            })
        }
    }
}

fn latency(section: &Section<'_>) -> Option<FaultKind> {
    section.require("latency", "latency = \"40ms\"");
    let latency = section.positive_duration("latency");
    let jitter = section.duration("jitter");
    let latency = latency?;
    if let Some(jitter) = &jitter
        && jitter.value > latency.value
    {
        section.add(
            Problem::new(
                jitter.span.clone(),
                "`jitter` is larger than `latency`".to_owned(),
                "would make some answers early",
            )
            .related(latency.span.clone(), "the latency")
            .help("jitter is taken off as often as it is added".to_owned()),
        );
    }
    Some(FaultKind::Latency {
        latency: latency.value,
        jitter: jitter.map_or(Duration::ZERO, |f| f.value),
    })
}

/// Says where a key belongs, if it belongs somewhere else.
fn home_of(word: &str) -> Option<String> {
    let (home, _) = HOMES.iter().find(|(_, keys)| keys.contains(&word))?;
    Some(format!("`{word}` belongs under {home}"))
}
