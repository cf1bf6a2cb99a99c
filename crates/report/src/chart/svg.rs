//! Small words of SVG that all charts share.

use std::fmt::Write as _;

/// A place along the width. Charts stretch with the page, so widths are percentages.
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

/// A path, built from absolute coordinates.
#[derive(Debug, Default)]
pub(crate) struct Path {
    text: String,
}

impl Path {
    pub(crate) fn move_to(&mut self, x: f64, y: f64) {
        self.add('M', x, y);
    }

    pub(crate) fn line_to(&mut self, x: f64, y: f64) {
        self.add('L', x, y);
    }

    pub(crate) fn close(&mut self) {
        self.text.push('Z');
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn add(&mut self, command: char, x: f64, y: f64) {
        write!(self.text, "{command}{x:.2},{y:.1}")
            .expect("bug: a string takes all that is written to it");
    }
}
