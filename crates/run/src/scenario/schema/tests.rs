//! The schema accepts what the reader accepts, and refuses what it refuses.

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use toml::{Table as Toml, Value as TomlValue};

use super::super::quantity;
use super::super::tests::{MISTAKES, edited};
use super::super::{QUICKSTART, Scenario};
use super::*;

/// What only the reader can say: what keys make of each other, and what no pattern can hold.
const READERS_ALONE: &[&str] = &[
    "is longer than 30 days",
    "is set twice",
    "operations are more than a run can judge",
    "no operation would arrive within the duration",
    "all weights in `endings` are zero",
    "the weights of all workloads are zero",
    "there are two workloads of kind",
    "two faults are called",
    "two faults of kind",
    "begins after the load has ended",
    "ends after the load has ended",
    "the load ends too soon after fault",
    "commits are never in flight at once",
    "no operation commits",
    "`jitter` is larger than `latency`",
    "`hold` is not shorter than",
    "`response` is not longer than `hold`",
    "`response` is shorter than the load generator can measure",
    "`recovery` is judged for each fault",
];

fn validator() -> Validator {
    jsonschema::draft202012::new(&scenario_schema()).unwrap()
}

fn json(text: &str) -> Value {
    toml::from_str(text).unwrap()
}

/// Compares the two on one text. What the reader alone can refuse, the schema must accept.
fn agree(schema: &Validator, text: &str) {
    let accepted = schema.is_valid(&json(text));
    let read = Scenario::parse("test.toml", text);
    let messages: Vec<_> = match &read {
        Ok(_) => Vec::new(),
        Err(error) => error.problems.iter().map(|p| p.message.as_str()).collect(),
    };
    let alone = |message: &&str| READERS_ALONE.iter().any(|known| message.contains(known));
    let expected = messages.iter().all(alone);
    let errors: Vec<_> = schema
        .iter_errors(&json(text))
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(
        accepted, expected,
        "{text}\nthe reader: {messages:?}\nthe schema: {errors:?}"
    );
}

#[test]
fn the_schema_is_one() {
    jsonschema::draft202012::meta::validate(&scenario_schema()).unwrap();
}

#[test]
fn every_scenario_of_the_repository_is_valid() {
    let schema = validator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let instance = json(&fs::read_to_string(&path).unwrap());
        let errors: Vec<_> = schema.iter_errors(&instance).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn a_key_that_is_misspelt_of_a_wrong_type_or_of_another_kind_is_invalid_at_its_place() {
    let schema = validator();
    for (from, to, place) in [
        ("pool_size = 5 ", "pool_sise = 5 ", "/pool"),
        ("[pool]", "[pol]", ""),
        ("pool_size = 5 ", "pool_size = \"5\" ", "/pool/pool_size"),
        ("duration = \"20s\"", "duration = \"20\"", "/load/duration"),
        ("tables = 3", "accounts = 3", "/load/workload/1/accounts"),
        (
            "target = \"in-transaction\"",
            "jitter = \"1ms\"",
            "/fault/4/jitter",
        ),
        ("for = \"2s\"\n", "", "/fault/3"),
    ] {
        let instance = json(&edited(from, to));
        let places: Vec<_> = schema
            .iter_errors(&instance)
            .map(|error| error.instance_path().to_string())
            .collect();
        assert_eq!(places, [place], "{from:?} became {to:?}");
    }
}

#[test]
fn reader_and_schema_agree_on_every_mistake_that_is_known() {
    let schema = validator();
    agree(&schema, QUICKSTART);
    for (from, to, message, ..) in MISTAKES {
        let mut text = edited(from, to);
        if message.contains("overlap") {
            text = text.replace("at = \"10s\"", "at = \"7s\"");
        }
        agree(&schema, &text);
    }
}

#[test]
fn reader_and_schema_agree_on_durations_names_and_settings() {
    let schema = validator();
    for text in [
        "250us", "250 µs", "1.5s", "20 s", " 20s ", "2m", "2 min", "1h", ".5s", "5.s", "+5s", "0s",
        "0.0s", "-0s", "0.010s", "", "s", ".s", "1m30s", "1,5s", "1e3s", "--1s", "NaNs", "1S",
        "1 ss",
    ] {
        agree(&schema, &edited("\"8ms\"", &format!("\"{text}\"")));
        agree(&schema, &edited("\"0ms\"", &format!("\"{text}\"")));
    }
    let long = "a".repeat(64);
    let longer = "a".repeat(65);
    for name in [
        "a", "1", "a-b_c", "_a", "-a", "", "latest", "a b", "ä", &long, &longer,
    ] {
        agree(&schema, &edited("\"quickstart\"", &format!("\"{name}\"")));
    }
    for setting in [
        "work_mem = '8MB'",
        "jit = false",
        "a = 1.5",
        "'a.b$1' = 1",
        "Port = 1",
        "ports = 1",
        "include = 'x'",
        "'a b' = 1",
        "1a = 1",
        "'' = 1",
        "a = \"x\\u0085\"",
        "a = \"x\\ty\"",
        "a = []",
        "a.b = 1",
    ] {
        let settings = format!("{{ {setting} }}");
        agree(&schema, &edited("{ max_connections = \"60\" }", &settings));
    }
}

/// A scenario that leaves room for every value that a key may have.
fn roomy() -> Toml {
    toml::from_str(
        "name = 'a'\n[pool]\n[postgres]\n[objective]\nresponse = '30m'\n\
         [load]\nrate = 1\nduration = '2h'\ndeadline = '1h'\n[load.endings]\ncommit = 1\n\
         [[load.workload]]\nkind = 'bank'\n[[fault]]\nname = 'f'\nkind = 'down'\nat = '1s'\nfor = '2s'\n",
    )
    .unwrap()
}

/// Returns the table that `header` stands for, in a scenario.
fn at<'t>(scenario: &'t mut Toml, header: &str) -> &'t mut Toml {
    let path = header.trim_matches(['[', ']']);
    let steps = path.split('.').filter(|_| header.starts_with('['));
    steps.fold(scenario, |table, step| match table.get_mut(step) {
        Some(TomlValue::Table(inner)) => inner,
        Some(TomlValue::Array(items)) => items[0].as_table_mut().unwrap(),
        other => panic!("{header}: {other:?}"),
    })
}

