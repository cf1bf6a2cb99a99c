//! What the README says of settings, metrics, kinds of errors and tests is so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use poolproof_pool::{Config, ErrorKind, METRICS};

/// The cells of the table that begins with this header, backticks stripped.
fn table(header: &str) -> Vec<Vec<String>> {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README is there");
    let rows: Vec<Vec<String>> = readme
        .lines()
        .skip_while(|line| !line.starts_with(header))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table begins with {header}");
    rows
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_settings_in_the_readme_are_those_of_config_with_its_defaults() {
    let config = format!("{:#?}", Config::default());
    // An option takes three lines; here it is one again.
    let config = config
        .replace("(\n        ", "(")
        .replace(",\n    ),", "),");
    let fields: Vec<(String, String)> = config
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.trim_end_matches(',').to_owned()))
        .collect();
    let told: Vec<(String, String)> = table("| field | default |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(told, fields);
}

#[test]
fn the_metrics_in_the_readme_are_those_that_are_emitted() {
    let emitted: Vec<Vec<String>> = METRICS
        .iter()
        .map(|metric| {
            let labels = metric.labels.join(", ");
            let kind = metric.kind.as_str();
            [metric.name, kind, metric.unit, &labels, metric.help]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    assert_eq!(table("| metric | kind |"), emitted);
}

#[test]
fn the_kinds_of_errors_in_the_readme_are_those_of_the_code() {
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for kind in ErrorKind::ALL {
        let group = kinds.entry(kind.category().to_string()).or_default();
        group.insert(kind.to_string());
    }
    let told: BTreeMap<String, BTreeSet<String>> = table("| category | kinds |")
        .into_iter()
        .map(|row| {
            let kinds = row[1].split(", ").map(str::to_owned).collect();
            (row[0].clone(), kinds)
        })
        .collect();
    assert_eq!(told, kinds);
}

/// Every test that the README names exists, and every test that carries the number of a failure class is
/// named in that class's row.
#[test]
fn the_tests_in_the_readme_exist_and_none_with_a_number_is_missing() {
    let tests = tests_below(&[root().join("src"), root().join("tests")]);
    let classes = table("| class | tests |");
    for row in classes.iter().chain(&table("| rule | here | tests |")) {
        for named in row[row.len() - 1].split_whitespace() {
            assert!(
                tests.contains(named),
                "{}: there is no test {named}",
                row[0]
            );
        }
    }
    let numbers: Vec<&str> = classes.iter().map(|row| number(&row[0])).collect();
    let expected: Vec<String> = (1..=29).map(|class| format!("F{class}")).collect();
    assert_eq!(numbers, expected);
    let rules = table("| rule | here | tests |");
    let rules: Vec<&str> = rules.iter().map(|row| number(&row[0])).collect();
    let expected: Vec<String> = (1..=40).map(|rule| rule.to_string()).collect();
    assert_eq!(rules, expected);
    for test in &tests {
        for part in test.split('_').take_while(|part| is_class(part)) {
            let row = classes
                .iter()
                .find(|row| number(&row[0]).eq_ignore_ascii_case(part));
            let row = row.unwrap_or_else(|| panic!("{test}: there is no class {part}"));
            assert!(
                row[1].split_whitespace().any(|named| named == test),
                "{test} is not in the row of {part}"
            );
        }
    }
    for row in &classes {
        assert!(!row[1].is_empty(), "{} has no test", row[0]);
    }
}

fn number(cell: &str) -> &str {
    cell.split(' ').next().unwrap_or_default()
}

fn is_class(part: &str) -> bool {
    part.strip_prefix('f')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The names of all tests in these directories.
fn tests_below(directories: &[PathBuf]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut open: Vec<PathBuf> = directories.to_vec();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("the folder can be listed") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                tests.extend(tests_in(&path));
            }
        }
    }
    tests
}

fn tests_in(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a test file is UTF-8");
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, name)) = line.split_once("fn ")
            && is_test
        {
            tests.push(name.split('(').next().unwrap_or_default().to_owned());
            is_test = false;
        }
    }
    tests
}
