//! Suites as XML. Jenkins' schema is the narrowest that is in use: it knows no `skipped` at the root
//! and no properties in a case, which libraries for JUnit write.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::{Case, CaseResult, Suite, Trouble};

type Out = Writer<Vec<u8>>;

/// Writes suites as one document.
pub(crate) fn document(suites: &[Suite]) -> String {
    let mut out = Writer::new_with_indent(Vec::new(), b' ', 2);
    write(suites, &mut out).expect("bug: memory takes all that is written to it");
    let mut text = String::from_utf8(out.into_inner()).expect("bug: only text was written");
    text.push('\n');
    text
}

/// What counts add up to.
#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
    time_us: u64,
}

impl Counts {
    fn of<'a>(suites: impl IntoIterator<Item = &'a Suite>) -> Self {
        let mut counts = Self::default();
        for suite in suites {
            counts.time_us = counts.time_us.saturating_add(suite.time_us);
            for case in &suite.cases {
                counts.tests += 1;
                match case.result {
                    CaseResult::Passed => {}
                    CaseResult::Skipped(_) => counts.skipped += 1,
                    CaseResult::Failure(_) => counts.failures += 1,
                    CaseResult::Error(_) => counts.errors += 1,
                }
            }
        }
        counts
    }

    fn attributes(&self) -> [(&'static str, String); 4] {
        [
            ("tests", self.tests.to_string()),
            ("failures", self.failures.to_string()),
            ("errors", self.errors.to_string()),
            ("time", seconds(self.time_us)),
        ]
    }
}

fn write(suites: &[Suite], out: &mut Out) -> io::Result<()> {
    out.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let counts = Counts::of(suites).attributes();
    out.create_element("testsuites")
        .with_attribute(("name", "poolproof"))
        .with_attributes(counts.iter().map(|(key, value)| (*key, value.as_str())))
        .write_inner_content(|out| suites.iter().try_for_each(|suite| write_suite(suite, out)))?;
    Ok(())
}

fn write_suite(suite: &Suite, out: &mut Out) -> io::Result<()> {
    let counts = Counts::of([suite]);
    let mut attributes = vec![("name", visible(&suite.name))];
    attributes.extend(counts.attributes());
    attributes.push(("skipped", counts.skipped.to_string()));
    attributes.extend(
        suite
            .timestamp
            .as_deref()
            .map(|at| ("timestamp", visible(at))),
    );
    out.create_element("testsuite")
        .with_attributes(attributes.iter().map(|(key, value)| (*key, value.as_str())))
        .write_inner_content(|out| {
            if !suite.properties.is_empty() {
                out.create_element("properties")
                    .write_inner_content(|out| write_properties(suite, out))?;
            }
            for case in &suite.cases {
                write_case(case, out)?;
            }
            suite
                .output
                .iter()
                .try_for_each(|text| write_text("system-out", text, out))
        })?;
    Ok(())
}

fn write_properties(suite: &Suite, out: &mut Out) -> io::Result<()> {
    for (name, value) in &suite.properties {
        out.create_element("property")
            .with_attributes([("name", *name), ("value", visible(value).as_str())])
            .write_empty()?;
    }
    Ok(())
}

fn write_case(case: &Case, out: &mut Out) -> io::Result<()> {
    let element = out.create_element("testcase").with_attributes([
        ("name", visible(&case.name).as_str()),
        ("classname", visible(&case.class).as_str()),
        ("time", seconds(case.time_us).as_str()),
    ]);
    if matches!(case.result, CaseResult::Passed) && case.seen.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|out| {
        match &case.result {
            CaseResult::Passed => {}
            CaseResult::Skipped(message) => {
                out.create_element("skipped")
                    .with_attribute(("message", visible(message).as_str()))
                    .write_empty()?;
            }
            CaseResult::Failure(trouble) => write_trouble("failure", trouble, out)?,
            CaseResult::Error(trouble) => write_trouble("error", trouble, out)?,
        }
        if case.seen.is_empty() {
            Ok(())
        } else {
            write_text("system-out", &case.seen.join("\n"), out)
        }
    })?;
    Ok(())
}

fn write_trouble(name: &str, trouble: &Trouble, out: &mut Out) -> io::Result<()> {
    out.create_element(name)
        .with_attributes([
            ("type", trouble.kind),
            ("message", visible(&trouble.message).as_str()),
        ])
        .write_text_content(BytesText::new(&visible(&trouble.text)))?;
    Ok(())
}

fn write_text(name: &str, text: &str, out: &mut Out) -> io::Result<()> {
    out.create_element(name)
        .write_text_content(BytesText::new(&visible(text)))?;
    Ok(())
}

/// Text without the characters that XML cannot hold in any form.
fn visible(text: &str) -> String {
    let allowed = |c: &char| {
        matches!(c, '\t' | '\n') || !(c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    };
    text.chars().filter(allowed).collect()
}

/// Seconds with three decimals, as the schema wants them.
fn seconds(us: u64) -> String {
    format!("{}.{:03}", us / 1_000_000, us % 1_000_000 / 1_000)
}
