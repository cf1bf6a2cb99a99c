//! From the text of a scenario file to a [`Scenario`], section by section.
//!
//! Each reader returns what it could make of its section, with defaults for the rest; whether
//! the whole is any good is decided once, by the problems that came together.

use std::collections::BTreeMap;

use poolproof_testbed::{RefusedSetting, SettingError, check_setting};
use toml::Spanned;
use toml::de::DeTable;

use super::faults::fault;
use super::load::load;
use super::problem::{Problem, ScenarioError};
use super::rules::{self, PlacedFault, Places};
use super::section::{Found, Problems, Section, Synonyms};
use super::{ObjectiveSection, PoolSection, PostgresSection, Scenario, sha256_hex, syntax};

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

pub(super) fn scenario(file_name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let problems = Problems::default();
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        let message = format!("not valid TOML: {}", error.message());
        let help = syntax::advice(text, span.start);
        let mut problem = Problem::new(span, message, "here");
        problem.help = help;
        problems.add(problem);
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
    let before = root.problem_count();
    let faults = root.tables("fault");
    places.no_fault = faults.is_empty() && root.problem_count() == before;
    let faults: Vec<PlacedFault> = faults.into_iter().filter_map(fault).collect();
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
    let before = section.problem_count();
    let pool_size = pool_size(section);
    let max_overflow = max_overflow(section);
    places.pool_unread = section.problem_count() > before;
    let pool_timeout = section.positive_duration("pool_timeout");
    let pre_ping = section.boolean("pre_ping");
    section.finish(home_of);
    PoolSection {
        pool_size: pool_size.unwrap_or(defaults.pool_size),
        max_overflow: max_overflow.unwrap_or(defaults.max_overflow),
        pool_timeout: pool_timeout.map_or(defaults.pool_timeout, |f| f.value),
        pre_ping: pre_ping.map_or(defaults.pre_ping, |f| f.value),
    }
}

fn pool_size(section: &Section<'_>) -> Option<u32> {
    let found = section.integer("pool_size", i64::MIN..=i64::from(i32::MAX))?;
    let problem = match found.value {
        1.. => return u32::try_from(found.value).ok(),
        0 => Problem::new(
            found.span,
            "`pool_size` is 0".to_owned(),
            "SQLAlchemy reads this as: no limit",
        )
        .help(
            "a pool keeps at least 1 connection; for no limit on connections beyond `pool_size`, \
             say `max_overflow = -1`"
                .to_owned(),
        ),
        _ => Problem::new(
            found.span,
            "`pool_size` is negative".to_owned(),
            "must be 1 or more",
        )
        .help("`pool_size` is the number of connections that are kept".to_owned()),
    };
    section.add(problem);
    None
}

fn max_overflow(section: &Section<'_>) -> Option<i32> {
    let found = section.integer("max_overflow", i64::MIN..=i64::from(i32::MAX))?;
    if found.value >= -1 {
        return i32::try_from(found.value).ok();
    }
    section.add(
        Problem::new(
            found.span,
            format!("`max_overflow` is {}", found.value),
            "must be -1 or more",
        )
        .help("0 allows no connection beyond `pool_size`, -1 any number of them".to_owned()),
    );
    None
}

fn postgres(section: &Section<'_>) -> PostgresSection {
    let mut settings = BTreeMap::new();
    if let Some(table) = section.table("settings") {
        for (name, found) in table.scalars() {
            if let Some(problem) = setting_problem(&name, &found) {
                section.add(problem);
            }
            let span = found.span.clone();
            // The server takes names in any case for the same.
            if settings
                .insert(name.to_ascii_lowercase(), found.value)
                .is_some()
            {
                let message = format!("`{name}` is set twice");
                section.add(Problem::new(span, message, "again here, in another case"));
            }
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
    let span = found.span.clone();
    match check_setting(name, &found.value) {
        Err(SettingError::Reserved { .. }) => Some(
            Problem::new(
                span,
                format!("the run decides `{name}` itself"),
                "cannot be set",
            )
            .help("the server is private to the run: remove this setting".to_owned()),
        ),
        Err(SettingError::Name { .. }) => {
            let message = format!("{name:?} is not the name of a server setting");
            let help = "names are made of letters, digits, `_` and `.`, as in postgresql.conf";
            Some(Problem::new(span, message, "here").help(help.to_owned()))
        }
        _ if found.value.chars().any(char::is_control) => {
            let message = format!("the value of `{name}` contains a control character");
            let help = "a value stands on one line, as in postgresql.conf";
            Some(Problem::new(span, message, "here").help(help.to_owned()))
        }
        _ => None,
    }
}

/// Returns the scenario's own account of settings that the server did not accept.
pub(super) fn refused(scenario: &Scenario, refused: &[RefusedSetting]) -> ScenarioError {
    let document = DeTable::parse_recoverable(&scenario.source).0;
    let table = document.get_ref().get("postgres").map(Spanned::get_ref);
    let settings = table.and_then(|table| table.get("settings"));
    let settings = settings.and_then(|found| found.get_ref().as_table());
    let place = |name: &str| {
        let found = |key: &str| key.eq_ignore_ascii_case(name);
        let (key, value) = settings?.iter().find(|(key, _)| found(key.get_ref()))?;
        Some(key.span().start..value.span().end)
    };
    let problem = |setting: &RefusedSetting| {
        let message = format!("the server does not accept it: {}", setting.message);
        Problem::new(
            place(&setting.name).unwrap_or(0..0),
            message,
            "this setting",
        )
    };
    ScenarioError {
        file_name: scenario.file_name.clone(),
        source_text: scenario.source.clone(),
        problems: refused.iter().map(problem).collect(),
    }
}

fn objective(section: &Section<'_>, places: &mut Places) -> ObjectiveSection {
    section.synonyms(&[("response_time", "response"), ("recovery_time", "recovery")]);
    let response = section.positive_duration("response");
    let recovery = section.positive_duration("recovery");
    section.finish(home_of);
    places.response_unread = section.has("response") && response.is_none();
    places.response = response.clone();
    places.recovery = recovery.clone();
    ObjectiveSection {
        response: response.map(|f| f.value),
        recovery: recovery.map(|f| f.value),
    }
}

/// Says where a key belongs, if it belongs somewhere else.
pub(super) fn home_of(word: &str) -> Option<String> {
    let (home, _) = HOMES.iter().find(|(_, keys)| keys.contains(&word))?;
    Some(format!("`{word}` belongs under {home}"))
}
