//! The run over time: small multiples that share one time axis.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::condense::{POINTS_MAX, condense};
use crate::chart::{self, Band, Edge, Frame, Plot, Scale, Series, SeriesMark, TimeAxis, TrackRow};
use crate::headline;
use crate::units::{count, duration, one_line, shorten, three_digits};
use crate::{Bucket, FaultReport, Record};

/// More categories of errors than this share the last row.
const CATEGORIES_MAX: usize = 8;

pub(super) fn section(record: &Record) -> Markup {
    let buckets = condense(&record.timeline);
    html! {
        section aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            @if buckets.is_empty() {
                p.empty { "The record holds no timeline." }
            } @else {
                (super::invalid_tag(record))
                @if buckets.len() < record.timeline.len() {
                    p.remark {
                        "The run has " (count(headline::as_u64(record.timeline.len())))
                        " intervals. For " (POINTS_MAX) " points at most, neighbours are joined: counts add up, "
                        "percentiles and gauges keep their largest value."
                    }
                }
                (legend(record))
                (Charts::new(record, &buckets).draw())
            }
        }
    }
}

fn legend(record: &Record) -> Markup {
    html! {
        @if !record.faults.is_empty() {
            p.legend {
                span.swatch.fault-swatch aria-hidden="true" {}
                "fault in force "
                span.swatch.recovery-swatch aria-hidden="true" {}
                "not yet recovered "
                span.remark { "Point at a chart for the figures of each interval." }
            }
        }
    }
}

struct Charts<'a> {
    record: &'a Record,
    buckets: &'a [Bucket],
    spans: Vec<(u64, u64)>,
    axis: TimeAxis,
    bands: Vec<Band>,
    ordered: Vec<&'a FaultReport>,
}

impl<'a> Charts<'a> {
    fn new(record: &'a Record, buckets: &'a [Bucket]) -> Self {
        let spans: Vec<(u64, u64)> = buckets
            .iter()
            .map(|b| (b.start_us, b.start_us.saturating_add(b.width_us)))
            .collect();
        let end_us = spans.iter().map(|s| s.1).max().unwrap_or(0);
        let axis = TimeAxis::new(end_us);
        let mut ordered: Vec<&FaultReport> = record.faults.iter().collect();
        ordered.sort_by_key(|f| f.event.start_us);
        Self {
            record,
            buckets,
            spans,
            bands: chart::bands(&ordered, &axis),
            axis,
            ordered,
        }
    }

    fn draw(&self) -> Markup {
        let frame = Frame {
            axis: &self.axis,
            bands: &self.bands,
            buckets: &self.spans,
        };
        html! {
            div.charts {
                (self.track())
                (figure("Rate", "operations per second: offered by arrival, ok by end", &[self.rate()], &frame))
                (figure("Response time", "of operations that came to ok, by their end, from the intended start; log scale", &[self.response()], &frame))
                (figure("Acquire time", "of operations that got a connection; log scale", &[self.acquire()], &frame))
                @if let Some(plot) = self.connections() {
                    (figure("Connections", "at the end of each interval", &[plot], &frame))
                }
                @if let Some(plot) = self.waiting() {
                    (figure("Waiting callers", "at the end of each interval", &[plot], &frame))
                }
                @if let Some(plot) = self.opened() {
                    (figure("Connections opened", "within each interval", &[plot], &frame))
                }
                (figure("Errors and planned ends", "by category and by their end, all on one scale", &self.errors(), &frame))
            }
        }
    }

    fn track(&self) -> Markup {
        let rows: Vec<TrackRow<'_>> = self
            .bands
            .iter()
            .zip(&self.ordered)
            .map(|(band, fault)| TrackRow {
                band,
                title: one_line(&fault.event.title),
                outcome: outcome(fault),
            })
            .collect();
        html! {
            @if !rows.is_empty() {
                figure {
                    figcaption { h3 { "Faults" } span { "what was done, and how long until the pool was well again" } }
                    div.canvas { (chart::draw_track(&rows, &self.axis)) }
                }
            }
        }
    }

