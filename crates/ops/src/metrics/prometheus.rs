//! Metrics as text in the exposition format of Prometheus, version 0.0.4.

use std::fmt::{self, Write};

use super::{Metrics, Sample, SampleValue};

/// Writes the metrics of several pools as one text, such as for one `/metrics` page. The pools should
/// differ in `Config::name`.
///
/// # Examples
/// ```no_run
/// # use poolproof_ops::Metrics;
/// # fn example(orders: &poolproof_pool::Pool<poolproof_pool::PgConnector>,
/// #            reports: &poolproof_pool::Pool<poolproof_pool::PgConnector>) {
/// let page = poolproof_ops::prometheus_text(&[Metrics::of(orders), Metrics::of(reports)]);
/// # drop(page);
/// # }
/// ```
#[must_use]
pub fn prometheus_text(pools: &[Metrics]) -> String {
    Page(pools).to_string()
}

impl fmt::Display for Metrics {
    /// Writes the exposition format of Prometheus.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pools(f, std::slice::from_ref(self))
    }
}

struct Page<'a>(&'a [Metrics]);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pools(f, self.0)
    }
}

fn write_pools(out: &mut impl Write, pools: &[Metrics]) -> fmt::Result {
    for metric in super::METRICS {
        let mut announced = false;
        for pool in pools {
            let samples = pool.samples().iter();
            for sample in samples.filter(|sample| sample.metric.name == metric.name) {
                if !announced {
                    writeln!(out, "# HELP {} {}", metric.name, metric.help)?;
                    writeln!(out, "# TYPE {} {}", metric.name, metric.kind.as_str())?;
                    announced = true;
                }
                write_sample(out, pool.pool(), sample)?;
            }
        }
    }
    Ok(())
}

fn write_sample(out: &mut impl Write, pool: &str, sample: &Sample) -> fmt::Result {
    let name = sample.metric.name;
    let labels = Labels { pool, sample };
    match &sample.value {
        SampleValue::Gauge(value) => writeln!(out, "{name}{{{labels}}} {value}"),
        SampleValue::Counter(value) => writeln!(out, "{name}{{{labels}}} {value}"),
        SampleValue::Histogram(histogram) => {
            for (bound, count) in histogram.cumulative() {
                let bound = bound.as_secs_f64();
                writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
            }
            let (count, sum) = (histogram.count(), histogram.sum().as_secs_f64());
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(out, "{name}_sum{{{labels}}} {sum}")?;
            writeln!(out, "{name}_count{{{labels}}} {count}")
        }
    }
}

struct Labels<'a> {
    pool: &'a str,
    sample: &'a Sample,
}

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool=\"{}\"", Escaped(self.pool))?;
        for (name, value) in &self.sample.labels {
            write!(f, ",{name}=\"{}\"", Escaped(value))?;
        }
        Ok(())
    }
}

/// A label's value, with what would end it escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
