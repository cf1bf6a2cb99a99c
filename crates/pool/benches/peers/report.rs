//! The table on the terminal, and the file.

use std::path::Path;
use std::time::Duration;

use crate::contender::{Case, Floor, Row};

pub(crate) fn print_machine() {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find(|line| line.starts_with("model name"));
    let cpu = cpu
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().unwrap();
    println!(
        "{cpu}, {cores} cores; load before: {}",
        read("/proc/loadavg").trim()
    );
    let versions = ["bb8", "deadpool", "mobc", "sqlx", "tokio"].map(|name| {
        let version = locked_version(name).unwrap_or("?");
        format!("{name} {version}")
    });
    println!("{}", versions.join(", "));
}

/// Reads the version that this was built with.
fn locked_version(name: &str) -> Option<&'static str> {
    const LOCK: &str = include_str!("../../../../Cargo.lock");
    let wanted = format!("name = \"{name}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != wanted);
    lines.nth(1)?.split('"').nth(1)
}

pub(crate) fn print_case(case: &Case, rows: &[Row], took: Duration) {
    println!("\n{} ({took:.0?})", case.name);
    println!(
        "  {:<10} {:>10} {:>14} {:>14}   times poolproof's (95 %)",
        "", "ns/op", "p99.9 wait", "longest wait"
    );
    for row in rows {
        let wait = |nanos| format!("{:.1?}", Duration::from_nanos(nanos));
        println!(
            "  {:<10} {:>10.0} {:>14} {:>14}   {:.2} ({:.2} to {:.2})",
            row.pool,
            row.median_ns,
            wait(row.p999_wait_ns),
            wait(row.max_wait_ns),
            row.ratio.estimate,
            row.ratio.low,
            row.ratio.high,
        );
    }
    for floor in &case.floors {
        if let Some(line) = verdict(floor, rows) {
            println!("  {line}");
        }
    }
}

/// Says whether a floor holds, as far as the rounds can tell.
fn verdict(floor: &Floor, rows: &[Row]) -> Option<String> {
    let is_peer = |row: &&Row| match floor.against {
        Some(name) => row.pool == name,
        None => row.shares && row.pool != "poolproof",
    };
    let peer = rows
        .iter()
        .filter(is_peer)
        .min_by(|a, b| a.median_ns.total_cmp(&b.median_ns))?;
    let word = if peer.ratio.low >= floor.at_least {
        "holds"
    } else if peer.ratio.high < floor.at_least {
        "MISSED"
    } else {
        "not resolved"
    };
    Some(format!(
        "at least {} times {}: {word}",
        floor.at_least, peer.pool
    ))
}

pub(crate) fn write(rows: &[Row]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "case": row.case,
                "pool": row.pool,
                "median_ns": row.median_ns,
                "p999_wait_ns": row.p999_wait_ns,
                "max_wait_ns": row.max_wait_ns,
                "ratio": row.ratio.estimate,
                "ratio_low": row.ratio.low,
                "ratio_high": row.ratio.high,
            })
        })
        .collect();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reports/bench");
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("peers.json");
    std::fs::write(&file, serde_json::to_string_pretty(&rows).unwrap()).unwrap();
    println!("\nwritten to reports/bench/peers.json");
}
