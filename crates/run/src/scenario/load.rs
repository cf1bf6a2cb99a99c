//! Reads `[load]`.

use std::time::Duration;

use poolproof_load::{
    Arrivals, EndingWeights, LoadSpec, WRITE_SET_TABLES_MAX, WeightedWorkload, Workload,
};

use super::problem::Problem;
use super::read::home_of;
use super::rules::Places;
use super::section::{Choices, Found, Section, Synonyms};

/// A million rows are written in some seconds.
const ACCOUNTS_MAX: u32 = 1_000_000;

const LOAD_SYNONYMS: Synonyms = &[
    ("rps", "rate"),
    ("ops", "rate"),
    ("rate_per_s", "rate"),
    ("arrival", "arrivals"),
    ("time", "duration"),
    ("for", "duration"),
    ("timeout", "deadline"),
    ("workloads", "workload"),
    ("op", "workload"),
];

/// Reads the section; none without the two figures that have no default.
pub(super) fn load(section: &Section<'_>, places: &mut Places) -> Option<LoadSpec> {
    section.synonyms(LOAD_SYNONYMS);
    section.require("rate", "rate = 400");
    section.require("duration", "duration = \"20s\"");
    let rate = section
        .number("rate")
        .filter(|found| above_zero(section, found));
    let arrivals = section.word("arrivals", "arrival process", &ARRIVALS);
    places.duration = section.positive_duration("duration");
    let deadline = section.positive_duration("deadline");
    let hold = section.duration("hold");
    let clean_checks = section
        .number("clean_checks")
        .filter(|f| fraction(section, f));
    let cancel_within = section.positive_duration("cancel_within");
    let endings = section.table("endings").map(|s| endings(&s));
    places.endings_unread = section.has("endings") && !matches!(endings, Some(Some(_)));
    let workloads = workloads(section);
    section.finish(home_of);
    places.rate = rate.clone();
    places.deadline = deadline.clone();
    places.hold = hold.clone();
    Some(LoadSpec {
        rate_per_s: rate?.value,
        arrivals: arrivals.map_or(Arrivals::Poisson, |f| f.value),
        duration: places.duration.as_ref()?.value,
        deadline: deadline.map_or(Duration::from_secs(5), |f| f.value),
        hold: hold.map_or(Duration::ZERO, |f| f.value),
        clean_checks: clean_checks.map_or(0.1, |f| f.value),
        cancel_within: cancel_within.map_or(Duration::from_millis(8), |f| f.value),
        endings: endings.flatten().unwrap_or(ALL_COMMIT),
        workloads,
    })
}

const ALL_COMMIT: EndingWeights = EndingWeights {
    commit: 1,
    rollback: 0,
    panic: 0,
    cancel: 0,
};

const ARRIVALS: Choices<Arrivals> = Choices {
    words: &[
        ("poisson", Arrivals::Poisson),
        ("uniform", Arrivals::Uniform),
    ],
    synonyms: &[
        ("exponential", "poisson"),
        ("random", "poisson"),
        ("constant", "uniform"),
        ("fixed", "uniform"),
        ("even", "uniform"),
    ],
};

fn above_zero(section: &Section<'_>, found: &Found<f64>) -> bool {
    if found.value > 0.0 {
        return true;
    }
    let message = match found.value < 0.0 {
        true => "`rate` is negative",
        false => "`rate` is zero: nothing would be asked of the pool",
    };
    section.add(
        Problem::new(
            found.span.clone(),
            message.to_owned(),
            "operations per second",
        )
        .help("say how many operations arrive in a second, such as `rate = 400`".to_owned()),
    );
    false
}

fn fraction(section: &Section<'_>, found: &Found<f64>) -> bool {
    if (0.0..=1.0).contains(&found.value) {
        return true;
    }
    let message = "`clean_checks` is a fraction between 0 and 1".to_owned();
    let mut problem = Problem::new(found.span.clone(), message, "out of range");
    if found.value > 1.0 && found.value <= 100.0 {
        problem = problem.help(format!(
            "for {} % write `clean_checks = {}`",
            found.value,
            found.value / 100.0
        ));
    }
    section.add(problem);
    false
}