/// Values of all types, right and wrong for one key or another.
///
/// No number such as 5.0: to a schema it is whole, to the reader of a TOML file it is not.
fn samples() -> Vec<TomlValue> {
    let array = "it = ['1s', '5ms', '0s', '-1s', '9999h', '1', 'soon', '', ' ', 'latest', 'A', 'true', \
                 0, 1, -1, -2, 2, 17, 1000001, 5000000000, 0.5, 1.5, -0.5, inf, true, [], [1], [{}], {}, \
                 { commit = 1 }, { kind = 'bank' }, 1979-05-27]";
    let mut table: Toml = toml::from_str(array).unwrap();
    let Some(TomlValue::Array(mut samples)) = table.remove("it") else {
        panic!("it is an array");
    };
    let keys = ROOT.all().into_iter().flat_map(|table| {
        let kinds = table.kind_keys();
        table.keys.iter().chain(kinds).collect::<Vec<_>>()
    });
    let words = keys.flat_map(|key| words(key.quantity));
    samples.extend(words.map(|word| TomlValue::from(word.word)));
    samples
}

/// Goal: no key is read otherwise than the schema says. Method: each key of each table, of its kind
/// or another, with values of all types.
#[test]
fn reader_and_schema_agree_on_every_key_with_every_type_of_value() {
    let schema = validator();
    let samples = samples();
    let mut count = 0;
    for table in ROOT.all() {
        let kinds = table.kinds().map_or_else(Vec::new, |kinds| (kinds.all)());
        let kinds = kinds.iter().map(Some).chain([None]);
        for kind in kinds.filter(|kind| kind.is_some() || table.kinds().is_none()) {
            let mut base = roomy();
            if let Some(kind) = kind {
                let section = at(&mut base, table.header);
                section.remove("for");
                section.insert("kind".to_owned(), kind.name.word.into());
                for key in kind.keys {
                    if let Presence::Required { example } = key.presence {
                        section.extend(toml::from_str::<Toml>(example).unwrap());
                    }
                }
            }
            let text = base.to_string();
            assert_eq!(Scenario::parse("base.toml", &text).err(), None, "{text}");
            let kind_keys = table.kind_keys();
            let keys = table.keys.iter().chain(kind_keys).map(|key| key.name);
            for key in keys.chain(["colour"]) {
                let mut without = base.clone();
                at(&mut without, table.header).remove(key);
                agree(&schema, &without.to_string());
                for sample in &samples {
                    let mut with = base.clone();
                    at(&mut with, table.header).insert(key.to_owned(), sample.clone());
                    agree(&schema, &with.to_string());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 1_000, "{count}");
}

#[test]
fn every_default_is_a_value_of_its_key_and_every_example_a_line_with_it() {
    for table in ROOT.all() {
        for key in table.keys.iter().chain(table.kind_keys()) {
            match key.presence {
                Presence::Default(text) => {
                    quantity::default(key, text);
                    let schema = property(key);
                    let default = &schema["default"];
                    assert!(jsonschema::is_valid(&schema, default), "{}", key.name);
                }
                Presence::Required { example } if example.contains('=') => {
                    let names = example.contains(&format!("{} = ", key.name));
                    assert!(names || key.quantity.table().is_some(), "{example}");
                }
                Presence::Required { .. } | Presence::Otherwise(_) => {}
            }
        }
    }
}

/// The schema has a key once for all kinds, so it must say the same of each.
#[test]
fn a_key_of_several_kinds_is_the_same_in_all() {
    for table in ROOT.all() {
        let kinds = table.kinds().map_or_else(Vec::new, |kinds| (kinds.all)());
        for key in kinds.iter().flat_map(|kind| kind.keys) {
            let first = table.kind_keys();
            let first = first.iter().find(|first| first.name == key.name).unwrap();
            assert_eq!(property(first), property(key), "{}", key.name);
            assert!(table.keys.iter().all(|own| own.name != key.name));
        }
    }
}
