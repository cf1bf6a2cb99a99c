//! Faults on a chart: where each was in force, how long recovery took, and where its name goes.

use maud::{Markup, html};

use super::TimeAxis;
use super::svg::percent;
use crate::FaultReport;
use crate::units::{one_line, shorten};

/// Height of one line of names.
pub(crate) const LANE: u32 = 14;
/// Names in more lanes than this would push the chart away; the fault table still names them.
const LANES_MAX: usize = 6;
const NAME_MAX: usize = 18;
/// Names must not touch each other even where the plot is narrowest, in pixels.
const NARROWEST_PLOT: f64 = 236.0;
const GLYPH: f64 = 6.4;
/// One row of the track: a line of text and the bar below it.
const TRACK_ROW: u32 = 34;
const BAR_HEIGHT: u32 = 10;

/// One fault as all charts show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    name: String,
    /// From and to, in percent of the axis.
    from: f64,
    to: f64,
    /// Where recovery ended, in percent of the axis.
    recovered: Option<f64>,
    lane: usize,
    /// Whether the name stands to the left of the fault's start, because it would not fit.
    leftwards: bool,
}

/// Places faults, in the order of their beginning, so that their names do not collide.
pub(crate) fn bands(faults: &[&FaultReport], axis: &TimeAxis) -> Vec<Band> {
    let mut taken: Vec<Vec<(f64, f64)>> = Vec::new();
    faults
        .iter()
        .map(|fault| {
            let from = axis.percent(fault.event.start_us);
            let to = axis.percent(fault.event.end_us).max(from);
            let name = shorten(&one_line(&fault.event.name), NAME_MAX);
            let width = (name.chars().count() as f64 * GLYPH + 10.0) / NARROWEST_PLOT * 100.0;
            let leftwards = from + width > 104.0;
            let span = if leftwards {
                (from - width, from)
            } else {
                (from, from + width)
            };
            let recovered = fault
                .recovery_us
                .filter(|us| fault.event.effect.seen && *us > 0)
                .map(|us| axis.percent(fault.event.end_us.saturating_add(us)));
            Band {
                name,
                from,
                to,
                recovered,
                lane: claim(&mut taken, span),
                leftwards,
            }
        })
        .collect()
}

fn claim(taken: &mut Vec<Vec<(f64, f64)>>, span: (f64, f64)) -> usize {
    let free = |lane: &Vec<(f64, f64)>| lane.iter().all(|t| span.1 <= t.0 || span.0 >= t.1);
    let lane = taken.iter().position(free).unwrap_or(taken.len());
    if lane == taken.len() {
        taken.push(Vec::new());
    }
    taken[lane].push(span);
    lane
}

/// How many lanes of names stand above each chart.
pub(crate) fn lanes(bands: &[Band]) -> u32 {
    let lanes = bands.iter().map(|b| b.lane + 1).max().unwrap_or(0);
    u32::try_from(lanes.min(LANES_MAX)).unwrap_or(0)
}

/// Draws the faults' windows behind a plot that lies between `top` and `bottom`.
pub(crate) fn draw(bands: &[Band], top: u32, bottom: u32) -> Markup {
    let height = bottom - top;
    html! {
        @for band in bands {
            @if let Some(recovered) = band.recovered {
                rect.recovery x=(percent(band.to)) y=(top)
                    width=(percent((recovered - band.to).max(0.0))) height=(height) {}
                line.recovered x1=(percent(recovered)) x2=(percent(recovered))
                    y1=(top) y2=(bottom) {}
            }
            @if band.to > band.from {
                rect.fault x=(percent(band.from)) y=(top)
                    width=(percent(band.to - band.from)) height=(height) {}
                line.fault-edge x1=(percent(band.to)) x2=(percent(band.to))
                    y1=(top) y2=(bottom) {}
            }
            line.fault-edge x1=(percent(band.from)) x2=(percent(band.from))
                y1=(top) y2=(bottom) {}
        }
    }
}

/// Draws the faults' names above a plot that begins at `top`, each on a stem that stands on its
/// fault's beginning.
pub(crate) fn draw_names(bands: &[Band], top: u32) -> Markup {
    html! {
        @for band in bands.iter().filter(|b| b.lane < LANES_MAX) {
            @let y = LANE * u32::try_from(band.lane + 1).unwrap_or(0) - 4;
            @let x = percent(band.from);
            line.fault-edge x1=(x) x2=(x) y1=(y.saturating_sub(8)) y2=(top) {}
            @if band.leftwards {
                text.fault-name.end x=(x) y=(y) dx="-4" { (band.name) }
            } @else {
                text.fault-name x=(x) y=(y) dx="4" { (band.name) }
            }
        }
    }
}

/// Draws the faults as bars on the axis, one below the other: the window, then the recovery.
pub(crate) fn draw_track(track: &[TrackRow<'_>], axis: &TimeAxis) -> Markup {
    let rows = u32::try_from(track.len()).unwrap_or(0);
    let bottom = rows * TRACK_ROW + 2;
    html! {
        svg.plot role="img" width="100%" height=(bottom + 20) aria-labelledby="track-title track-desc" {
            title id="track-title" { "Faults over time" }
            desc id="track-desc" {
                @for row in track { (row.band.name) ": " (row.text) ". " }
            }
            (hatch())
            @for (at_us, _) in axis.ticks() {
                @let x = percent(axis.percent(at_us));
                line.grid x1=(x) x2=(x) y1="0" y2=(bottom) {}
            }
            @for (i, row) in (0_u32..).zip(track) {
                @let y = i * TRACK_ROW;
                (row.draw(y))
            }
            (super::draw_axis(axis, bottom))
        }
    }
}

/// One fault in the track.
#[derive(Debug)]
pub(crate) struct TrackRow<'a> {
    pub(crate) band: &'a Band,
    /// What happened, with its recovery.
    pub(crate) text: String,
}

impl TrackRow<'_> {
    fn draw(&self, y: u32) -> Markup {
        let band = self.band;
        let bar = y + 19;
        html! {
            @if let Some(recovered) = band.recovered {
                rect.track-recovery x=(percent(band.to)) y=(bar)
                    width=(percent((recovered - band.to).max(0.0))) height=(BAR_HEIGHT) {}
                line.recovered x1=(percent(recovered)) x2=(percent(recovered))
                    y1=(bar - 2) y2=(bar + BAR_HEIGHT + 2) {}
            }
            rect.track-fault x=(percent(band.from)) y=(bar)
                width=(percent(band.to - band.from)) height=(BAR_HEIGHT) {}
            @let label_y = y + 13;
            // Beside the bar where there is room, at the left edge where there is not.
            text.track-name.narrow x="0" y=(label_y) {
                tspan.strong { (band.name) } tspan dx="6" { (self.text) }
            }
            @if band.from > 55.0 {
                text.track-name.wide.end x=(percent(band.to.max(band.recovered.unwrap_or(0.0)))) y=(label_y) {
                    tspan.strong { (band.name) } tspan dx="6" { (self.text) }
                }
            } @else {
                text.track-name.wide x=(percent(band.from)) y=(label_y) {
                    tspan.strong { (band.name) } tspan dx="6" { (self.text) }
                }
            }
        }
    }
}

/// The pattern of fault windows, so that they are told from recovery without colour.
fn hatch() -> Markup {
    html! {
        defs {
            pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                rect.hatch-ground width="6" height="6" {}
                line.hatch-line x1="0" y1="0" x2="0" y2="6" {}
            }
        }
    }
}
