//! JUnit XML: one test case per guarantee, fault and objective, and one for the run as a whole.

use std::time::Duration;

use poolproof_oracle::{GuaranteeStatus, Verdict};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use crate::headline;
use crate::terminal::{Color, TerminalStyle, terminal};
use crate::units::one_line;
use crate::{FaultReport, ObjectiveResult, Record};

/// Why a record could not be written as JUnit XML.
#[derive(Debug, thiserror::Error)]
#[error("write the result as JUnit XML")]
pub struct JunitError(#[source] quick_junit::SerializeError);

/// Renders a record as JUnit XML.
///
/// A violated guarantee or objective is a failure; a fault without effect, a partial run and an
/// invalid one are errors; what could not be judged is skipped, with its reason.
///
/// # Errors
/// When the XML cannot be serialized.
pub fn junit(record: &Record) -> Result<String, JunitError> {
    let scenario = one_line(&record.run.scenario);
    let class = |part: &str| format!("poolproof.{scenario}.{part}");
    let mut suite = TestSuite::new(format!("poolproof.{scenario}"));
    suite.set_time(Duration::from_micros(record.run.duration_us));
    for (name, value) in properties(record) {
        suite.add_property(Property::new(name, value));
    }
    suite.add_test_case(run_case(record, &class("run")));
    for result in &record.guarantees {
        let name = format!("{} {}", result.guarantee.code(), result.guarantee.title());
        let judged = Judged {
            status: &result.status,
            summary: &result.summary,
            evidence: &result.evidence,
            kind: "guarantee",
        };
        suite.add_test_case(judged.case(&name, &class("guarantees")));
    }
    for fault in &record.faults {
        suite.add_test_case(fault_case(fault, &class("faults")));
    }
    for objective in &record.objectives {
        suite.add_test_case(objective_case(objective, &class("objectives")));
    }
    let plain = TerminalStyle {
        color: Color::Never,
        width: 100,
    };
    suite.set_system_out(terminal(record, plain));

    let mut report = Report::new("poolproof");
    report.set_time(Duration::from_micros(record.run.duration_us));
    report.add_test_suite(suite);
    report.to_string().map_err(JunitError)
}

fn properties(record: &Record) -> [(&'static str, String); 8] {
    [
        ("run", record.run.id.clone()),
        ("started_at", record.run.started_at.clone()),
        ("subject", record.subject.name.clone()),
        ("seed", record.run.seed.to_string()),
        ("schedule_sha256", record.run.schedule_sha256.clone()),
        ("verdict", record.verdict.to_string()),
        ("performance_valid", record.performance_valid.to_string()),
        ("replay", record.run.replay.clone()),
    ]
}

/// Green only if a reader may trust the other cases: the run is whole, and nothing voids it.
fn run_case(record: &Record, class: &str) -> TestCase {
    let reasons = record.verdict_reasons.join("\n");
    let mut status = match (&record.run.partial, record.verdict) {
        (Some(reason), _) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("partial").set_message(one_line(reason));
            status
        }
        (None, Verdict::Invalid) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status
                .set_type("invalid-measurement")
                .set_message(headline::sentence(record));
            status
        }
        (None, Verdict::Inconclusive) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(headline::sentence(record));
            status
        }
        (None, Verdict::Pass | Verdict::Fail) => TestCaseStatus::success(),
    };
    if !matches!(status, TestCaseStatus::Success { .. }) && !reasons.is_empty() {
        status.set_description(reasons);
    }
    named("the run is complete and valid", class, status)
}

fn fault_case(fault: &FaultReport, class: &str) -> TestCase {
    let event = &fault.event;
    let status = if event.effect.seen {
        TestCaseStatus::success()
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status
            .set_type("invalid-measurement")
            .set_message(headline::effect(fault));
        status
    };
    let mut case = named(&format!("{}: {}", event.name, event.title), class, status);
    case.add_property(Property::new("effect", headline::effect(fault)));
    case.add_property(Property::new("recovery", headline::recovery(fault)));
    case
}

fn objective_case(objective: &ObjectiveResult, class: &str) -> TestCase {
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
    fn case(&self, name: &str, class: &str) -> TestCase {
        let status = match self.status {
            GuaranteeStatus::Held => TestCaseStatus::success(),
            GuaranteeStatus::Violated => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let first = self.evidence.first().map_or(self.summary, String::as_str);
                status.set_type(self.kind).set_message(one_line(first));
                if !self.evidence.is_empty() {
                    status.set_description(self.evidence.join("\n"));
                }
                status
            }
            GuaranteeStatus::Void(reason)
            | GuaranteeStatus::NotChecked(reason)
            | GuaranteeStatus::NothingToCheck(reason) => {
                let word = headline::status_mark(self.status).word;
                let mut status = TestCaseStatus::skipped();
                status.set_message(format!("{word}: {}", one_line(reason)));
                status
            }
        };
        let mut case = named(name, class, status);
        case.add_property(Property::new("checked", one_line(self.summary)));
        case
    }
}

fn named(name: &str, class: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(one_line(name), status);
    case.set_classname(class);
    case
}
