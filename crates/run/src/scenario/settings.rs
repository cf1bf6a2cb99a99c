//! The server settings of a scenario: names that Postgres knows, not we.

use std::collections::BTreeMap;
use std::ops::Range;

use poolproof_testbed::{RefusedSetting, SettingError, check_setting};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Scenario;
use super::problem::{Problem, Problems, ScenarioError};
use super::quantity::{whole, wrong_type};

/// Reads the settings, each as text.
pub(super) fn read(table: &DeTable<'_>, problems: &Problems) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.get_ref());
    for (name, found) in entries {
        let span = name.span().start..found.span().end;
        let name = name.get_ref().as_ref();
        let Some(value) = text(found.get_ref()) else {
            let wanted = "a string, number or boolean";
            problems.add(wrong_type(name, wanted, found, None));
            continue;
        };
        if let Some(problem) = problem(name, &value, span.clone()) {
            problems.add(problem);
        }
        // The server takes names in any case for the same.
        if settings.insert(name.to_ascii_lowercase(), value).is_some() {
            let message = format!("`{name}` is set twice");
            problems.add(Problem::new(span, message, "again here, in another case"));
        }
    }
    settings
}

fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(n) => whole(n).map(|n| n.to_string()),
        DeValue::Float(n) => Some(n.as_str().to_owned()),
        DeValue::Boolean(true) => Some("on".to_owned()),
        DeValue::Boolean(false) => Some("off".to_owned()),
        _ => None,
    }
}

/// Says why a run does not pass such a setting on.
fn problem(name: &str, value: &str, span: Range<usize>) -> Option<Problem> {
    match check_setting(name, value) {
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
        _ if value.chars().any(char::is_control) => {
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
