//! The reference of scenario files, `docs/scenario.md`, made from the tables of keys.
//!
//! Only tests make it: they hold the file against the tables, and write it anew when told to.

use std::path::Path;
use std::{env, fs};

use super::faults::{Fault, Hides};
use super::key::{Bounds, Key, Kind, Presence, Quantity, Table};
use super::quantity::default_toml;
use super::schema::words;
use super::table::{FAULT, ROOT};
use super::words::listed;
use super::{ObjectiveSection, Scenario, format_duration};

/// Set to write the file instead of comparing it.
const WRITE: &str = "POOLPROOF_WRITE_DOCS";

const INTRODUCTION: &str = "\
# Scenario files

<!-- Made from crates/run/src/scenario/table.rs: change that, not this. -->

A scenario is a TOML file: which pool, which load, which faults when, and what is expected. This page \
lists every key. [`scenarios/quickstart.toml`](../scenarios/quickstart.toml) is an example with \
comments. The least that can be run:

```toml
name = \"least\"

[load]
rate = 100
duration = \"10s\"

[[load.workload]]
kind = \"bank\"
```

A duration is a number and a unit in quotes: `\"250us\"`, `\"40ms\"`, `\"1.5s\"`, `\"2m\"`, `\"1h\"`; at most 30 \
days. A key that stands nowhere on this page is refused, and so is a value that its key cannot hold: \
`poolproof run` shows all mistakes of a file with their lines before it starts anything.

An editor completes keys and marks mistakes with the JSON Schema that `poolproof schema scenario` \
prints. In VS Code (Even Better TOML) and wherever else Taplo serves, write it to a file, and name that \
in the first line of a scenario:

```toml
#:schema ./scenario.schema.json
```

