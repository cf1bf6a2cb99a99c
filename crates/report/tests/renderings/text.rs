//! Terminal, Markdown and JUnit, as they come out for each kind of run.

use poolproof_report::{Color, MAX_LINES, Record, TerminalStyle, junit, markdown, terminal};

use crate::{demo, extremes};

const PLAIN: TerminalStyle = TerminalStyle {
    color: Color::Never,
    width: 100,
};

fn all() -> Vec<Record> {
    vec![
        demo::passed(),
        demo::failed(),
        demo::invalid(),
        demo::passed_without_recovery(),
        demo::partial(),
        demo::empty(),
        extremes::hostile(),
        extremes::huge(),
        extremes::one_bucket(),
        extremes::all_broken(),
    ]
}

fn without_color(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('\u{1b}') {
        plain.push_str(&rest[..start]);
        let end = rest[start..].find('m').unwrap();
        rest = &rest[start + end + 1..];
    }
    plain + rest
}

#[test]
fn terminal_tells_a_pass() {
    insta::assert_snapshot!(terminal(&demo::passed(), PLAIN));
}

#[test]
fn terminal_tells_a_violation() {
    insta::assert_snapshot!(terminal(&demo::failed(), PLAIN));
}

#[test]
fn terminal_tells_why_a_run_is_invalid() {
    insta::assert_snapshot!(terminal(&demo::invalid(), PLAIN));
}

#[test]
fn terminal_tells_a_partial_run() {
    insta::assert_snapshot!(terminal(&demo::partial(), PLAIN));
}

#[test]
fn terminal_tells_a_pass_without_recovery_in_80_columns() {
    let narrow = TerminalStyle { width: 80, ..PLAIN };
    insta::assert_snapshot!(terminal(&demo::passed_without_recovery(), narrow));
}

/// Returns the words on what did not recover, for a run in which these faults were seen and these
/// recovered.
fn recovery_line(faults: [(bool, Option<u64>); 4]) -> Option<String> {
    let mut record = demo::passed();
    for (fault, (seen, recovery_us)) in record.faults.iter_mut().zip(faults) {
        fault.event.effect.seen = seen;
        fault.recovery_us = recovery_us;
    }
    let text = terminal(&record, PLAIN);
    let line = text.lines().find(|line| line.starts_with("  ! recovery"))?;
    Some(line["  ! recovery  ".len()..].to_owned())
}

#[test]
fn every_verdict_tells_of_faults_without_recovery() {
    let (back, never) = ((true, Some(7)), (true, None));
    let unseen = (false, None);
    for (faults, told) in [
        ([back, back, back, back], None),
        ([back, back, (true, Some(0)), never], Some("1 of 4 faults")),
        ([never, never, never, never], Some("4 of 4 faults")),
        // What was not seen is no fault to recover from.
        ([unseen, never, back, back], Some("1 of 3 faults")),
        ([unseen, unseen, unseen, never], Some("1 of 1 fault")),
        ([unseen, back, back, back], None),
    ] {
        let told = told.map(|faults| format!("{faults} without recovery within the load"));
        assert_eq!(recovery_line(faults), told);
    }
    assert!(terminal(&demo::failed(), PLAIN).contains("1 of 4 faults without recovery"));
}

#[test]
fn commits_in_doubt_are_told_by_their_cause() {
    let mut record = demo::passed_without_recovery();
    let told = |record: &Record| {
        let text = terminal(
            record,
            TerminalStyle {
                width: 200,
                ..PLAIN
            },
        );
        let line = text.lines().find(|l| l.contains("in doubt: ")).unwrap();
        line.split("in doubt: ").nth(1).unwrap().to_owned()
    };
    for doubt in &mut record.commits_in_doubt[3..] {
        doubt.applied = Some(true);
    }
    assert_eq!(
        told(&record),
        "3 by faults (2 applied, 1 not), 13 by cancellation (13 applied)"
    );
    record.commits_in_doubt.drain(..2);
    record.commits_in_doubt[1].cause = None;
    record.commits_in_doubt[2].applied = None;
    assert_eq!(
        told(&record),
        "1 by faults (1 not applied), 12 by cancellation (11 applied, 1 unresolved), \
         1 by an unknown cause (1 applied)"
    );
}

#[test]
fn terminal_never_takes_more_than_its_lines_and_its_width() {
    for record in all().into_iter().chain((0..8).map(extremes::broken)) {
        for width in [20, 80, 100] {
            let text = terminal(&record, TerminalStyle { width, ..PLAIN });
            assert!(text.lines().count() <= MAX_LINES, "{text}");
            assert!(text.ends_with('\n'));
            for line in text.lines().filter(|line| !line.starts_with("  replay")) {
                assert!(line.chars().count() <= width.max(64), "{line}");
            }
        }
    }
}

