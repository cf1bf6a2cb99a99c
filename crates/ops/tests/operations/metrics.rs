//! What is counted and measured, and that both ways out tell all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use poolproof_ops::{
    METRICS, Metric, MetricKind, Metrics, Publisher, SampleValue, prometheus_text,
};
use poolproof_pool::ErrorKind;

use super::fake::{Call, Gate};
use super::*;

type ByKey<T> = Arc<Mutex<BTreeMap<String, (MetricKind, T)>>>;

/// What a recorder was told, by name and labels.
#[derive(Debug, Clone, Default)]
struct Told {
    units: ByKey<Option<Unit>>,
    values: ByKey<Vec<f64>>,
}

struct Sink {
    key: String,
    kind: MetricKind,
    told: Told,
}

impl Sink {
    fn tell(&self, change: impl FnOnce(&mut Vec<f64>)) {
        let mut values = self.told.values.lock().unwrap();
        let entry = values
            .entry(self.key.clone())
            .or_insert((self.kind, Vec::new()));
        change(&mut entry.1);
    }
}

impl CounterFn for Sink {
    fn increment(&self, _: u64) {
        panic!("totals are told as they are");
    }

    fn absolute(&self, value: u64) {
        self.tell(|values| *values = vec![value as f64]);
    }
}

impl GaugeFn for Sink {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.tell(|values| *values = vec![value]);
    }
}

impl HistogramFn for Sink {
    fn record(&self, value: f64) {
        self.tell(|values| values.push(value));
    }
}

impl Told {
    fn sink(&self, key: &Key, kind: MetricKind) -> Arc<Sink> {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        Arc::new(Sink {
            key: format!("{} {}", key.name(), labels.join(" ")),
            kind,
            told: self.clone(),
        })
    }

    fn describe(&self, name: &KeyName, kind: MetricKind, unit: Option<Unit>) {
        let mut units = self.units.lock().unwrap();
        units.insert(name.as_str().to_owned(), (kind, unit));
    }

    fn values(&self, key: &str) -> Vec<f64> {
        self.values
            .lock()
            .unwrap()
            .get(key)
            .map_or(Vec::new(), |(_, values)| values.clone())
    }
}

impl Recorder for Told {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, MetricKind::Counter, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, MetricKind::Gauge, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, MetricKind::Histogram, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.sink(key, MetricKind::Counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.sink(key, MetricKind::Gauge))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.sink(key, MetricKind::Histogram))
    }
}

fn count(metrics: &Metrics, name: &str) -> u64 {
    let of_name = metrics
        .samples()
        .iter()
        .filter(|sample| sample.metric.name == name);
    of_name
        .map(|sample| match &sample.value {
            SampleValue::Counter(count) => *count,
            SampleValue::Histogram(histogram) => histogram.count(),
            value => panic!("{name}: {value:?}"),
        })
        .sum()
}

/// A pool that has done one of each: 2 opened, 1 lent now, 1 idle, one failed connect, one timeout.
async fn eventful(config: Config) -> (Pool<Fake>, Lease<Fake>) {
    let (pool, fake) = configured(Config {
        name: "a \"b\"\\c\nd".to_owned(),
        pool_size: 2,
        max_overflow: 0,
        pre_ping: true,
        ..config
    });
    fake.next(Call::Connect, [Gate::Error]);
    let held = pool.acquire().await.unwrap();
    let other = pool.acquire().await.unwrap();
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    drop(other);
    tokio::time::advance(Duration::from_secs(9)).await;
    drop(pool.acquire().await.unwrap());
    (pool, held)
}