What keys must make of each other (faults that overlap, a fault after the load's end) only \
`poolproof run` checks.
";

/// Returns the text of `docs/scenario.md`.
fn reference() -> String {
    let sections = ROOT.all().into_iter().map(section_of);
    INTRODUCTION.to_owned() + &sections.collect::<String>()
}

fn section_of(table: &Table) -> String {
    let heading = match table.header.starts_with('[') {
        true => format!("`{}`", table.header),
        false => "The top of the file".to_owned(),
    };
    let kinds = table.kinds().map_or_else(Vec::new, |kinds| (kinds.all)());
    let kinds: String = kinds
        .iter()
        .map(|kind| section_of_kind(table, kind))
        .collect();
    format!(
        "\n## {heading}\n\n{}\n\n{}{kinds}",
        table.doc,
        keys(table.keys)
    )
}

fn section_of_kind(table: &Table, kind: &Kind) -> String {
    let word = kind.name.word;
    let notes = match table.header == FAULT.header {
        true => notes(kind),
        false => String::new(),
    };
    let keys = match kind.keys {
        [] => String::new(),
        own => format!("{}\n", keys(own)),
    };
    let example = example(table, kind);
    let doc = kind.name.doc;
    format!("\n### `kind = \"{word}\"`\n\n{doc}{notes}\n\n{keys}```toml\n{example}```\n")
}

/// Returns what a kind of fault makes of others.
fn notes(kind: &Kind) -> String {
    let moment = match kind.has("for") {
        true => "",
        false => " It happens at one moment.",
    };
    let hidden = match Fault::called(kind.name.word).hides {
        Hides::Nothing => return moment.to_owned(),
        Hides::All { .. } => "other fault".to_owned(),
        Hides::Kinds { kinds, .. } => listed(kinds.iter().copied()),
    };
    format!("{moment} No {hidden} can be within it: nothing could be seen of it.")
}

/// Returns a table of a kind with the keys that it needs.
fn example(table: &Table, kind: &Kind) -> String {
    let lines =
        table
            .keys
            .iter()
            .chain(kind.keys)
            .filter_map(|key| match (key.quantity, key.presence) {
                (Quantity::Label, _) => Some(format!("name = \"my {}\"\n", kind.name.word)),
                (Quantity::Kind(_), _) => Some(format!("kind = \"{}\"\n", kind.name.word)),
                (_, Presence::Required { example }) => Some(format!("{example}\n")),
                _ => None,
            });
    format!("{}\n{}", table.header, lines.collect::<String>())
}

fn keys(keys: &[Key]) -> String {
    let row = |key: &Key| {
        let default = match key.presence {
            Presence::Required { .. } => "required".to_owned(),
            Presence::Default(text) => format!("`{}`", default_toml(key, text)),
            Presence::Otherwise(meaning) => meaning.to_owned(),
        };
        let (name, holds) = (key.name, holds(key));
        format!("| `{name}` | {holds} | {default} | {} |\n", doc(key))
    };
    let rows = keys.iter().map(row).collect::<String>();
    format!("| key | holds | default | meaning |\n|---|---|---|---|\n{rows}")
}

fn doc(key: &Key) -> String {
    match key.quantity {
        Quantity::Word(list) => {
            let words = list.all.iter();
            let words = words.map(|word| format!("`{}`: {}", word.word, word.doc));
            format!("{} {}.", key.doc, words.collect::<Vec<_>>().join("; "))
        }
        _ => key.doc.to_owned(),
    }
}

fn holds(key: &Key) -> String {
    let text = match key.quantity {
        Quantity::Name => "up to 64 of `a`–`z`, `0`–`9`, `-`, `_`; not `latest`".to_owned(),
        Quantity::Label => "text, not blank".to_owned(),
        Quantity::Text => "text".to_owned(),
        Quantity::Flag => "`true` or `false`".to_owned(),
        Quantity::Integer { least, most } => {
            format!("whole number, {least} to {}", grouped(most))
        }
        Quantity::Number(Bounds::AboveZero) => "number above 0".to_owned(),
        Quantity::Number(Bounds::Fraction) => "number, 0 to 1".to_owned(),
        Quantity::Duration { zero: true } => "duration".to_owned(),
        Quantity::Duration { zero: false } => "duration above zero".to_owned(),
        Quantity::Word(_) | Quantity::Kind(_) => {
            listed(words(key.quantity).iter().map(|word| word.word))
        }
        Quantity::Table(table) => format!("table `{}`", table.header),
        Quantity::Tables(table) => format!("tables `{}`", table.header),
        Quantity::Settings => "table of settings".to_owned(),
    };
    match key.unit {
        Some(unit) => format!("{text}, in {unit}"),
        None => text,
    }
}

/// Writes a number with its digits in threes, as TOML allows it.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_reference_in_docs_is_the_one_that_the_tables_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenario.md");
    let made = reference();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &made).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (made, found) = (lines(&made), lines(&found));
    let differs = (0..made.len().max(found.len())).find(|&line| made.get(line) != found.get(line));
    let differs = differs.map(|at| (at + 1, made.get(at), found.get(at)));
    assert_eq!(
        differs, None,
        "docs/scenario.md is not what the tables make (line, made, found); write it anew by: \
         {WRITE}=1 cargo test -p poolproof-run --lib scenario::reference"
    );
}

#[test]
fn the_response_that_counts_unless_set_is_the_one_that_the_reference_names() {
    let target = ObjectiveSection::default().target();
    let says = format!(
        "recovery then needs every answer within {}",
        format_duration(target)
    );
    assert!(reference().contains(&says), "{says}");
}

#[test]
fn every_example_of_the_reference_can_be_run() {
    let toml = INTRODUCTION
        .split("```")
        .find_map(|part| part.strip_prefix("toml\n"));
    let least = toml.unwrap();
    Scenario::parse("least.toml", least).unwrap();
    for table in ROOT.all() {
        for kind in table.kinds().map_or_else(Vec::new, |kinds| (kinds.all)()) {
            let base = match table.header == FAULT.header {
                true => least,
                false => least.split("[[").next().unwrap(),
            };
            let text = format!("{base}\n{}", example(table, &kind));
            let scenario = Scenario::parse("example.toml", &text);
            assert_eq!(scenario.err(), None, "{text}");
        }
    }
}
