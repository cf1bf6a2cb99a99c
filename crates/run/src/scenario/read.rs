//! From the text of a scenario file to a [`Scenario`], section by section.
//!
//! Each reader returns what it could make of its section, with defaults for the rest; whether
//! the whole is any good is decided once, by the problems that came together.

use toml::de::DeTable;

use super::faults::fault;
use super::load::load;
use super::problem::{Problem, Problems, ScenarioError};
use super::rules::{self, PlacedFault, Places};
use super::table::{POOL, ROOT};
use super::values::Values;
use super::{
    ObjectiveSection, PoolSection, PostgresSection, Scenario, section, sha256_hex, syntax,
};

pub(super) fn scenario(file_name: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let problems = Problems::default();
    let (document, syntax) = DeTable::parse_recoverable(text);
    let broken_syntax = !syntax.is_empty();
    for error in syntax {
        let span = error.span().unwrap_or(0..0);
        let message = format!("not valid TOML: {}", error.message());
        let help = syntax::advice(text, span.start);
        let mut problem = Problem::new(span, message, "here");
        problem.help = help;
        problems.add(problem);
    }
    let root = section::read(&ROOT, 0..0, document.get_ref(), &problems);
    let scenario = whole(&root, file_name, text, &problems);
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

fn whole(root: &Values, file_name: &str, text: &str, problems: &Problems) -> Option<Scenario> {
    let mut places = Places::default();
    let pool = pool(&root.table("pool"), &mut places);
    let load = root
        .given("load")
        .and_then(|found| load(&found.value, &mut places, problems));
    let objective = objective(&root.table("objective"), &mut places);
    let faults = root.tables("fault");
    places.no_fault = faults.is_empty() && !root.unread("fault");
    let faults: Vec<PlacedFault> = faults
        .iter()
        .filter_map(|values| fault(values, problems))
        .collect();

    let name = root.given::<String>("name")?.value;
    let mut scenario = Scenario {
        title: root
            .given("title")
            .map_or_else(|| name.clone(), |f| f.value),
        name,
        pool,
        postgres: postgres(&root.table("postgres")),
        load: load?,
        objective,
        faults: faults.iter().map(|f| f.plan.clone()).collect(),
        remarks: Vec::new(),
        file_name: file_name.to_owned(),
        source: text.to_owned(),
        sha256: sha256_hex(text),
    };
    rules::check(problems, &scenario, &places, &faults);
    scenario.remarks = rules::remarks(&scenario);
    scenario.faults.sort_by_key(|fault| fault.at);
    Some(scenario)
}

/// Returns the pool of a file that says nothing of it.
pub(super) fn default_pool() -> PoolSection {
    pool(&Values::absent(&POOL), &mut Places::default())
}

fn pool(values: &Values, places: &mut Places) -> PoolSection {
    places.pool_unread = values.unread("pool_size") || values.unread("max_overflow");
    PoolSection {
        pool_size: values.get("pool_size"),
        max_overflow: values.get("max_overflow"),
        pool_timeout: values.get("pool_timeout"),
        pre_ping: values.get("pre_ping"),
    }
}

fn postgres(values: &Values) -> PostgresSection {
    let settings = values.given("settings");
    PostgresSection {
        settings: settings.map_or_else(Default::default, |found| found.value),
    }
}

fn objective(values: &Values, places: &mut Places) -> ObjectiveSection {
    places.response_unread = values.unread("response");
    places.response = values.given("response");
    places.recovery = values.given("recovery");
    ObjectiveSection {
        response: places.response.as_ref().map(|found| found.value),
        recovery: places.recovery.as_ref().map(|found| found.value),
    }
}