#[tokio::test(start_paused = true)]
async fn counters_gauges_and_durations_say_what_happened() {
    let (pool, held) = eventful(Config::default()).await;
    let metrics = Metrics::of(&pool);
    for (name, expected) in [
        ("poolproof_opened_total", 2),
        ("poolproof_connect_failures_total", 1),
        ("poolproof_leases_total", 3),
        ("poolproof_returns_total", 2),
        ("poolproof_timeouts_total", 1),
        ("poolproof_errors_total", 1),
        ("poolproof_queue_wait_seconds", 4),
        ("poolproof_connect_seconds", 2),
        ("poolproof_ping_seconds", 1),
        ("poolproof_hold_seconds", 2),
    ] {
        assert_eq!(count(&metrics, name), expected, "{name}");
    }
    assert_eq!(pool.errors(ErrorKind::Exhausted), 1);
    let durations = |name: &str| {
        let sample = metrics
            .samples()
            .iter()
            .find(|sample| sample.metric.name == name);
        match &sample.unwrap().value {
            SampleValue::Histogram(histogram) => histogram.sum().as_secs(),
            value => panic!("{name}: {value:?}"),
        }
    };
    assert_eq!(
        durations("poolproof_queue_wait_seconds"),
        30,
        "the refused one waited"
    );
    assert_eq!(
        durations("poolproof_hold_seconds"),
        30,
        "one was held meanwhile"
    );
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn switched_off_metrics_record_no_durations_and_still_count_errors() {
    let (pool, held) = eventful(Config {
        metrics: false,
        ..Config::default()
    })
    .await;
    let metrics = Metrics::of(&pool);
    for name in ["queue_wait", "connect", "ping", "hold"] {
        assert_eq!(
            count(&metrics, &format!("poolproof_{name}_seconds")),
            0,
            "{name}"
        );
    }
    assert_eq!(count(&metrics, "poolproof_errors_total"), 1);
    assert_eq!(count(&metrics, "poolproof_leases_total"), 3);
    drop(held);
}

/// The table is what is emitted, by both ways: names, kinds, labels; nothing more and nothing less.
#[tokio::test(start_paused = true)]
async fn the_table_the_text_and_the_facade_agree_on_names_kinds_and_labels() {
    let (pool, held) = eventful(Config::default()).await;
    let told = Told::default();
    ::metrics::with_local_recorder(&told, || Publisher::new().publish(&Metrics::of(&pool)));

    let expected = |metric: &Metric| {
        let labels: Vec<&str> = metric.labels.to_vec();
        (
            metric.name.to_owned(),
            metric.kind.as_str().to_owned(),
            labels.join(","),
        )
    };
    let table: BTreeSet<_> = METRICS.iter().map(expected).collect();
    assert_eq!(table.len(), METRICS.len(), "a name twice");

    let values = told.values.lock().unwrap();
    let facade: BTreeSet<_> = values
        .iter()
        .map(|(key, (kind, _))| {
            // The pool's name holds the separators; behind it come the other labels.
            let (name, labels) = key.split_once(" pool=a \"b\"\\c\nd").unwrap();
            let labels: Vec<&str> = labels
                .split_whitespace()
                .map(|label| label.split_once('=').unwrap().0)
                .collect();
            (name.to_owned(), kind.as_str().to_owned(), labels.join(","))
        })
        .collect();
    assert_eq!(facade, table);

    let text = Metrics::of(&pool).to_string();
    let types: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let prometheus: BTreeSet<_> = samples
        .map(|line| {
            let (name, rest) = line.split_once("{pool=\"a \\\"b\\\"\\\\c\\nd\"").unwrap();
            let base = |suffix| {
                name.strip_suffix(suffix)
                    .filter(|base| types.contains_key(base))
            };
            let histogram = base("_bucket")
                .or_else(|| base("_sum"))
                .or_else(|| base("_count"));
            let name = histogram.unwrap_or(name);
            let (labels, _) = rest.split_once('}').unwrap();
            let labels: Vec<&str> = labels
                .split(',')
                .filter_map(|label| Some(label.split_once('=')?.0))
                .filter(|label| *label != "le")
                .collect();
            (name.to_owned(), types[name].to_owned(), labels.join(","))
        })
        .collect();
    assert_eq!(prometheus, table);

    let units = told.units.lock().unwrap();
    for metric in METRICS {
        let seconds = metric.name.ends_with("_seconds");
        assert_eq!(metric.unit == "seconds", seconds, "{}", metric.name);
        let unit = if seconds { Unit::Seconds } else { Unit::Count };
        assert_eq!(
            units[metric.name],
            (metric.kind, Some(unit)),
            "{}",
            metric.name
        );
        let total = metric.name.ends_with("_total");
        assert_eq!(metric.kind == MetricKind::Counter, total, "{}", metric.name);
    }
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn the_facade_gets_each_duration_once_and_totals_as_they_are() {
    let (pool, _fake) = configured(Config {
        name: "one".to_owned(),
        ..Config::default()
    });
    let told = Told::default();
    let mut publisher = Publisher::new();
    let mut publish =
        || ::metrics::with_local_recorder(&told, || publisher.publish(&Metrics::of(&pool)));
    let lease = pool.acquire().await.unwrap();
    tokio::time::advance(Duration::from_millis(1_500)).await;
    drop(lease);
    publish();
    let hold = "poolproof_hold_seconds pool=one";
    assert_eq!(told.values(hold), [1.5]);
    publish();
    assert_eq!(told.values(hold), [1.5], "told twice");
    for _ in 0..2 {
        let lease = pool.acquire().await.unwrap();
        tokio::time::advance(Duration::from_millis(40)).await;
        drop(lease);
    }
    publish();
    assert_eq!(told.values(hold), [1.5, 0.04, 0.04]);
    assert_eq!(told.values("poolproof_leases_total pool=one"), [3.0]);
    assert_eq!(told.values("poolproof_idle pool=one"), [1.0]);
}

#[tokio::test(start_paused = true)]
async fn the_text_is_what_prometheus_reads() {
    let (pool, _fake) = configured(Config {
        name: "one".to_owned(),
        ..Config::default()
    });
    let lease = pool.acquire().await.unwrap();
    tokio::time::advance(Duration::from_millis(40)).await;
    drop(lease);
    let text = Metrics::of(&pool).to_string();
    for line in [
        "# TYPE poolproof_idle gauge",
        "poolproof_idle{pool=\"one\"} 1",
        "# TYPE poolproof_opened_total counter",
        "poolproof_opened_total{pool=\"one\"} 1",
        "poolproof_errors_total{pool=\"one\",category=\"capacity\",kind=\"exhausted\"} 0",
        "# TYPE poolproof_hold_seconds histogram",
        "poolproof_hold_seconds_bucket{pool=\"one\",le=\"0.00001\"} 0",
        "poolproof_hold_seconds_bucket{pool=\"one\",le=\"0.025\"} 0",
        "poolproof_hold_seconds_bucket{pool=\"one\",le=\"0.05\"} 1",
        "poolproof_hold_seconds_bucket{pool=\"one\",le=\"60\"} 1",
        "poolproof_hold_seconds_bucket{pool=\"one\",le=\"+Inf\"} 1",
        "poolproof_hold_seconds_sum{pool=\"one\"} 0.04",
        "poolproof_hold_seconds_count{pool=\"one\"} 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }

    let (other, _fake) = configured(Config {
        name: "two".to_owned(),
        ..Config::default()
    });
    let both = prometheus_text(&[Metrics::of(&pool), Metrics::of(&other)]);
    let announced = both
        .lines()
        .filter(|line| line.starts_with("# TYPE poolproof_idle "));
    assert_eq!(
        announced.count(),
        1,
        "a type may be announced once per page"
    );
    assert!(both.contains("poolproof_idle{pool=\"one\"} 1\npoolproof_idle{pool=\"two\"} 0\n"));
}
