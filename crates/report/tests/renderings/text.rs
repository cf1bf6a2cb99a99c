//! Terminal, Markdown and JUnit, as they come out for each kind of run.

use poolproof_report::{Color, CutShort, Record, TerminalStyle, markdown, terminal};

use crate::{demo, extremes};

const PLAIN: TerminalStyle = TerminalStyle {
    color: Color::Never,
    width: 100,
};

pub(crate) fn all() -> Vec<Record> {
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
                width: 300,
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
fn terminal_never_takes_more_than_a_screen_and_its_width() {
    for record in all().into_iter().chain((0..8).map(extremes::broken)) {
        for width in [20, 80, 100] {
            let text = terminal(&record, TerminalStyle { width, ..PLAIN });
            // Whatever a record holds; a real one takes a dozen.
            assert!(text.lines().count() <= 200, "{text}");
            assert!(text.ends_with('\n'));
            for line in text.lines().filter(|line| !line.starts_with("  replay")) {
                assert!(line.chars().count() <= width.max(64), "{line}");
            }
        }
    }
}

/// Goal: on a narrow terminal nothing is lost and no word is broken. Method: the words of a wide
/// one, in their order.
#[test]
fn what_does_not_fit_into_a_line_goes_on_in_the_next() {
    let words = |record: &Record, width| -> Vec<String> {
        let text = terminal(record, TerminalStyle { width, ..PLAIN });
        let words = text.split(|c: char| c.is_whitespace() || c == ':' || c == '·');
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    for mut record in [
        demo::passed(),
        demo::failed(),
        demo::invalid(),
        demo::partial(),
    ] {
        // They stand on a line of their own or not, as there is room.
        record.commits_in_doubt.clear();
        let narrow = words(&record, 80);
        assert!(!narrow.iter().any(|word| word.contains('…')), "{narrow:?}");
        assert_eq!(narrow, words(&record, 4_000));
    }
}

#[test]
fn an_item_begins_a_line_after_one_that_took_several() {
    let mut record = demo::passed();
    let long = "the generator lagged by 325.631 ms at p99, so no time that it took can be trusted";
    for name in ["reset", "silence"] {
        let mut objective = record.objectives[0].clone();
        objective.name = name.into();
        objective.summary = long.into();
        record.objectives.push(objective);
    }
    let text = terminal(&record, TerminalStyle { width: 80, ..PLAIN });
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("  objectives"));
    let lines: Vec<&str> = lines.take(5).collect();
    assert_eq!(
        lines,
        [
            "  objectives  ✓ held recovery: every fault recovered within 5 s (slowest: 2.8 s)",
            "              ✓ held reset: the generator lagged by 325.631 ms at p99, so no",
            "              time that it took can be trusted",
            "              ✓ held silence: the generator lagged by 325.631 ms at p99, so no",
            "              time that it took can be trusted",
        ]
    );
}

#[test]
fn terminal_tells_a_violation_in_80_columns() {
    let narrow = TerminalStyle { width: 80, ..PLAIN };
    insta::assert_snapshot!(terminal(&demo::failed(), narrow));
}

/// Goal: what a reader sees first is what ended the run, and what it came to.
#[test]
fn the_headline_says_how_the_run_ended() {
    let (user, server) = (Some(CutShort::Interrupted), Some(CutShort::ServerLost));
    for (record, cut_short, headline) in [
        (demo::passed(), None, "✓ PASS"),
        (demo::failed(), None, "✗ FAIL"),
        (demo::empty(), None, "? INCONCLUSIVE"),
        (demo::invalid(), None, "! INVALID"),
        (demo::partial(), user, "! INTERRUPTED"),
        (demo::partial(), server, "! SERVER LOST"),
        // What was found broken before is broken.
        (demo::failed(), server, "✗ FAIL"),
        (demo::failed(), user, "✗ FAIL"),
    ] {
        let mut record = record;
        record.run.cut_short = cut_short;
        let text = terminal(&record, PLAIN);
        assert!(text.starts_with(headline), "{text}");
        let text = markdown(&record);
        assert!(text.starts_with(&format!("## {headline}")), "{text}");
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
fn findings_beyond_the_first_are_counted() {
    let text = terminal(&extremes::all_broken(), PLAIN);
    assert!(text.contains("✗ violated  L1"), "{text}");
    assert!(
        text.contains("  …           3 more in the report"),
        "{text}"
    );
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
