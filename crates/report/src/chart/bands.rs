//! Faults on a chart: where each was in force, how long recovery took, and where its name goes.

use maud::{Markup, html};

use super::TimeAxis;
use super::svg::percent;
use crate::FaultReport;
use crate::units::{one_line, shorten};

/// Height of one line of names.
const LANE: u32 = 14;
/// Names in more lanes than this would push the chart away; the fault table still names them.
const LANES_MAX: usize = 6;
const NAME_MAX: usize = 18;
/// Widest letter of a name on average, in pixels.
const GLYPH: f64 = 6.8;
/// One row of the track: a line of text and the bar below it.
const TRACK_ROW: u32 = 34;
const BAR_HEIGHT: u32 = 10;
/// Average letter of the track.
const TRACK_GLYPH: f64 = 6.4;
const TITLE_MAX: usize = 70;
/// What the style sheet leaves beside a plot on a wide page, in pixels.
const LEFT_GUTTER: f64 = 58.0;
const RIGHT_GUTTER: f64 = 104.0;

/// The two layouts of names; the style sheet shows one of them.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Wide,
    Narrow,
}

impl Layout {
    fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    /// The narrowest plot that the layout must serve, in pixels.
    fn plot_width(self) -> f64 {
        match self {
            Self::Wide => 498.0,
            Self::Narrow => 236.0,
        }
    }
}

/// One fault as all charts show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    name: String,
    /// From and to, in percent of the axis.
    from: f64,
    to: f64,
    /// Until when the pool had not recovered, in percent of the axis.
    unwell_until: Option<f64>,
    /// Whether it recovered then, or only the run ended.
    recovered: bool,
}

/// Places faults on an axis.
pub(crate) fn bands(faults: &[&FaultReport], axis: &TimeAxis) -> Vec<Band> {
    faults
        .iter()
        .map(|fault| {
            let from = axis.percent(fault.event.start_us);
            let unwell_until = match fault.recovery_us {
                _ if !fault.event.effect.seen => None,
                Some(0) => None,
                Some(us) => Some(axis.percent(fault.event.end_us.saturating_add(us))),
                None => Some(100.0),
            };
            Band {
                name: shorten(&one_line(&fault.event.name), NAME_MAX),
                from,
                to: axis.percent(fault.event.end_us).max(from),
                unwell_until,
                recovered: fault.recovery_us.is_some(),
            }
        })
        .collect()
}

