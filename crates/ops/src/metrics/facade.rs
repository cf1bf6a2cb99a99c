//! Hands the pool's numbers to whatever recorder the process has installed for the `metrics` crate.

use ::metrics::{
    Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use poolproof_pool::Durations;

use super::{METRICS, Metric, MetricKind, Metrics, SampleValue, histogram as durations_of};

/// Describes all metrics to the recorder.
pub(super) fn describe() {
    for metric in METRICS {
        let unit = unit(metric);
        match metric.kind {
            MetricKind::Gauge => describe_gauge!(metric.name, unit, metric.help),
            MetricKind::Counter => describe_counter!(metric.name, unit, metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

fn unit(metric: &Metric) -> Unit {
    match metric.unit {
        "seconds" => Unit::Seconds,
        _ => Unit::Count,
    }
}

/// Hands over gauges and counters as they are, and what histograms grew by since `published`: each
/// bucket's durations as so many times their mean, which keeps count and sum.
pub(super) fn publish(metrics: &Metrics, published: &Durations) {
    for sample in metrics.samples() {
        let name = sample.metric.name;
        let mut labels = vec![Label::new("pool", metrics.pool().to_owned())];
        labels.extend(
            sample
                .labels
                .iter()
                .map(|(name, value)| Label::from_static_parts(name, value)),
        );
        match &sample.value {
            SampleValue::Gauge(value) => gauge!(name, labels).set(*value),
            SampleValue::Counter(value) => counter!(name, labels).absolute(*value),
            SampleValue::Histogram(now) => {
                let recorded = histogram!(name, labels);
                for (count, mean) in now.grown_since(durations_of(published, &sample.metric)) {
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    recorded.record_many(mean, count);
                }
            }
        }
    }
}
