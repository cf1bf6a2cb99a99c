//! JUnit XML: what it says, and that it holds nothing which a CI server refuses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use poolproof_oracle::Verdict;
use poolproof_report::runs::{self, Attempt};
use poolproof_report::{CutShort, Record, junit};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::text::all;
use crate::{demo, extremes};

/// What an element may have.
struct Allowed {
    element: &'static str,
    within: &'static [&'static str],
    required: &'static [&'static str],
    optional: &'static [&'static str],
    text: bool,
}

const fn allowed(
    element: &'static str,
    within: &'static [&'static str],
    required: &'static [&'static str],
    optional: &'static [&'static str],
) -> Allowed {
    Allowed {
        element,
        within,
        required,
        optional,
        text: false,
    }
}

/// The elements and attributes of Jenkins' JUnit schema of version 10 that we may use.
const SCHEMA: [Allowed; 9] = [
    allowed(
        "testsuites",
        &[""],
        &[],
        &["name", "time", "tests", "failures", "errors"],
    ),
    allowed(
        "testsuite",
        &["testsuites"],
        &["name", "tests", "failures", "errors"],
        &["time", "skipped", "timestamp"],
    ),
    allowed("properties", &["testsuite"], &[], &[]),
    allowed("property", &["properties"], &["name", "value"], &[]),
    allowed(
        "testcase",
        &["testsuite"],
        &["name"],
        &["classname", "time"],
    ),
    Allowed {
        text: true,
        ..allowed("failure", &["testcase"], &[], &["type", "message"])
    },
    Allowed {
        text: true,
        ..allowed("error", &["testcase"], &[], &["type", "message"])
    },
    allowed("skipped", &["testcase"], &[], &["message"]),
    Allowed {
        text: true,
        ..allowed("system-out", &["testsuite", "testcase"], &[], &[])
    },
];

/// An element as it was read: its name, its attributes, and how many results its cases have.
type Attributes = BTreeMap<String, String>;

fn attributes(start: &BytesStart<'_>) -> Attributes {
    let read = |attribute: quick_xml::events::attributes::Attribute<'_>| {
        let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
        let value = String::from_utf8(attribute.value.to_vec()).unwrap();
        (
            key,
            quick_xml::escape::unescape(&value).unwrap().into_owned(),
        )
    };
    start.attributes().map(|a| read(a.unwrap())).collect()
}

/// Reads a document, holds each element against the schema, and returns them in their order.
fn read(xml: &str) -> Vec<(String, Attributes)> {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<String> = vec![String::new()];
    let mut elements = Vec::new();
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
                let attributes = attributes(start);
                check(&name, open.last().unwrap(), &attributes);
                elements.push((name.clone(), attributes));
                if matches!(event, Event::Start(_)) {
                    open.push(name);
                }
            }
            Event::End(_) => drop(open.pop()),
            Event::Text(text) => {
                let within = open.last().unwrap();
                let may = SCHEMA.iter().any(|a| a.element == *within && a.text);
                assert!(
                    may || text.iter().all(u8::is_ascii_whitespace),
                    "text in <{within}>"
                );
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open.len(), 1, "every element is closed");
    elements
}

fn check(name: &str, parent: &str, attributes: &Attributes) {
    let known = SCHEMA.iter().find(|a| a.element == name);
    let known = known.unwrap_or_else(|| panic!("<{name}> is not in the schema"));
    assert!(known.within.contains(&parent), "<{name}> in <{parent}>");
    for required in known.required {
        assert!(
            attributes.contains_key(*required),
            "<{name}> lacks {required}"
        );
    }
    for (key, value) in attributes {
        let key = key.as_str();
        let may = known.required.contains(&key) || known.optional.contains(&key);
        assert!(may, "<{name}> has {key}");
        match key {
            "time" => {
                let (whole, part) = value.split_once('.').unwrap();
                assert!(
                    whole.parse::<u64>().is_ok() && part.len() == 3,
                    "time={value}"
                );
            }
            "tests" | "failures" | "errors" | "skipped" => drop(value.parse::<u32>().unwrap()),
            _ => {}
        }
    }
}

/// Tests, failures, errors and skipped ones by the elements, which the attributes must repeat.
fn counts(elements: &[(String, Attributes)]) -> [usize; 4] {
    let found = ["testcase", "failure", "error", "skipped"]
        .map(|wanted| elements.iter().filter(|(name, _)| name == wanted).count());
    let sum = |attribute: &str| -> usize {
        let suites = elements.iter().filter(|(name, _)| name == "testsuite");
        suites
            .map(|(_, a)| a[attribute].parse::<usize>().unwrap())
            .sum()
    };
    assert_eq!(["tests", "failures", "errors", "skipped"].map(sum), found);
    let root = &elements[0].1;
    let told = ["tests", "failures", "errors"].map(|key| root[key].parse::<usize>().unwrap());
    assert_eq!(told, found[..3]);
    found
}

