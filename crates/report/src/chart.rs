//! Charts as inline SVG that stretch with the page: several plots over one time axis.
//!
//! Widths are percentages and heights are pixels; paths live in a nested `<svg>` that is
//! stretched while its strokes are not. So one drawing serves every width without a script.
//!
//! Not here: colours and fonts (the page's style sheet), and what is worth a chart.

mod bands;
mod scale;
mod svg;

use maud::{Markup, html};

pub(crate) use bands::{Band, TrackRow, bands, draw_track};
pub(crate) use scale::{Scale, TimeAxis};
use svg::{Path, percent};

/// Height of a line of direct labels; closer ones are moved apart.
const LABEL_GAP: f64 = 13.0;
/// Below the last plot: the labels of the time axis.
const AXIS_HEIGHT: u32 = 20;
const BELOW: u32 = 8;

/// One value per bucket, none where nothing was measured.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) label: String,
    /// A second line under the label of bars.
    pub(crate) note: String,
    pub(crate) mark: SeriesMark,
    pub(crate) values: Vec<Option<f64>>,
}

/// How a series is drawn. Each differs from the others without colour too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeriesMark {
    Solid,
    Area,
    Dashed,
    Dotted,
    Reference,
    Bars,
    PlannedBars,
}

impl SeriesMark {
    fn class(self) -> &'static str {
        match self {
            Self::Solid | Self::Area => "solid",
            Self::Dashed => "dashed",
            Self::Dotted => "dotted",
            Self::Reference => "reference",
            Self::Bars => "bars",
            Self::PlannedBars => "bars planned",
        }
    }

    fn is_bars(self) -> bool {
        matches!(self, Self::Bars | Self::PlannedBars)
    }
}

/// What all plots of one figure share.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) axis: &'a TimeAxis,
    pub(crate) bands: &'a [Band],
    /// Begin and end of each bucket, in microseconds.
    pub(crate) buckets: &'a [(u64, u64)],
}

/// One plot.
#[derive(Debug)]
pub(crate) struct Plot {
    /// Unique within the page.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) scale: Scale,
    /// Writes a value with its unit, for tips and descriptions.
    pub(crate) format: fn(f64) -> String,
    /// Writes a tick's label, short.
    pub(crate) tick: fn(f64) -> String,
    pub(crate) height: u32,
    pub(crate) series: Vec<Series>,
    /// A value to compare with, and its name.
    pub(crate) limit: Option<(f64, String)>,
    pub(crate) edge: Edge,
}

/// What a plot shows around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The names of the faults above.
    Named,
    /// The names of the faults above and the time axis below.
    NamedWithAxis,
    /// Neither: a row of a group.
    Bare,
    /// Only the time axis below.
    Axis,
}

impl Plot {
    /// Draws the plot.
    pub(crate) fn draw(&self, frame: &Frame<'_>) -> Markup {
        let named = matches!(self.edge, Edge::Named | Edge::NamedWithAxis);
        let axis = matches!(self.edge, Edge::Axis | Edge::NamedWithAxis);
        let top = 2;
        let bottom = top + self.height;
        let total = bottom + if axis { AXIS_HEIGHT } else { BELOW };
        let title_id = format!("{}-title", self.id);
        let desc_id = format!("{}-desc", self.id);
        html! {
            @if named { (bands::draw_names(frame.bands)) }
            svg.plot role="img" width="100%" height=(total)
                aria-labelledby=(format!("{title_id} {desc_id}")) {
                title id=(title_id) { (self.title) }
                desc id=(desc_id) { (self.describe(frame)) }
                (self.draw_grid(frame, top, bottom))
                (bands::draw(frame.bands, top, bottom))
                (self.draw_values(frame, top))
                (self.draw_labels(top))
                @if axis { (draw_axis(frame.axis, bottom)) }
            }
        }
    }

    fn y(&self, value: f64) -> f64 {
        f64::from(self.height) * (1.0 - self.scale.place(value))
    }

    fn draw_grid(&self, frame: &Frame<'_>, top: u32, bottom: u32) -> Markup {
        html! {
            @for tick in &self.scale.ticks {
                @let y = f64::from(top) + self.y(*tick);
                line.grid x1="0" x2="100%" y1=(y) y2=(y) {}
                @if matches!(self.edge, Edge::Named | Edge::NamedWithAxis) {
                    text.tick x="0" dx="-8" y=(y) dy="4" { ((self.tick)(*tick)) }
                }
            }
            @for (at_us, _) in frame.axis.ticks() {
                @let x = percent(frame.axis.percent(at_us));
                line.grid x1=(x) x2=(x) y1=(top) y2=(bottom) {}
            }
        }
    }

    fn draw_values(&self, frame: &Frame<'_>, top: u32) -> Markup {
        html! {
            svg x="0" y=(top) width="100%" height=(self.height) preserveAspectRatio="none" overflow="visible"
                viewBox=(format!("0 0 100 {}", self.height)) {
                @for series in &self.series {
                    @if series.mark == SeriesMark::Area {
                        path.area d=(self.filled(series, frame, 0.0)) {}
                    }
                    @if series.mark.is_bars() {
                        path class=(series.mark.class()) d=(self.filled(series, frame, 0.12)) {}
                    } @else {
                        path class=(format!("line {}", series.mark.class())) d=(self.stepped(series, frame)) {}
                    }
                }
                @if let Some((value, _)) = &self.limit {
                    @let y = self.y(*value);
                    path.line.limit d=(format!("M0,{y:.1}L100,{y:.1}")) {}
                }
                @for (i, &(from, to)) in frame.buckets.iter().enumerate() {
                    @let x = frame.axis.percent(from);
                    rect.hit x=(format!("{x:.2}")) y="0" height=(self.height)
                        width=(format!("{:.2}", frame.axis.percent(to) - x)) {
                        title { (self.tip(i, (from, to))) }
                    }
                }
            }
        }
    }

