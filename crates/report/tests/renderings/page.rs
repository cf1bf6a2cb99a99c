//! The HTML page: structure, safety, and extremes. Each page is left under the target directory
//! (`tmp/report-*.html`), to be opened and looked at.

use std::sync::LazyLock;

use poolproof_report::{Record, html};

use crate::{demo, extremes};

/// What the charts are called, in the order in which they appear.
const CHARTS: [&str; 8] = [
    "Faults over time",
    "Offered and achieved rate",
    "Response time, p50 and p99",
    "Acquire time, p50 and p99",
    "Connections in use, idle and being opened",
    "Callers waiting for a connection",
    "Connections opened",
    "Errors: capacity",
];

fn page(name: &str, record: &Record) -> String {
    let page = html(record);
    let path = format!("{}/report-{name}.html", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(path, &page).unwrap();
    page
}

/// Every kind of page, rendered once.
static PAGES: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    [
        ("passed", demo::passed()),
        ("failed", demo::failed()),
        ("without-recovery", demo::passed_without_recovery()),
        ("invalid", demo::invalid()),
        ("partial", demo::partial()),
        ("empty", demo::empty()),
        ("hostile", extremes::hostile()),
        ("huge", extremes::huge()),
        ("one-bucket", extremes::one_bucket()),
        ("no-width", extremes::no_width()),
    ]
    .map(|(name, record)| (name, page(name, &record)))
    .into()
});

/// The tags of a page, as a parser that knows nothing of HTML but its syntax sees them.
fn tags(page: &str) -> Vec<&str> {
    let body = &page[page.find("</style>").unwrap()..];
    body.split('<')
        .skip(1)
        .map(|t| t.split('>').next().unwrap())
        .collect()
}

