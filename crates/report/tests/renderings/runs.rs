//! Several runs in one table.

use std::path::PathBuf;

use poolproof_report::runs::{Attempt, markdown, terminal};
use poolproof_report::{Color, Record, TerminalStyle, markdown as markdown_of_one};

use crate::{demo, extremes};

const PLAIN: TerminalStyle = TerminalStyle {
    color: Color::Never,
    width: 80,
};

fn judged(mut record: Record, seed: u64) -> Attempt {
    record.run.seed = seed;
    let subject = record.subject.name.replace(':', "-");
    Attempt::Judged {
        record: Box::new(record),
        folder: PathBuf::from(format!(
            "reports/quickstart/20260302T091407Z-{subject}-s{seed}"
        )),
    }
}

fn some() -> Vec<Attempt> {
    vec![
        judged(demo::passed(), 9),
        judged(demo::failed(), 10),
        judged(demo::invalid(), 11),
        Attempt::NotRun {
            scenario: "quickstart".into(),
            subject: "poolproof".to_owned(),
            seed: 12,
            reason: "the scenario quickstart was not run: no Postgres".into(),
        },
    ]
}

#[test]
fn the_table_tells_each_seed_and_what_failed() {
    insta::assert_snapshot!(terminal(&some(), 20, PLAIN));
}

#[test]
fn the_markdown_tells_each_seed_and_what_failed() {
    let text = markdown(&some(), 20);
    let table = text.find("<details>").unwrap();
    insta::assert_snapshot!(&text[..table]);
    // The whole of those that did not pass, and only of those.
    assert!(text.contains("## ✗ FAIL · quickstart"));
    assert!(text.contains("## ! INVALID · quickstart"));
    assert!(!text.contains("✓ PASS · quickstart"));
}

#[test]
fn several_scenarios_are_told_apart() {
    let mut other = demo::passed();
    other.run.scenario = "outage".into();
    let text = terminal(&[judged(demo::passed(), 3), judged(other, 3)], 2, PLAIN);
    assert!(text.starts_with("2 runs: 2 PASS\n"), "{text}");
    for name in ["  quickstart 3  ✓ PASS", "      outage 3  ✓ PASS"] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn one_run_looks_as_it_does_alone() {
    let one = [judged(demo::passed(), 42)];
    assert_eq!(markdown(&one, 1), markdown_of_one(&demo::passed()));
    // Unless others were to follow.
    assert!(markdown(&one, 20).starts_with("## ! 1 run of 20 passed\n"));
}

#[test]
fn a_thousand_runs_still_fit_a_comment() {
    for mut record in [demo::passed(), extremes::hostile(), extremes::huge()] {
        record.timeline.clear();
        record.commits_in_doubt.truncate(30);
        let many: Vec<Attempt> = (0..1_000)
            .map(|seed| judged(record.clone(), seed))
            .collect();
        let text = markdown(&many, 1_000);
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
        assert!(text.contains("more"), "{text}");
        for line in terminal(&many[..5], 5, PLAIN).lines() {
            assert!(!line.contains('\u{1b}'));
        }
    }
}
