//! Errors as people should see them: what, where, why, and what to do.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};
use poolproof_report::Color;
use poolproof_run::{Problem, ScenarioError};

use crate::command::CommandError;
use crate::output;

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
        let count = match scenario.problems.len() {
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        let file = &scenario.file_name;
        text.extend(["\n", &count, " in ", file, "; nothing was started\n"]);
    }
    text
}

fn findings(error: &CommandError) -> Vec<Finding<'_>> {
    match error {
        CommandError::Scenario(scenario) => scenario
            .problems
            .iter()
            .map(|problem| Finding::of_problem(scenario, problem))
            .collect(),
        other => vec![Finding {
            message: other.to_string(),
            help: other.help(),
            cause: other.source(),
            place: None,
            labels: Vec::new(),
        }],
    }
}

/// One thing to show.
#[derive(Debug)]
struct Finding<'e> {
    message: String,
    help: Option<String>,
    cause: Option<&'e (dyn Error + 'static)>,
    place: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
}

impl<'e> Finding<'e> {
    fn of_problem(scenario: &ScenarioError, problem: &'e Problem) -> Self {
        let text = &scenario.source_text;
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
            place: Some(NamedSource::new(&scenario.file_name, text.clone())),
            labels,
        }
    }
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Finding<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
    }
}

impl Diagnostic for Finding<'_> {
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