#[test]
fn terminal_says_the_same_without_colour() {
    for record in all() {
        let colored = terminal(
            &record,
            TerminalStyle {
                color: Color::Always,
                ..PLAIN
            },
        );
        let plain = terminal(&record, PLAIN);
        assert!(colored.contains("\u{1b}["));
        assert_eq!(without_color(&colored), plain);
        assert!(
            !plain.contains('\u{1b}'),
            "foreign text cannot move the cursor"
        );
    }
}

#[test]
fn findings_that_do_not_fit_are_counted() {
    let mut record = extremes::all_broken();
    record.commits_in_doubt = demo::passed_without_recovery().commits_in_doubt;
    // Where lines are short, findings come before the rest of operations and faults.
    for width in [90, 100] {
        let text = terminal(&record, TerminalStyle { width, ..PLAIN });
        assert_eq!(text.lines().count(), MAX_LINES);
        assert!(text.contains("8 more in the report"), "{text}");
        assert!(text.contains("✗ violated  L1"), "{text}");
        assert!(text.contains("in doubt: 3 by"), "{text}");
    }
}

#[test]
fn two_findings_come_before_the_details_of_commits_in_doubt() {
    let mut record = demo::invalid();
    record.commits_in_doubt = demo::passed_without_recovery().commits_in_doubt;
    record.verdict_reasons.push("one reason more".into());
    let text = terminal(&record, TerminalStyle { width: 80, ..PLAIN });
    assert_eq!(text.lines().count(), MAX_LINES);
    for told in ["  not valid  ", "  because  ", "2 more in the report"] {
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn a_command_is_never_cut() {
    let mut record = demo::passed();
    record.run.replay = format!("poolproof run {} --seed 42", "long-".repeat(60));
    let text = terminal(&record, TerminalStyle { width: 64, ..PLAIN });
    assert!(text.contains(&record.run.replay));
}

#[test]
fn markdown_tells_a_pass() {
    insta::assert_snapshot!(markdown(&demo::passed()));
}

#[test]
fn markdown_tells_a_pass_without_recovery() {
    insta::assert_snapshot!(markdown(&demo::passed_without_recovery()));
}

#[test]
fn markdown_tells_a_violation() {
    insta::assert_snapshot!(markdown(&demo::failed()));
}

#[test]
fn markdown_tells_why_a_run_is_invalid() {
    insta::assert_snapshot!(markdown(&demo::invalid()));
}

#[test]
fn markdown_fits_a_comment_and_keeps_its_tables() {
    for record in all() {
        let text = markdown(&record);
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
        let mut columns = 0;
        for line in text.lines() {
            let bars = line.replace("\\|", "").matches('|').count();
            if line.starts_with('|') && columns > 0 {
                assert_eq!(bars, columns, "{line}");
            }
            columns = if line.starts_with('|') { bars } else { 0 };
        }
    }
}

#[test]
fn hostile_text_is_inert_in_markdown() {
    let text = markdown(&extremes::hostile());
    // The replay command stands in a code block, where it is text whatever it holds.
    let block = text.find("```").unwrap();
    let prose = &text[..block];
    for active in ["<script", "<img", "[a](", "\n# h"] {
        assert!(!prose.contains(active), "{active}");
    }
    assert!(prose.contains("&lt;script&gt;"));
}

#[test]
fn junit_tells_a_violation() {
    insta::assert_snapshot!(junit(&demo::failed()).unwrap());
}

#[test]
fn junit_tells_why_a_run_is_invalid() {
    insta::assert_snapshot!(junit(&demo::invalid()).unwrap());
}

#[test]
fn junit_counts_one_case_per_guarantee_fault_and_objective() {
    // With one more for the run as a whole.
    for (record, tests, failures, errors, skipped) in [
        (demo::passed(), 14, 0, 0, 0),
        (demo::failed(), 14, 3, 0, 1),
        (demo::invalid(), 14, 0, 2, 2),
        (demo::partial(), 12, 0, 1, 3),
        (demo::empty(), 1, 0, 0, 1),
    ] {
        let xml = junit(&record).unwrap();
        let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        let suite = &report.test_suites[0];
        let found = (suite.tests, suite.failures, suite.errors, suite.skipped);
        assert_eq!(
            found,
            (tests, failures, errors, skipped),
            "{}",
            record.verdict
        );
    }
}

#[test]
fn junit_survives_every_record() {
    for record in all() {
        let xml = junit(&record).unwrap();
        let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        assert_eq!(report.test_suites.len(), 1);
    }
}
