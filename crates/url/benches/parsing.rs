//! What reading a URL costs, tracked by criterion.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement ends at the first surprise"
)]

use std::hint::black_box;

use criterion::Criterion;
use poolproof_url::DatabaseUrl;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let url = "postgresql+asyncpg://app:s%40cret@db.example:5433/shop?sslmode=require&application_name=till";
    criterion.bench_function("parse a URL", |bencher| {
        bencher.iter(|| black_box(url).parse::<DatabaseUrl>().unwrap());
    });
    criterion.final_summary();
}
