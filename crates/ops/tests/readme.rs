//! What the README says of metrics is so.

use std::fs;
use std::path::PathBuf;

use poolproof_ops::METRICS;

/// The cells of the table that begins with this header, backticks stripped.
fn table(header: &str) -> Vec<Vec<String>> {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README is there");
    let rows: Vec<Vec<String>> = readme
        .lines()
        .skip_while(|line| !line.starts_with(header))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table begins with {header}");
    rows
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_metrics_in_the_readme_are_those_that_are_emitted() {
    let emitted: Vec<Vec<String>> = METRICS
        .iter()
        .map(|metric| {
            let labels = metric.labels.join(", ");
            let kind = metric.kind.as_str();
            [metric.name, kind, metric.unit, &labels, metric.help]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    assert_eq!(table("| metric | kind |"), emitted);
}