#[test]
fn junit_tells_a_violation() {
    insta::assert_snapshot!(junit(&demo::failed()));
}

#[test]
fn junit_tells_why_a_run_is_invalid() {
    insta::assert_snapshot!(junit(&demo::invalid()));
}

#[test]
fn junit_counts_one_case_per_guarantee_fault_and_objective() {
    // With one more for the run as a whole.
    for (record, expected) in [
        (demo::passed(), [14, 0, 0, 0]),
        (demo::failed(), [14, 3, 0, 1]),
        (demo::invalid(), [14, 0, 2, 2]),
        (demo::partial(), [12, 0, 1, 3]),
        (demo::empty(), [1, 0, 1, 0]),
    ] {
        let elements = read(&junit(&record));
        assert_eq!(counts(&elements), expected, "{}", record.verdict);
    }
}

/// Goal: CI servers read every document. Method: a table of what their schema allows.
#[test]
fn junit_holds_nothing_that_the_schema_does_not_know() {
    for record in all() {
        counts(&read(&junit(&record)));
    }
}

/// Goal: a CI that goes by the file alone is green for a pass and for nothing else.
#[test]
fn junit_is_green_only_for_a_pass() {
    let mut lost = demo::partial();
    lost.run.cut_short = Some(CutShort::ServerLost);
    let mut old = demo::partial();
    old.run.cut_short = None;
    let known = [
        demo::passed(),
        demo::failed(),
        demo::invalid(),
        demo::partial(),
        demo::empty(),
    ];
    for mut record in known.into_iter().chain([lost, old]) {
        for verdict in [Verdict::Inconclusive, Verdict::Invalid, record.verdict] {
            record.verdict = verdict;
            let [_, failures, errors, _] = counts(&read(&junit(&record)));
            let passed = record.verdict == Verdict::Pass && record.run.partial.is_none();
            assert_eq!(failures + errors == 0, passed, "{verdict}");
        }
    }
}

#[test]
fn times_add_up_to_what_the_run_took() {
    let elements = read(&junit(&demo::passed()));
    let suite = &elements
        .iter()
        .find(|(name, _)| name == "testsuite")
        .unwrap()
        .1;
    assert_eq!(suite["timestamp"], "2026-03-02T09:14:07Z");
    // From the start of the set-up to the end of judging.
    assert_eq!(suite["time"], "21.024");
    let cases = elements.iter().filter(|(name, _)| name == "testcase");
    let sum: f64 = cases.map(|(_, a)| a["time"].parse::<f64>().unwrap()).sum();
    assert_eq!(format!("{sum:.3}"), "21.024");
}

#[test]
fn hostile_text_reads_back_as_text() {
    let elements = read(&junit(&extremes::hostile()));
    let suite = &elements
        .iter()
        .find(|(name, _)| name == "testsuite")
        .unwrap()
        .1;
    assert!(
        suite["name"].contains("<script>alert(1)</script>\"'>"),
        "{suite:?}"
    );
}

fn judged(mut record: Record, seed: u64) -> Attempt {
    record.run.seed = seed;
    Attempt::Judged {
        record: Box::new(record),
        folder: PathBuf::from(format!("reports/quickstart/s{seed}")),
    }
}

#[test]
fn many_runs_make_one_document_with_a_suite_for_each() {
    let attempts = [
        judged(demo::passed(), 7),
        judged(demo::failed(), 8),
        Attempt::NotRun {
            scenario: "quickstart".into(),
            subject: "poolproof".to_owned(),
            seed: 9,
            reason: "no server".into(),
        },
    ];
    let elements = read(&runs::junit(&attempts));
    assert_eq!(counts(&elements), [29, 3, 1, 1]);
    let suites = elements.iter().filter(|(name, _)| name == "testsuite");
    let names: Vec<&str> = suites.map(|(_, a)| a["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "poolproof.quickstart.poolproof.seed-7",
            "poolproof.quickstart.planted:lies.seed-8",
            "poolproof.quickstart.poolproof.seed-9"
        ]
    );
    // Servers tell cases apart by class and name.
    let cases = elements.iter().filter(|(name, _)| name == "testcase");
    let mut cases: Vec<_> = cases.map(|(_, a)| (&a["classname"], &a["name"])).collect();
    let all = cases.len();
    cases.sort_unstable();
    cases.dedup();
    assert_eq!(cases.len(), all);
    assert_eq!(runs::junit(&attempts[..1]), junit(&demo::with_seed(7)));
}