/// Draws the faults' names above a plot, each on a stem that stands on its fault's beginning.
pub(crate) fn draw_names(bands: &[Band]) -> Markup {
    html! {
        @for layout in [Layout::Wide, Layout::Narrow] {
            @let placed = place_names(bands, layout.plot_width());
            @let lanes = placed.iter().map(|p| p.lane + 1).max().unwrap_or(0).min(LANES_MAX);
            @let height = LANE * u32::try_from(lanes).unwrap_or(0) + 4;
            svg class=(format!("plot {}", layout.class())) width="100%" height=(height) aria-hidden="true" {
                @for (band, place) in bands.iter().zip(&placed).filter(|(_, p)| p.lane < LANES_MAX) {
                    @let y = LANE * u32::try_from(place.lane + 1).unwrap_or(0) - 2;
                    @let x = percent(band.from);
                    line.fault-edge x1=(x) x2=(x) y1=(y.saturating_sub(9)) y2=(height) {}
                    @if place.leftwards {
                        text.fault-name.end x=(x) y=(y) dx="-4" { (band.name) }
                    } @else {
                        text.fault-name x=(x) y=(y) dx="4" { (band.name) }
                    }
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NamePlace {
    lane: usize,
    /// To the left of the fault's beginning, because it would not fit to the right.
    leftwards: bool,
}

/// Gives each name the first lane in which it touches no other.
fn place_names(bands: &[Band], plot_width: f64) -> Vec<NamePlace> {
    let mut lanes: Vec<Vec<(f64, f64)>> = Vec::new();
    bands
        .iter()
        .map(|band| {
            let width = (band.name.chars().count() as f64 * GLYPH + 10.0) / plot_width * 100.0;
            let leftwards = band.from + width > 104.0;
            let from = if leftwards {
                band.from - width
            } else {
                band.from
            };
            let span = (from, from + width);
            let free = |lane: &Vec<(f64, f64)>| lane.iter().all(|t| span.1 <= t.0 || span.0 >= t.1);
            let lane = lanes.iter().position(free).unwrap_or(lanes.len());
            if lane == lanes.len() {
                lanes.push(Vec::new());
            }
            lanes[lane].push(span);
            NamePlace { lane, leftwards }
        })
        .collect()
}

/// Draws the faults' windows behind a plot that lies between `top` and `bottom`.
pub(crate) fn draw(bands: &[Band], top: u32, bottom: u32) -> Markup {
    let height = bottom - top;
    html! {
        // One group, so that recoveries that overlap do not look like something stronger.
        g.recoveries {
            @for (band, until) in unwell(bands) {
                rect x=(percent(band.to)) y=(top) width=(percent((until - band.to).max(0.0)))
                    height=(height) {}
            }
        }
        @for (_, until) in unwell(bands).filter(|(band, _)| band.recovered) {
            line.recovered x1=(percent(until)) x2=(percent(until)) y1=(top) y2=(bottom) {}
        }
        @for band in bands {
            @if band.to > band.from {
                rect.fault x=(percent(band.from)) y=(top)
                    width=(percent(band.to - band.from)) height=(height) {}
                line.fault-edge x1=(percent(band.to)) x2=(percent(band.to))
                    y1=(top) y2=(bottom) {}
            }
            // From the very top, where the stem of the name ends.
            line.fault-edge x1=(percent(band.from)) x2=(percent(band.from))
                y1="0" y2=(bottom) {}
        }
    }
}

fn unwell(bands: &[Band]) -> impl Iterator<Item = (&Band, f64)> {
    bands
        .iter()
        .filter_map(|band| Some((band, band.unwell_until?)))
}

/// Draws the faults as bars on the axis, one below the other: the window, then the recovery.
pub(crate) fn draw_track(track: &[TrackRow<'_>], axis: &TimeAxis) -> Markup {
    let rows = u32::try_from(track.len()).unwrap_or(0);
    let bottom = rows * TRACK_ROW + 2;
    html! {
        svg.plot role="img" width="100%" height=(bottom + 20) aria-labelledby="track-title track-desc" {
            title id="track-title" { "Faults over time" }
            desc id="track-desc" {
                @for row in track { (row.band.name) ": " (row.title) ", " (row.outcome) ". " }
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
    /// What was done; left out where the page is narrow.
    pub(crate) title: String,
    /// What came of it.
    pub(crate) outcome: String,
}

impl TrackRow<'_> {
    /// Where the text goes: to the right of the fault's beginning if it fits there, else to the side
    /// that has more room; and as much of the title as fits there on the narrowest wide page.
    fn beside_the_bar(&self) -> (f64, &'static str, String) {
        let band = self.band;
        let end = band.unwell_until.unwrap_or(band.to).max(band.to);
        let plot = Layout::Wide.plot_width();
        let rightwards = (100.0 - band.from) / 100.0 * plot + RIGHT_GUTTER;
        let leftwards = end / 100.0 * plot + LEFT_GUTTER;
        let fixed =
            (band.name.chars().count() + self.outcome.chars().count() + 5) as f64 * TRACK_GLYPH;
        let wanted = self.title.chars().count() as f64 * TRACK_GLYPH + fixed;
        let to_the_right = rightwards >= wanted.min(leftwards);
        let room = if to_the_right { rightwards } else { leftwards };
        let letters = (0..TITLE_MAX)
            .rev()
            .find(|n| *n as f64 * TRACK_GLYPH + fixed <= room);
        let title = shorten(&self.title, letters.unwrap_or(0));
        if to_the_right {
            (band.from, "track-name wide", title)
        } else {
            (end, "track-name wide end", title)
        }
    }

    fn draw(&self, y: u32) -> Markup {
        let band = self.band;
        let bar = y + 19;
        html! {
            @if let Some(until) = band.unwell_until {
                rect.track-recovery x=(percent(band.to)) y=(bar)
                    width=(percent((until - band.to).max(0.0))) height=(BAR_HEIGHT) {}
            }
            @if let Some(until) = band.unwell_until.filter(|_| band.recovered) {
                line.recovered x1=(percent(until)) x2=(percent(until))
                    y1=(bar - 2) y2=(bar + BAR_HEIGHT + 2) {}
            }
            @if band.to > band.from {
                rect.track-fault x=(percent(band.from)) y=(bar)
                    width=(percent(band.to - band.from)) height=(BAR_HEIGHT) {}
            }
            line.track-moment x1=(percent(band.from)) x2=(percent(band.from))
                y1=(bar - 2) y2=(bar + BAR_HEIGHT + 2) {}
            @let label_y = y + 13;
            text.track-name.narrow x="0" dx="-40" y=(label_y) {
                tspan.strong { (band.name) } tspan dx="6" { (self.outcome) }
            }
            @let (x, class, title) = self.beside_the_bar();
            text class=(class) x=(percent(x)) y=(label_y) {
                tspan.strong { (band.name) } tspan dx="6" { (title) " · " (self.outcome) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn band(name: &str, from: f64) -> Band {
        Band {
            name: name.into(),
            from,
            to: from,
            unwell_until: None,
            recovered: true,
        }
    }

    fn lanes(bands: &[Band]) -> Vec<usize> {
        place_names(bands, 498.0).iter().map(|p| p.lane).collect()
    }

    #[test]
    fn names_that_would_touch_take_another_lane() {
        let apart = [band("slow", 10.0), band("reset", 40.0)];
        assert_eq!(lanes(&apart), [0, 0]);
        let close = [
            band("slow", 10.0),
            band("reset", 12.0),
            band("silence", 40.0),
        ];
        assert_eq!(lanes(&close), [0, 1, 0]);
        let same = [band("a", 50.0), band("b", 50.0), band("c", 50.0)];
        assert_eq!(lanes(&same), [0, 1, 2]);
    }

    #[test]
    fn a_name_at_the_end_stands_to_the_left() {
        let placed = place_names(&[band("kill-backend", 99.0)], 498.0);
        assert_eq!(
            placed,
            [NamePlace {
                lane: 0,
                leftwards: true
            }]
        );
    }
}