    fn rate(&self) -> Plot {
        let per_second = |n: fn(&Bucket) -> u64| {
            let rates = self
                .buckets
                .iter()
                .map(move |b| (b.width_us > 0).then(|| n(b) as f64 / (b.width_us as f64 / 1e6)));
            rates.collect::<Vec<_>>()
        };
        let series = vec![
            series("offered", SeriesMark::Reference, per_second(|b| b.offered)),
            series("ok", SeriesMark::Area, per_second(|b| b.ok)),
        ];
        Plot {
            scale: linear(&series, None),
            format: |v| format!("{} ops/s", three_digits(v)),
            tick: |v| format!("{}/s", short(v)),
            height: 110,
            series,
            ..plot("rate", "Offered and achieved rate")
        }
    }

    fn response(&self) -> Plot {
        let series = vec![
            series("p50", SeriesMark::Solid, self.gauge(|b| b.response_p50_us)),
            series("p99", SeriesMark::Dashed, self.gauge(|b| b.response_p99_us)),
        ];
        latency("response", "Response time, p50 and p99", series)
    }

    fn acquire(&self) -> Plot {
        let series = vec![
            series("p50", SeriesMark::Solid, self.gauge(|b| b.acquire_p50_us)),
            series("p99", SeriesMark::Dashed, self.gauge(|b| b.acquire_p99_us)),
        ];
        latency("acquire", "Acquire time, p50 and p99", series)
    }

    fn connections(&self) -> Option<Plot> {
        let series = vec![
            series("in use", SeriesMark::Solid, self.gauge(|b| b.in_use)),
            series("idle", SeriesMark::Dashed, self.gauge(|b| b.idle)),
            series("opening", SeriesMark::Dotted, self.gauge(|b| b.opening)),
        ];
        let limit = headline::limit(self.record);
        measured(&series).then(|| Plot {
            scale: linear(&series, limit),
            height: 100,
            limit: limit.map(|n| (n as f64, format!("limit {}", short(n as f64)))),
            series,
            ..plot("connections", "Connections in use, idle and being opened")
        })
    }

    fn waiting(&self) -> Option<Plot> {
        let series = vec![series(
            "waiting",
            SeriesMark::Area,
            self.gauge(|b| b.waiting),
        )];
        measured(&series).then(|| Plot {
            scale: linear(&series, None),
            height: 70,
            series,
            ..plot("waiting", "Callers waiting for a connection")
        })
    }

    fn opened(&self) -> Option<Plot> {
        let opened = self.buckets.iter().filter_map(|b| b.opened);
        let opened = opened.fold(0_u64, u64::saturating_add);
        let series = vec![Series {
            note: format!("{} in all", short(opened as f64)),
            ..series("opened", SeriesMark::Bars, self.gauge(|b| b.opened))
        }];
        measured(&series).then(|| Plot {
            scale: linear(&series, None),
            height: 60,
            series,
            ..plot("opened", "Connections opened")
        })
    }

    fn errors(&self) -> Vec<Plot> {
        let categories = self.categories();
        let last = categories.len().saturating_sub(1);
        let counted: Vec<Series> = categories
            .iter()
            .map(|(name, planned)| self.category(name, *planned, &categories))
            .collect();
        let scale = linear(&counted, None).with_top_tick_only();
        let edge = |i| match (i, i == last) {
            (0, true) => Edge::NamedWithAxis,
            (0, false) => Edge::Named,
            (_, true) => Edge::Axis,
            (_, false) => Edge::Bare,
        };
        counted
            .into_iter()
            .enumerate()
            .map(|(i, series)| Plot {
                id: format!("errors-{i}"),
                title: format!("Errors: {}", series.label),
                scale: scale.clone(),
                height: 26,
                edge: edge(i),
                series: vec![series],
                ..plot("errors", "Errors")
            })
            .collect()
    }

    /// Names of the rows, most frequent first, and whether the scenario planned what they count.
    fn categories(&self) -> Vec<(String, bool)> {
        let mut totals: BTreeMap<(&String, bool), u64> = BTreeMap::new();
        for bucket in self.buckets {
            for planned in [false, true] {
                for (name, n) in ends(bucket, planned) {
                    let total = totals.entry((name, planned)).or_default();
                    *total = total.saturating_add(*n);
                }
            }
        }
        let mut totals: Vec<_> = totals.into_iter().collect();
        totals.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        let mut rows: Vec<(String, bool)> = totals
            .into_iter()
            .map(|((name, planned), _)| (name.clone(), planned))
            .collect();
        if rows.len() > CATEGORIES_MAX {
            rows.truncate(CATEGORIES_MAX - 1);
            rows.push((REST.to_owned(), false));
        }
        if rows.is_empty() {
            rows.push(("none".to_owned(), false));
        }
        rows
    }

