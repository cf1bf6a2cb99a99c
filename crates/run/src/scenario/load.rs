//! Reads `[load]`.

use poolproof_load::{Arrivals, EndingWeights, LoadSpec, WeightedWorkload};

use super::problem::{Problem, Problems};
use super::rules::Places;
use super::values::Values;
use super::workloads::workload;

/// Reads the section; none without the two figures that have no default.
pub(super) fn load(values: &Values, places: &mut Places, problems: &Problems) -> Option<LoadSpec> {
    places.rate = values.given("rate");
    places.duration = values.given("duration");
    places.deadline = values.given("deadline");
    places.hold = values.given("hold");
    let endings = endings(&values.table("endings"), problems);
    places.endings_unread = values.unread("endings") || endings.is_none();
    let workloads = workloads(values, problems);
    Some(LoadSpec {
        rate_per_s: values.given("rate")?.value,
        arrivals: match values.get("arrivals") {
            "poisson" => Arrivals::Poisson,
            "uniform" => Arrivals::Uniform,
            word => panic!("bug: the arrival process {word:?} is not read"),
        },
        duration: values.given("duration")?.value,
        deadline: values.get("deadline"),
        hold: values.get("hold"),
        clean_checks: values.get("clean_checks"),
        cancel_within: values.get("cancel_within"),
        endings: endings.unwrap_or(ALL_COMMIT),
        workloads,
    })
}

/// Stands in where the weights are wrong, so that the rest can be checked.
const ALL_COMMIT: EndingWeights = EndingWeights {
    commit: 1,
    rollback: 0,
    panic: 0,
    cancel: 0,
};

/// Reads the weights; none when one of them is wrong.
fn endings(values: &Values, problems: &Problems) -> Option<EndingWeights> {
    let weights = EndingWeights {
        commit: values.get("commit"),
        rollback: values.get("rollback"),
        panic: values.get("panic"),
        cancel: values.get("cancel"),
    };
    let EndingWeights {
        commit,
        rollback,
        panic,
        cancel,
    } = weights;
    let all_zero = [commit, rollback, panic, cancel] == [0; 4];
    if values.clean && all_zero {
        let message = "all weights in `endings` are zero: no operation could end".to_owned();
        problems.add(
            Problem::new(values.span.clone(), message, "needs one weight above zero")
                .help("for commits only write `endings = { commit = 1 }`".to_owned()),
        );
    }
    (values.clean && !all_zero).then_some(weights)
}

fn workloads(load: &Values, problems: &Problems) -> Vec<WeightedWorkload> {
    let tables = load.tables("workload");
    if let Some(span) = load.span_of("workload")
        && tables.is_empty()
    {
        let message = "`workload` is an empty list: nothing would be asked of the pool".to_owned();
        problems.add(
            Problem::new(span, message, "needs one workload or more")
                .help("write `workload = [{ kind = \"bank\" }]`".to_owned()),
        );
    }
    let workloads: Vec<_> = tables.iter().filter_map(weighted).collect();
    if workloads.len() < tables.len() {
        return workloads;
    }
    for (index, (table, this)) in tables.iter().zip(&workloads).enumerate() {
        let name = this.workload.name();
        let mut earlier = workloads[..index].iter();
        if let Some(first) = earlier.position(|w| w.workload.name() == name) {
            let message = format!("there are two workloads of kind `{name}`");
            problems.add(
                Problem::new(table.span.clone(), message, "again here")
                    .related(tables[first].span.clone(), "first here")
                    .help("each kind stands once; `weight` says how often it is chosen".to_owned()),
            );
        }
    }
    if !workloads.is_empty() && workloads.iter().all(|w| w.weight == 0) {
        problems.add(Problem::new(
            tables[0].span.clone(),
            "the weights of all workloads are zero: no operation could be chosen".to_owned(),
            "needs a `weight` above zero",
        ));
    }
    workloads
}

fn weighted(table: &Values) -> Option<WeightedWorkload> {
    Some(WeightedWorkload {
        workload: workload(table)?,
        weight: table.get("weight"),
    })
}
