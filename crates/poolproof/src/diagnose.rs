//! Errors as people should see them: what, where, why, and what to do.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};
use poolproof_report::Color;
use poolproof_run::{Problem, ScenarioError};

use crate::command::CommandError;
use crate::output;

/// How many problems of a scenario are shown: nobody mends more before running it again.
const SHOWN: usize = 20;

/// Shows an error on standard error.
pub(crate) fn show(error: &CommandError) {
    let style = output::stderr_style();
    let theme = match (style.color, io::stderr().is_terminal()) {
        (Color::Always, _) => GraphicalTheme::unicode(),
        (Color::Never, true) => GraphicalTheme::unicode_nocolor(),
        // A log file is read with anything.
        (Color::Never, false) => GraphicalTheme::none(),
    };
    output::tell(&render(error, theme, style.width));
}

/// Renders an error: one diagnostic, or one for each problem of a scenario.
pub(crate) fn render(error: &CommandError, theme: GraphicalTheme, width: usize) -> String {
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_context_lines(1)
        .with_links(false);
    let mut text = String::new();
    for (index, finding) in findings(error).iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        if handler.render_report(&mut text, finding).is_err() {
            // Formatting failed on a strange span; the message itself must get through.
            text.push_str(&finding.message);
            text.push('\n');
        }
    }
    if let CommandError::Scenario(scenario) = error {
        if let Some(more @ 1..) = scenario.problems.len().checked_sub(SHOWN) {
            text.extend(["\nand ", &more.to_string(), " more\n"]);
        }
        let count = match scenario.problems.len() {
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        let file = &scenario.file_name;
        text.extend(["\n", &count, " in ", file, "; nothing was started\n"]);
    }
    text
}

fn findings(error: &CommandError) -> Vec<Finding> {
    match error {
        CommandError::Scenario(scenario) => {
            let text: Arc<str> = scenario.source_text.as_str().into();
            let place = |problem| Finding::of_problem(scenario, &text, problem);
            scenario.problems.iter().take(SHOWN).map(place).collect()
        }
        other => vec![Finding {
            message: output::without_passwords(&other.to_string()),
            help: other.help(),
            cause: Cause::of(other),
            place: None,
            labels: Vec::new(),
        }],
    }
}

/// One thing to show.
#[derive(Debug)]
struct Finding {
    message: String,
    help: Option<String>,
    cause: Option<Box<Cause>>,
    place: Option<NamedSource<Arc<str>>>,
    labels: Vec<LabeledSpan>,
}

impl Finding {
    fn of_problem(scenario: &ScenarioError, text: &Arc<str>, problem: &Problem) -> Self {
        let label = |span: &std::ops::Range<usize>, words: &str| {
            let start = span.start.min(text.len());
            LabeledSpan::new(
                Some(words.to_owned()),
                start,
                span.end.clamp(start, text.len()) - start,
            )
        };
        let mut labels = vec![label(&problem.span, &problem.label)];
        if let Some((span, words)) = &problem.related {
            labels.push(label(span, words));
        }
        Self {
            message: problem.message.clone(),
            help: problem.help.clone(),
            cause: None,
            place: Some(NamedSource::new(&scenario.file_name, Arc::clone(text))),
            labels,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Finding {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn Error)
    }
}

/// What a cause says, and its own cause: each once, however often the libraries repeat it.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Self>>,
}

impl Cause {
    fn of(error: &CommandError) -> Option<Box<Self>> {
        let texts = poolproof_run::causes(error).into_iter();
        texts.rev().fold(None, |next, text| {
            let text = output::without_passwords(&text);
            Some(Box::new(Self { text, next }))
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_deref().map(|next| next as &dyn Error)
    }
}

impl Diagnostic for Finding {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| place as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use poolproof_run::{QUICKSTART, Scenario};

    use super::*;

    /// Renders as for a terminal without colours, 90 columns wide.
    fn shown(error: &CommandError) -> String {
        render(error, GraphicalTheme::unicode_nocolor(), 90)
    }

    /// What is shown when one passage of the quickstart is changed.
    fn edited(changes: &[(&str, &str)]) -> String {
        let text = changes
            .iter()
            .fold(QUICKSTART.to_owned(), |text, (from, to)| {
                assert_eq!(text.matches(from).count(), 1, "{from:?}");
                text.replace(from, to)
            });
        let error = Scenario::parse("edited.toml", &text).unwrap_err();
        shown(&CommandError::Scenario(error))
    }

    /// Name of the snapshot, and one change to the quickstart.
    const MISTAKES: &[(&str, &str, &str)] = &[
        ("misspelt_key", "pool_size = 5 ", "pool_sise = 5 "),
        ("key_of_another_section", "pool_size = 5 ", "rate = 5 "),
        ("pool_size_zero", "pool_size = 5 ", "pool_size = 0 "),
        ("pool_size_negative", "pool_size = 5 ", "pool_size = -3 "),
        ("pool_size_text", "pool_size = 5 ", "pool_size = \"5\" "),
        ("no_unit", "duration = \"20s\"", "duration = \"20\""),
        (
            "number_for_a_duration",
            "pool_timeout = \"1s\"",
            "pool_timeout = 1",
        ),
        ("unknown_unit", "duration = \"20s\"", "duration = \"20sec\""),
        ("unknown_workload", "kind = \"bank\"", "kind = \"bnak\""),
        ("unknown_toxic", "kind = \"latency\" ", "kind = \"latncy\" "),
        ("missing_key", "duration = \"20s\"\n", ""),
        ("name_used_twice", "name = \"silence\"", "name = \"reset\""),
        ("after_the_end", "at = \"16s\"", "at = \"26s\""),
        ("window_without_end", "for = \"2s\"\n", ""),
        ("syntax", "rate = 400 ", "rate 400 "),
    ];

    #[test]
    fn each_mistake_in_a_scenario_is_shown_at_its_line() {
        for (name, from, to) in MISTAKES {
            insta::assert_snapshot!(*name, edited(&[(from, to)]));
        }
    }

    #[test]
    fn faults_that_contradict_each_other_are_both_marked() {
        let text = edited(&[
            ("kind = \"silence\" ", "kind = \"down\" "),
            ("at = \"16s\"", "at = \"11s\""),
        ]);
        insta::assert_snapshot!("fault_within_a_fault", text);
    }

    #[test]
    fn several_mistakes_are_shown_together() {
        let text = edited(&[
            ("pool_size = 5 ", "pool_size = 0 "),
            ("rate = 400 ", "rat = 400 "),
            ("target = \"in-transaction\"", "target = \"intransaction\""),
        ]);
        insta::assert_snapshot!("several_mistakes", text);
    }

    #[test]
    fn an_empty_scenario_is_shown_without_a_place() {
        let error = Scenario::parse("empty.toml", "").unwrap_err();
        insta::assert_snapshot!("empty_file", shown(&CommandError::Scenario(error)));
    }

    #[test]
    fn an_error_is_followed_by_its_causes_and_the_remedy() {
        let error = CommandError::Read {
            path: PathBuf::from("nosuch.toml"),
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        insta::assert_snapshot!("missing_file", shown(&error));
    }

    #[test]
    fn a_log_file_gets_plain_ascii() {
        let error = Scenario::parse("f.toml", "name = 1").unwrap_err();
        let text = render(&CommandError::Scenario(error), GraphicalTheme::none(), 90);
        assert!(text.is_ascii(), "{text}");
        assert!(text.contains("f.toml:1:8"), "{text}");
    }
}