    fn category(&self, name: &str, planned: bool, all: &[(String, bool)]) -> Series {
        let rest = |b: &Bucket, planned: bool| {
            let named = |key: &String| all.iter().any(|(n, p)| (n, *p) == (key, planned));
            let rest = ends(b, planned).iter().filter(|(key, _)| !named(key));
            rest.map(|(_, n)| *n).fold(0, u64::saturating_add)
        };
        let value = |b: &Bucket| -> u64 {
            if name == REST {
                rest(b, false).saturating_add(rest(b, true))
            } else {
                ends(b, planned).get(name).copied().unwrap_or(0)
            }
        };
        let mark = if planned {
            SeriesMark::PlannedBars
        } else {
            SeriesMark::Bars
        };
        let total = self.buckets.iter().map(value).fold(0, u64::saturating_add);
        let planned = if planned { " planned" } else { "" };
        Series {
            label: shorten(&one_line(name), 14),
            note: format!("{}{planned}", short(total as f64)),
            mark,
            values: self.buckets.iter().map(|b| Some(value(b) as f64)).collect(),
        }
    }

    fn gauge(&self, of: impl Fn(&Bucket) -> Option<u64>) -> Vec<Option<f64>> {
        self.buckets
            .iter()
            .map(|b| of(b).map(|v| v as f64))
            .collect()
    }
}

/// What ended otherwise than by ok in an interval, by category: as planned, or not.
fn ends(bucket: &Bucket, planned: bool) -> &BTreeMap<String, u64> {
    if planned {
        &bucket.planned
    } else {
        &bucket.errors
    }
}

/// The row for what does not fit; a category cannot have this name, since it has a blank.
const REST: &str = "all others";

fn outcome(fault: &FaultReport) -> String {
    match fault.recovery_us {
        _ if !fault.event.effect.seen => "no effect seen".to_owned(),
        None => "not recovered".to_owned(),
        Some(0) => "recovered at once".to_owned(),
        Some(us) => format!("recovered in {}", duration(us)),
    }
}

fn figure(title: &str, note: &str, plots: &[Plot], frame: &Frame<'_>) -> Markup {
    html! {
        figure {
            figcaption { h3 { (title) } span { (note) } }
            div.canvas {
                @for plot in plots { (plot.draw(frame)) }
            }
        }
    }
}

fn plot(id: &str, title: &str) -> Plot {
    Plot {
        id: format!("plot-{id}"),
        title: title.to_owned(),
        scale: Scale::linear(1.0, 1.0),
        format: whole,
        tick: short,
        height: 80,
        series: Vec::new(),
        limit: None,
        edge: Edge::Named,
    }
}

fn latency(id: &str, title: &str, series: Vec<Series>) -> Plot {
    Plot {
        scale: Scale::log(values(&series)),
        format: micros,
        tick: micros,
        height: 130,
        series,
        ..plot(id, title)
    }
}

fn series(label: &str, mark: SeriesMark, values: Vec<Option<f64>>) -> Series {
    Series {
        label: label.to_owned(),
        note: String::new(),
        mark,
        values,
    }
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + '_ {
    series
        .iter()
        .flat_map(|s| s.values.iter().flatten().copied())
}

fn measured(series: &[Series]) -> bool {
    values(series).next().is_some()
}

fn linear(series: &[Series], limit: Option<u64>) -> Scale {
    let highest = values(series).fold(0.0, f64::max);
    Scale::linear(highest.max(limit.map_or(0.0, |n| n as f64)), 1.0)
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn micros(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{} µs", three_digits(v)),
        v if v < 1e6 => format!("{} ms", three_digits(v / 1e3)),
        v => format!("{} s", short(v / 1e6)),
    }
}

/// A number in at most five characters or so: `400`, `1.2 k`, `18 E`.
fn short(value: f64) -> String {
    let suffixes = [
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "G"),
        (1e6, "M"),
        (1e3, "k"),
    ];
    match suffixes.iter().find(|(size, _)| value >= *size) {
        Some((size, suffix)) => format!("{} {suffix}", three_digits(value / size)),
        None => three_digits(value),
    }
}
