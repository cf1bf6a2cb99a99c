//! What the README says of settings, kinds of errors and tests is so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use poolproof_pool::{Config, ErrorKind};

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

/// Every failure class has its row, which names a test that carries its number.
#[test]
fn every_failure_class_is_shown_by_a_test_with_its_number() {
    let tests = tests();
    let classes = table("| class | tests |");
    let numbers: Vec<&str> = classes.iter().map(|row| number(&row[0])).collect();
    let expected: Vec<String> = (1..=29).map(|class| format!("F{class}")).collect();
    assert_eq!(numbers, expected);
    for row in &classes {
        assert_shown(row, &[&number(&row[0]).to_lowercase()], &tests);
    }
    for test in tests.keys() {
        for class in test.split('_').take_while(|part| is_class(part)) {
            let row = classes
                .iter()
                .find(|row| number(&row[0]).eq_ignore_ascii_case(class));
            assert_listed(test, class, row);
        }
    }
}

/// Every rule has its row, which says that it is kept and names a test that carries its number, or that it
/// is departed from and why.
#[test]
fn every_rule_is_kept_and_shown_by_a_test_with_its_number_or_departed_from_with_the_reason() {
    let tests = tests();
    let rules = table("| rule | here | tests |");
    let numbers: Vec<&str> = rules.iter().map(|row| number(&row[0])).collect();
    let expected: Vec<String> = (1..=40).map(|rule| rule.to_string()).collect();
    assert_eq!(numbers, expected);
    for row in &rules {
        let (rule, here) = (number(&row[0]), &row[1]);
        if here.starts_with("**departed**") {
            let says_why = here.contains("because ");
            assert!(says_why, "rule {rule} is departed from without a reason");
            assert_exist(row, &tests);
        } else {
            assert!(here.starts_with("kept"), "rule {rule}: {here}");
            assert_shown(row, &["rule", rule], &tests);
        }
    }
    for test in tests.keys() {
        let words: Vec<&str> = test.split('_').collect();
        for pair in words.chunks(2).take_while(|pair| pair[0] == "rule") {
            let row = rules.iter().find(|row| number(&row[0]) == pair[1]);
            assert_listed(test, pair[1], row);
        }
    }
}

/// Every promise behind a pooler that pools transactions has its test, and every test there its promise.
#[test]
fn every_promise_behind_a_pooler_is_shown_by_a_test() {
    let mut told = BTreeSet::new();
    for row in table("| promise | tests |") {
        told.extend(named(&row).map(str::to_owned));
        assert!(named(&row).count() > 0, "{row:?}");
    }
    let file = root().join("tests/pgbouncer_transaction.rs");
    let tests: BTreeSet<String> = tests_in(&file).into_keys().collect();
    assert_eq!(told, tests);
}

/// What a row names exists.
fn assert_exist(row: &[String], tests: &Tests) {
    for test in named(row) {
        assert!(
            tests.contains_key(test),
            "{}: there is no test {test}",
            row[0]
        );
    }
}

/// What a row names exists, and one of it carries these words in its name or description.
fn assert_shown(row: &[String], words: &[&str], tests: &Tests) {
    assert_exist(row, tests);
    let carries = |test: &str| tests[test].windows(words.len()).any(|part| part == words);
    assert!(
        named(row).any(carries),
        "{}: no test of its row carries the number",
        row[0]
    );
}

/// The test is in the row of the number that its name begins with.
fn assert_listed(test: &str, number: &str, row: Option<&Vec<String>>) {
    let row = row.unwrap_or_else(|| panic!("{test}: there is no row {number}"));
    assert!(
        named(row).any(|named| named == test),
        "{test} is not in the row of {number}"
    );
}

/// The tests that a row names: its last cell.
fn named(row: &[String]) -> impl Iterator<Item = &str> {
    row.last()
        .into_iter()
        .flat_map(|cell| cell.split_whitespace())
}

fn number(cell: &str) -> &str {
    cell.split(' ').next().unwrap_or_default()
}

fn is_class(part: &str) -> bool {
    part.strip_prefix('f')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Each test's name with the words of its name and of its description.
type Tests = BTreeMap<String, Vec<String>>;

/// All tests of this crate, and of the one that operates its pools.
fn tests() -> Tests {
    let mut tests = Tests::new();
    let mut open: Vec<PathBuf> = ["src", "tests", "../ops/src", "../ops/tests"]
        .map(|folder| root().join(folder))
        .into();
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

fn tests_in(file: &Path) -> Tests {
    let text = fs::read_to_string(file).expect("a test file is UTF-8");
    let mut tests = Tests::new();
    let mut description = String::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            description.push_str(words);
        } else if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else {
            if let Some((_, name)) = line.split_once("fn ")
                && is_test
            {
                let name = name.split('(').next().unwrap_or_default();
                tests.insert(name.to_owned(), words(&format!("{name} {description}")));
                is_test = false;
            }
            description.clear();
        }
    }
    tests
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}
