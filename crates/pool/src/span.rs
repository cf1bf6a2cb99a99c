//! Spans that tell how it ended, also where nobody stayed to see it.

use tracing::{Span, Value};

/// A span with the field `outcome`: what [`OutcomeSpan::end`] is given, else `dropped`, or `panicked` where that
/// happens while its thread unwinds.
#[derive(Debug)]
pub(crate) struct OutcomeSpan(Span);

impl OutcomeSpan {
    /// One that nobody listens to.
    pub(crate) const fn none() -> Self {
        Self(Span::none())
    }

    pub(crate) fn span(&self) -> &Span {
        &self.0
    }

    /// Whether there is nobody to tell, or all has been told.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.is_disabled()
    }

    pub(crate) fn record(&self, name: &str, value: impl Value) {
        self.0.record(name, value);
    }

    /// Tells the outcome. Nothing that is told later is heard.
    pub(crate) fn end(&mut self, outcome: &str) {
        std::mem::replace(&mut self.0, Span::none()).record("outcome", outcome);
    }
}

impl From<Span> for OutcomeSpan {
    fn from(span: Span) -> Self {
        let has_outcome = span
            .metadata()
            .is_none_or(|it| it.fields().field("outcome").is_some());
        debug_assert!(has_outcome, "bug: {span:?} cannot tell how it ended");
        Self(span)
    }
}

impl Drop for OutcomeSpan {
    fn drop(&mut self) {
        let unwinds = std::thread::panicking();
        self.end(if unwinds { "panicked" } else { "dropped" });
    }
}
