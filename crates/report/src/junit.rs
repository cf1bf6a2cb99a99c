//! JUnit XML: one suite per run, with a case for the run as a whole and one per guarantee, fault and
//! objective.

mod xml;

use poolproof_oracle::{GuaranteeStatus, Verdict};

use crate::headline;
use crate::terminal::{Color, TerminalStyle, terminal};
use crate::units::one_line;
use crate::{CutShort, FaultReport, ObjectiveResult, Record};

/// A run.
pub(crate) struct Suite {
    name: String,
    timestamp: Option<String>,
    time_us: u64,
    properties: Vec<(&'static str, String)>,
    cases: Vec<Case>,
    output: Option<String>,
}

/// One thing that was judged.
struct Case {
    class: String,
    name: String,
    time_us: u64,
    result: CaseResult,
    /// What was seen, one line each.
    seen: Vec<String>,
}

enum CaseResult {
    Passed,
    Skipped(String),
    Failure(Trouble),
    Error(Trouble),
}

/// What is wrong, in one word, in one line and at length.
struct Trouble {
    kind: &'static str,
    message: String,
    text: String,
}

/// Renders a record as JUnit XML, with the elements and attributes that Jenkins' schema allows.
///
/// A violated guarantee or objective is a failure. The case of the run is an error unless the run
/// is whole and has a verdict, and so is a fault without effect: no CI shows an inconclusive run in
/// green. What could not be judged is skipped, with its reason.
///
/// The case of the run takes the whole time. The others take none: they are judged from that run,
/// and a CI that adds up its cases gets the real time.
#[must_use]
pub fn junit(record: &Record) -> String {
    xml::document(&[suite(record, None)])
}

pub(crate) use xml::document;

/// Returns the suite of a run; a seed that is given becomes part of its name, so that a CI tells
/// the runs of one file apart.
pub(crate) fn suite(record: &Record, seed: Option<u64>) -> Suite {
    let name = suite_name(&record.run.scenario, &record.subject.name, seed);
    let class = |part: &str| format!("{name}.{part}");
    let mut cases = vec![run_case(record, class("run"))];
    cases.extend(record.guarantees.iter().map(|result| {
        let name = format!("{} {}", result.guarantee.code(), result.guarantee.title());
        let judged = Judged {
            status: &result.status,
            summary: &result.summary,
            evidence: &result.evidence,
            kind: "guarantee",
        };
        judged.case(&name, class("guarantees"))
    }));
    let faults = record.faults.iter();
    cases.extend(faults.map(|fault| fault_case(fault, class("faults"))));
    let objectives = record.objectives.iter();
    cases.extend(objectives.map(|objective| objective_case(objective, class("objectives"))));
    let plain = TerminalStyle {
        color: Color::Never,
        width: 100,
    };
    Suite {
        timestamp: Some(one_line(&record.run.started_at)),
        time_us: took_us(record),
        properties: properties(record),
        cases,
        output: Some(terminal(record, plain)),
        name,
    }
}

/// Returns the suite of a run that did not take place.
pub(crate) fn suite_of_none(
    scenario: &str,
    subject: &str,
    seed: Option<u64>,
    reason: &str,
) -> Suite {
    let name = suite_name(scenario, subject, seed);
    let trouble = Trouble {
        kind: "not-run",
        message: one_line(reason),
        text: String::new(),
    };
    let class = format!("{name}.run");
    Suite {
        name,
        timestamp: None,
        time_us: 0,
        properties: Vec::new(),
        cases: vec![case(RUN_CASE, class, CaseResult::Error(trouble))],
        output: None,
    }
}

/// A CI keeps the history of a case by its class, which begins with this: two pools must not share it.
fn suite_name(scenario: &str, subject: &str, seed: Option<u64>) -> String {
    let seed = seed.map_or_else(String::new, |seed| format!(".seed-{seed}"));
    let (scenario, subject) = (one_line(scenario), one_line(subject));
    format!("poolproof.{scenario}.{subject}{seed}")
}

/// From the beginning of the set-up to the end of judging.
fn took_us(record: &Record) -> u64 {
    let start = record.phases.iter().map(|phase| phase.start_us).min();
    let end = record.phases.iter().map(|phase| phase.end_us).max();
    match (start, end) {
        (Some(start), Some(end)) => end.abs_diff(start),
        _ => record.run.duration_us,
    }
}

fn properties(record: &Record) -> Vec<(&'static str, String)> {
    vec![
        ("run", record.run.id.clone()),
        ("subject", record.subject.name.clone()),
        ("seed", record.run.seed.to_string()),
        ("schedule_sha256", record.run.schedule_sha256.clone()),
        ("verdict", record.verdict.to_string()),
        ("performance_valid", record.performance_valid.to_string()),
        ("replay", record.run.replay.clone()),
    ]
}

const RUN_CASE: &str = "the run is complete and has a verdict";

fn run_case(record: &Record, class: String) -> Case {
    let kind = match (record.run.cut_short, &record.run.partial, record.verdict) {
        (Some(CutShort::Interrupted), ..) => Some("interrupted"),
        (Some(CutShort::ServerLost), ..) => Some("server-lost"),
        (None, Some(_), _) => Some("partial"),
        (None, None, Verdict::Invalid) => Some("invalid"),
        (None, None, Verdict::Inconclusive) => Some("inconclusive"),
        (None, None, Verdict::Pass | Verdict::Fail) => None,
    };
    let result = match kind {
        None => CaseResult::Passed,
        Some(kind) => CaseResult::Error(Trouble {
            kind,
            message: match &record.run.partial {
                Some(reason) => one_line(reason),
                None => headline::sentence(record),
            },
            text: record.verdict_reasons.join("\n"),
        }),
    };
    Case {
        time_us: took_us(record),
        ..case(RUN_CASE, class, result)
    }
}

fn fault_case(fault: &FaultReport, class: String) -> Case {
    let event = &fault.event;
    let effect = headline::effect(fault);
    let result = if event.effect.seen {
        CaseResult::Passed
    } else {
        CaseResult::Error(Trouble {
            kind: "invalid",
            message: effect.clone(),
            text: String::new(),
        })
    };
    let seen = vec![
        format!("effect: {effect}"),
        format!("recovery: {}", headline::recovery(fault)),
    ];
    let name = format!("{}: {}", event.name, event.title);
    Case {
        seen,
        ..case(&name, class, result)
    }
}

fn objective_case(objective: &ObjectiveResult, class: String) -> Case {
    let judged = Judged {
        status: &objective.status,
        summary: &objective.summary,
        evidence: &[],
        kind: "objective",
    };
    judged.case(&objective.name, class)
}

struct Judged<'a> {
    status: &'a GuaranteeStatus,
    summary: &'a str,
    evidence: &'a [String],
    kind: &'static str,
}

impl Judged<'_> {
    fn case(&self, name: &str, class: String) -> Case {
        let result = match self.status {
            GuaranteeStatus::Held => CaseResult::Passed,
            GuaranteeStatus::Violated => {
                let first = self.evidence.first().map_or(self.summary, String::as_str);
                CaseResult::Failure(Trouble {
                    kind: self.kind,
                    message: one_line(first),
                    text: self.evidence.join("\n"),
                })
            }
            GuaranteeStatus::Void(reason)
            | GuaranteeStatus::NotChecked(reason)
            | GuaranteeStatus::NothingToCheck(reason) => {
                let word = headline::status_mark(self.status).word;
                CaseResult::Skipped(format!("{word}: {}", one_line(reason)))
            }
        };
        Case {
            seen: vec![one_line(self.summary)],
            ..case(name, class, result)
        }
    }
}

fn case(name: &str, class: String, result: CaseResult) -> Case {
    Case {
        class,
        name: one_line(name),
        time_us: 0,
        result,
        seen: Vec::new(),
    }
}