/// Reads the weights; none when one of them is wrong.
fn endings(section: &Section<'_>) -> Option<EndingWeights> {
    section.synonyms(&[
        ("ok", "commit"),
        ("abort", "rollback"),
        ("cancelled", "cancel"),
        ("drop", "cancel"),
    ]);
    let before = section.problem_count();
    let weight = |key| section.count(key, 0).map_or(0, |found| found.value);
    let weights = EndingWeights {
        commit: weight("commit"),
        rollback: weight("rollback"),
        panic: weight("panic"),
        cancel: weight("cancel"),
    };
    section.finish(|_| None);
    let EndingWeights {
        commit,
        rollback,
        panic,
        cancel,
    } = weights;
    if section.problem_count() == before && [commit, rollback, panic, cancel] == [0; 4] {
        section.add(
            Problem::new(
                section.span(),
                "all weights in `endings` are zero: no operation could end".to_owned(),
                "needs one weight above zero",
            )
            .help("for commits only write `endings = { commit = 1 }`".to_owned()),
        );
    }
    (section.problem_count() == before).then_some(weights)
}

fn workloads(section: &Section<'_>) -> Vec<WeightedWorkload> {
    let before = section.problem_count();
    let tables = section.tables("workload");
    if tables.is_empty() && section.problem_count() == before {
        no_workload(section);
    }
    let workloads: Vec<_> = tables.iter().filter_map(workload).collect();
    for (index, (table, this)) in tables.iter().zip(&workloads).enumerate() {
        let name = this.workload.name();
        if workloads.len() == tables.len()
            && let Some(first) = workloads[..index]
                .iter()
                .position(|w| w.workload.name() == name)
        {
            section.add(
                Problem::new(
                    table.span(),
                    format!("there are two workloads of kind `{name}`"),
                    "again here",
                )
                .related(tables[first].span(), "first here")
                .help("each kind stands once; `weight` says how often it is chosen".to_owned()),
            );
        }
    }
    if !workloads.is_empty()
        && workloads.len() == tables.len()
        && workloads.iter().all(|w| w.weight == 0)
    {
        section.add(Problem::new(
            tables[0].span(),
            "the weights of all workloads are zero: no operation could be chosen".to_owned(),
            "needs a `weight` above zero",
        ));
    }
    workloads
}

fn no_workload(section: &Section<'_>) {
    let Some(span) = section.span_of("workload") else {
        section.require(
            "workload",
            "[[load.workload]]` followed by `kind = \"bank\"",
        );
        return;
    };
    let message = "`workload` is an empty list: nothing would be asked of the pool".to_owned();
    section.add(
        Problem::new(span, message, "needs one workload or more")
            .help("write `workload = [{ kind = \"bank\" }]`".to_owned()),
    );
}

/// Reads the number of accounts; none without one that can be had.
fn accounts(section: &Section<'_>) -> Option<u32> {
    let found = section.count("accounts", 2)?;
    if found.value <= ACCOUNTS_MAX {
        return Some(found.value);
    }
    section.add(
        Problem::new(
            found.span,
            format!("{} accounts are more than a run prepares", found.value),
            "each is a row to write before and to read after",
        )
        .help(format!(
            "`accounts` is between 2 and {ACCOUNTS_MAX}; the fewer, the more transfers meet on one"
        )),
    );
    None
}

const WORKLOADS: Choices<&str> = Choices {
    words: &[("bank", "bank"), ("write-set", "write-set")],
    synonyms: &[
        ("transfer", "bank"),
        ("writes", "write-set"),
        ("writeset", "write-set"),
    ],
};

fn workload(section: &Section<'_>) -> Option<WeightedWorkload> {
    section.synonyms(&[
        ("type", "kind"),
        ("name", "kind"),
        ("balance", "opening_balance"),
    ]);
    section.require("kind", "kind = \"bank\"");
    let kind = section.word("kind", "workload", &WORKLOADS);
    let weight = section.count("weight", 0).map_or(1, |found| found.value);
    let Some(kind) = kind else {
        // Without its kind nobody can say which of these belong here.
        for key in ["accounts", "opening_balance", "tables"] {
            section.has(key);
        }
        section.finish(home_of);
        return None;
    };
    let workload = if kind.value == "bank" {
        Workload::Bank {
            accounts: accounts(section).unwrap_or(64),
            opening_balance: section
                .integer("opening_balance", 0..=1_000_000_000_000)
                .map_or(1000, |f| f.value),
        }
    } else {
        let tables = section
            .integer("tables", 1..=i64::from(WRITE_SET_TABLES_MAX))
            .map_or(3, |f| f.value);
        Workload::WriteSet {
            tables: u32::try_from(tables).expect("bug: the range is within u32"),
        }
    };
    section.finish(|word| match word {
        "accounts" | "opening_balance" => Some(format!("`{word}` belongs to the workload `bank`")),
        "tables" => Some("`tables` belongs to the workload `write-set`".to_owned()),
        _ => home_of(word),
    });
    Some(WeightedWorkload { workload, weight })
}
