//! The HTML page: structure, safety, and extremes. Each page is left under the target directory
//! (`tmp/report-*.html`), to be opened and looked at.

use poolproof_report::{Record, html};

use crate::demo;

fn page(name: &str, record: &Record) -> String {
    let page = html(record);
    let path = format!("{}/report-{name}.html", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(path, &page).unwrap();
    page
}

#[test]
fn every_kind_of_run_has_a_page() {
    for (name, record) in [
        ("passed", demo::passed()),
        ("failed", demo::failed()),
        ("invalid", demo::invalid()),
        ("partial", demo::partial()),
        ("empty", demo::empty()),
    ] {
        assert!(page(name, &record).ends_with("</html>"));
    }
}