    /// A line that is level over each bucket and broken where nothing was measured.
    fn stepped(&self, series: &Series, frame: &Frame<'_>) -> String {
        let mut path = Path::default();
        let mut drawing = false;
        for (&(from, to), value) in frame.buckets.iter().zip(&series.values) {
            let Some(value) = value else {
                drawing = false;
                continue;
            };
            let (x0, x1, y) = (
                frame.axis.percent(from),
                frame.axis.percent(to),
                self.y(*value),
            );
            if drawing {
                path.line_to(x0, y);
            } else {
                path.move_to(x0, y);
            }
            path.line_to(x1, y);
            drawing = true;
        }
        path.into_text()
    }

    /// One rectangle per bucket, narrower than the bucket by `gap` of its width.
    fn filled(&self, series: &Series, frame: &Frame<'_>, gap: f64) -> String {
        let mut path = Path::default();
        let base = f64::from(self.height);
        for (&(from, to), value) in frame.buckets.iter().zip(&series.values) {
            let Some(value) = value.filter(|v| *v > 0.0) else {
                continue;
            };
            let (x0, x1) = (frame.axis.percent(from), frame.axis.percent(to));
            let inset = (x1 - x0) * gap / 2.0;
            // A single error among thousands must still be seen.
            let y = self.y(value).min(base - 1.5);
            path.move_to(x0 + inset, base);
            path.line_to(x0 + inset, y);
            path.line_to(x1 - inset, y);
            path.line_to(x1 - inset, base);
            path.close();
        }
        path.into_text()
    }

    fn tip(&self, bucket: usize, (from, to): (u64, u64)) -> String {
        let told: Vec<String> = self
            .series
            .iter()
            .map(|s| match s.values.get(bucket).copied().flatten() {
                Some(value) => format!("{} {}", s.label, (self.format)(value)),
                None => format!("{} –", s.label),
            })
            .collect();
        format!(
            "{} – {}: {}",
            crate::units::moment_u(from),
            crate::units::moment_u(to),
            told.join(", ")
        )
    }

    fn describe(&self, frame: &Frame<'_>) -> String {
        let told: Vec<String> = self
            .series
            .iter()
            .map(|s| match highest(s, frame) {
                Some((value, at_us)) => format!(
                    "{}: at most {}, at {}.",
                    s.label,
                    (self.format)(value),
                    crate::units::moment_u(at_us)
                ),
                None => format!("{}: nothing measured.", s.label),
            })
            .collect();
        told.join(" ")
    }

    /// The name of each line beside its end, with a piece of the line, none on top of another.
    fn draw_labels(&self, top: u32) -> Markup {
        let (bars, lines): (Vec<&Series>, Vec<&Series>) =
            self.series.iter().partition(|s| s.mark.is_bars());
        let mut labels: Vec<(f64, &str, &str)> = lines
            .iter()
            .filter_map(|s| {
                let last = s.values.iter().rev().copied().flatten().next()?;
                Some((self.y(last), s.mark.class(), s.label.as_str()))
            })
            .collect();
        if let Some((value, name)) = &self.limit {
            labels.push((self.y(*value), "limit", name));
        }
        spread(&mut labels, f64::from(self.height));
        html! {
            svg x="100%" y=(top) overflow="visible" {
                @for series in bars {
                    text.label x="8" y=(self.height / 2) { (series.label) }
                    text.label.note x="8" y=(self.height / 2) dy="12" { (series.note) }
                }
                @for (y, class, label) in labels {
                    @let y = format!("{y:.1}");
                    line class=(format!("line {class}")) x1="5" x2="21" y1=(y) y2=(y) {}
                    text.label x="25" y=(y) dy="4" { (label) }
                }
            }
        }
    }
}

/// Moves labels apart that are closer than a line of text, and keeps them beside the plot.
fn spread(labels: &mut [(f64, &str, &str)], height: f64) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut next = 0.0_f64;
    for label in labels.iter_mut() {
        label.0 = label.0.max(next);
        next = label.0 + LABEL_GAP;
    }
    let mut last = height;
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(last);
        last = label.0 - LABEL_GAP;
    }
}

fn highest(series: &Series, frame: &Frame<'_>) -> Option<(f64, u64)> {
    frame
        .buckets
        .iter()
        .zip(&series.values)
        .filter_map(|(bucket, value)| Some(((*value)?, bucket.0)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// Draws the labels of the time axis; every other one gives way where the page is narrow.
fn draw_axis(axis: &TimeAxis, y: u32) -> Markup {
    html! {
        @for (i, (at_us, label)) in axis.ticks().into_iter().enumerate() {
            @let class = if i % 2 == 1 { "tick time minor" } else { "tick time" };
            text class=(class) x=(percent(axis.percent(at_us))) y=(y + 15) { (label) }
        }
    }
}