#[test]
fn the_verdict_comes_first_then_guarantees_then_the_timeline() {
    let page = html(&demo::failed());
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    let order = [
        at("<h1>"),
        at("FAIL</span>"),
        at("lost an acknowledged commit or applied one twice"),
        at("class=\"key-numbers\""),
        at("id=\"guarantees\""),
        at("id=\"doubts\""),
        at("id=\"timeline\""),
        at("id=\"faults\""),
        at("id=\"latency\""),
        at("id=\"reproduce\""),
        at("id=\"notes\""),
    ];
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn every_chart_names_every_fault() {
    let record = demo::passed();
    let page = html(&record);
    for chart in CHARTS {
        assert!(
            page.contains(&format!("{chart}</title>")),
            "no chart {chart}"
        );
    }
    let figures: Vec<&str> = page.split("<figure>").skip(1).collect();
    assert_eq!(figures.len(), CHARTS.len());
    for figure in figures {
        let figure = figure.split("</figure>").next().unwrap();
        for fault in &record.faults {
            let named = figure.matches(&format!(">{}<", fault.event.name)).count();
            assert_eq!(
                named, 2,
                "{} once per layout in {figure:.80}",
                fault.event.name
            );
        }
    }
}

#[test]
fn every_fault_tells_its_effect_and_its_recovery() {
    let page = html(&demo::passed());
    for text in [
        "1,184,220 bytes held",
        "15 links reset",
        "1 backend terminated",
    ] {
        assert!(page.contains(text), "{text}");
    }
    for text in [
        "recovered in 1.3 s",
        "recovered in 2.8 s",
        "recovered in 400 ms",
        "recovered at once",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let failed = html(&demo::failed());
    // Not recovered: shaded to the end of the axis on the track and on every plot.
    assert!(failed.contains("x=\"32.50%\" y=\"2\" width=\"67.50%\""));
    assert!(failed.contains("not recovered") && failed.contains("not within the run"));
}

#[test]
fn a_pass_says_in_its_headline_which_part_did_not_recover() {
    let headline = |record: &Record| {
        let page = html(record);
        let h1 = page.split("<h1>").nth(1).unwrap();
        h1.split("</h1>").next().unwrap().to_owned()
    };
    let told = headline(&demo::passed_without_recovery());
    assert!(told.contains("PASS"), "{told}");
    assert!(
        told.contains("3 of 4 faults without recovery within the load."),
        "{told}"
    );
    assert!(!headline(&demo::passed()).contains("recovery"));
}

#[test]
fn commits_in_doubt_tell_what_left_them_in_doubt() {
    let page = html(&demo::passed_without_recovery());
    let told = "3 by faults (2 applied, 1 not), 13 by cancellation (10 applied, 3 not)";
    // Among the key numbers, and above the table.
    assert_eq!(page.matches(told).count(), 2);
    assert_eq!(page.matches("<td>fault or deadline</td>").count(), 3);
    assert_eq!(page.matches("<td>planned cancellation</td>").count(), 13);
}

#[test]
fn the_numbers_of_the_run_are_on_the_page() {
    let record = demo::passed();
    let page = html(&record);
    for text in [
        record.run.replay.as_str(),
        &record.run.schedule_sha256,
        &record.run.scenario_sha256,
        &record.environment.postgres,
        "generator lag",
        "15 of 15",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn a_partial_run_and_invalid_performance_are_marked() {
    assert!(html(&demo::partial()).contains("Partial run"));
    let invalid = html(&demo::invalid());
    assert!(invalid.contains("Performance figures are not valid"));
    assert!(invalid.contains("missed objectives do not count"));
    // The timeline and the latencies; an objective says for itself whether it counts.
    assert_eq!(invalid.matches("class=\"tag\"").count(), 2);
    let passed = html(&demo::passed());
    assert!(!passed.contains("Partial run") && !passed.contains("not valid"));
}

#[test]
fn a_page_runs_nothing_and_fetches_nothing() {
    for (name, page) in PAGES.iter() {
        assert!(page.ends_with("</html>"), "{name}");
        assert!(page.contains("Content-Security-Policy\" content=\"default-src 'none';"));
        for tag in tags(page) {
            let element = tag.split_whitespace().next().unwrap_or("");
            for forbidden in [
                "script", "img", "link", "iframe", "object", "embed", "a", "image", "use",
            ] {
                assert_ne!(element, forbidden, "{name}: {tag}");
            }
            for attribute in [" src=", " href=", " onerror=", " onload="] {
                assert!(!tag.contains(attribute), "{name}: {tag}");
            }
        }
        let style = &page[..page.find("</style>").unwrap()];
        assert!(!style.contains("http") || style.contains("http-equiv"));
        assert!(!style.contains("@import") && !style.contains("url(h"));
    }
}

#[test]
fn every_element_is_closed_in_order() {
    for (name, page) in PAGES.iter() {
        let mut open: Vec<&str> = Vec::new();
        for tag in tags(page).into_iter().skip(1) {
            let element = tag.split_whitespace().next().unwrap();
            match element.strip_prefix('/') {
                Some("head" | "html") => {}
                Some(closed) => assert_eq!(open.pop(), Some(closed), "{name}: </{closed}>"),
                None => open.push(element),
            }
        }
        assert_eq!(open, Vec::<&str>::new(), "{name}");
    }
}

#[test]
fn ids_are_unique_and_references_resolve() {
    for (name, page) in PAGES.iter() {
        let values = |attribute: &str| -> Vec<String> {
            let parts = page.split(attribute).skip(1);
            parts
                .map(|rest| rest.split('"').next().unwrap().to_owned())
                .collect()
        };
        let mut ids = values(" id=\"");
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name}");
        for reference in values(" aria-labelledby=\"") {
            for id in reference.split(' ') {
                assert!(ids.iter().any(|known| known == id), "{name}: {id}");
            }
        }
    }
}

#[test]
fn no_number_is_lost_on_the_way_into_a_chart() {
    for (name, page) in PAGES.iter() {
        assert!(!page.contains("NaN") && !page.contains("inf%"), "{name}");
        assert!(!page.contains("width=\"-"), "{name}");
        assert!(page.len() < 2_500_000, "{name}: {} bytes", page.len());
    }
    assert!(html(&demo::passed()).len() < 300_000);
}

#[test]
fn a_status_is_a_word_and_never_colour_alone() {
    let page = html(&demo::invalid());
    for word in [
        "</span>held</span>",
        "</span>void</span>",
        "</span>not seen</span>",
        "</span>INVALID</span>",
    ] {
        assert!(page.contains(word), "{word}");
    }
}
