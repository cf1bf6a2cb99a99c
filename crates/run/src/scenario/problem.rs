//! What is wrong with a scenario file, with the places in its text.

use std::cell::RefCell;
use std::ops::Range;

use thiserror::Error;

/// A scenario file that cannot be run, with every problem found in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("scenario {file_name} has {}: {}", count(.problems), first(.problems))]
pub struct ScenarioError {
    /// What the file is called.
    pub file_name: String,
    /// Its text.
    pub source_text: String,
    /// At least one problem, in the order of the text.
    pub problems: Vec<Problem>,
}

/// One problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in one phrase.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The bytes of the text that are wrong.
    pub span: Range<usize>,
    /// A few words beside the marked place.
    pub label: String,
    /// Another place that the problem is about, with its own few words.
    pub related: Option<(Range<usize>, String)>,
}

/// The problems found so far in a file, shared by all that read it.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(super) fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    pub(super) fn into_vec(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|p| p.span.start);
        problems
    }
}

impl Problem {
    pub(super) fn new(span: Range<usize>, message: String, label: &str) -> Self {
        Self {
            message,
            help: None,
            span,
            label: label.to_owned(),
            related: None,
        }
    }

    pub(super) fn help(mut self, help: String) -> Self {
        self.help = Some(help);
        self
    }

    pub(super) fn related(mut self, span: Range<usize>, label: &str) -> Self {
        self.related = Some((span, label.to_owned()));
        self
    }
}

fn count(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "a problem".to_owned(),
        many => format!("{many} problems"),
    }
}

fn first(problems: &[Problem]) -> &str {
    problems.first().map_or("unknown", |p| &p.message)
}
