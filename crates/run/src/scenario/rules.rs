//! What a scenario's parts must make of each other: limits across keys, and faults that
//! contradict each other.

use std::ops::Range;
use std::time::Duration;

use poolproof_load::OPS_MAX;

use super::faults::Fault;
use super::problem::{Problem, Problems};
use super::values::Found;
use super::{FaultKind, FaultPlan, RECOVERY_LEAST, Scenario, format_duration};

/// The generator may lag by this whatever the objective, so that a shorter one says nothing.
const RESPONSE_LEAST: Duration = Duration::from_millis(1);

/// Connections of a server that the run needs for itself, and those it keeps for superusers.
const OWN_CONNECTIONS: u64 = 3 + 4;

/// Where values stand that rules compare; none where the file does not have them.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) rate: Option<Found<f64>>,
    pub(super) duration: Option<Found<Duration>>,
    pub(super) deadline: Option<Found<Duration>>,
    pub(super) hold: Option<Found<Duration>>,
    pub(super) response: Option<Found<Duration>>,
    pub(super) recovery: Option<Found<Duration>>,
    /// The response was given but could not be read.
    pub(super) response_unread: bool,
    /// The file has no fault, not even a wrong one.
    pub(super) no_fault: bool,
    /// The pool's limits were given but could not be read.
    pub(super) pool_unread: bool,
    /// The weights of endings were given but could not be read.
    pub(super) endings_unread: bool,
}

/// A fault and where its parts stand.
#[derive(Debug)]
pub(super) struct PlacedFault {
    pub(super) plan: FaultPlan,
    pub(super) name_span: Range<usize>,
    pub(super) at_span: Range<usize>,
    pub(super) for_span: Option<Range<usize>>,
    pub(super) commits_span: Option<Range<usize>>,
}

/// Reports what is wrong between the parts.
pub(super) fn check(
    problems: &Problems,
    scenario: &Scenario,
    places: &Places,
    faults: &[PlacedFault],
) {
    amount(problems, scenario, places);
    hold(problems, scenario, places);
    objective(problems, places);
    for (index, fault) in faults.iter().enumerate() {
        let earlier = &faults[..index];
        name(problems, fault, earlier);
        within_load(problems, fault, scenario.load.duration);
        time_to_recover(problems, fault, scenario.load.duration, places);
        reachable(problems, fault, scenario, places);
        // One is enough to mend; all pairs of a long file would be too many.
        if let Some(problem) = earlier.iter().find_map(|other| together(fault, other)) {
            problems.add(problem);
        }
    }
}

/// Returns what works but may surprise.
pub(super) fn remarks(scenario: &Scenario) -> Vec<String> {
    let mut remarks = Vec::new();
    let (pool, load) = (&scenario.pool, &scenario.load);
    if pool.pool_timeout > load.deadline {
        remarks.push(format!(
            "pool_timeout ({}) is longer than an operation's deadline ({}), so the deadline ends \
             every long wait first",
            format_duration(pool.pool_timeout),
            format_duration(load.deadline)
        ));
    }
    let wanted = capacity(scenario).map(|n| n + OWN_CONNECTIONS);
    let offered = scenario
        .postgres
        .settings
        .get("max_connections")
        .map_or(Some(100), |text| text.parse::<u64>().ok());
    if let (Some(wanted), Some(offered)) = (wanted, offered)
        && wanted > offered
    {
        remarks.push(format!(
            "pool_size + max_overflow need max_connections = {wanted} or more with what the run \
             itself uses; the private server has {offered}"
        ));
    }
    remarks
}

fn capacity(scenario: &Scenario) -> Option<u64> {
    let overflow = u64::try_from(scenario.pool.max_overflow).ok()?;
    Some(u64::from(scenario.pool.pool_size) + overflow)
}

fn amount(problems: &Problems, scenario: &Scenario, places: &Places) {
    let (Some(rate), Some(duration)) = (&places.rate, &places.duration) else {
        return;
    };
    let ops = scenario.expected_ops();
    let most = f64::from(OPS_MAX);
    let message = if ops < 1.0 {
        "no operation would arrive within the duration".to_owned()
    } else if ops > most {
        format!("{ops:.0} operations are more than a run can judge")
    } else {
        return;
    };
    let mut problem = Problem::new(rate.span.clone(), message, "this many in a second")
        .related(duration.span.clone(), "for this long");
    if ops > most {
        problem = problem.help(format!("rate × duration may be up to {OPS_MAX}"));
    }
    problems.add(problem);
}

fn hold(problems: &Problems, scenario: &Scenario, places: &Places) {
    let Some(hold) = &places.hold else { return };
    if hold.value >= scenario.load.deadline {
        let mut problem = Problem::new(
            hold.span.clone(),
            "`hold` is not shorter than `deadline`".to_owned(),
            "every operation would run out of time",
        )
        .help(format!(
            "an operation has {} from its start to its end",
            format_duration(scenario.load.deadline)
        ));
        if let Some(deadline) = &places.deadline {
            problem = problem.related(deadline.span.clone(), "the deadline");
        }
        problems.add(problem);
    } else if let Some(response) = &places.response
        && hold.value >= response.value
    {
        problems.add(
            Problem::new(
                response.span.clone(),
                "`response` is not longer than `hold`".to_owned(),
                "no operation could meet this",
            )
            .related(hold.span.clone(), "each operation takes at least this long"),
        );
    } else if places.response.is_none()
        && !places.response_unread
        && !scenario.faults.is_empty()
        && hold.value >= scenario.objective.target()
    {
        let target = format_duration(scenario.objective.target());
        let enough = format_duration(hold.value + scenario.objective.target());
        problems.add(
            Problem::new(
                hold.span.clone(),
                format!("`hold` is not shorter than `response`, which is {target} unless set"),
                "no operation could meet it, so no fault would be recovered from",
            )
            .help(format!(
                "say what counts as well: `response = \"{enough}\"` under [objective]"
            )),
        );
    }
}

/// Reports objectives that nothing could be measured for.
fn objective(problems: &Problems, places: &Places) {
    if let Some(response) = &places.response
        && response.value < RESPONSE_LEAST
    {
        problems.add(
            Problem::new(
                response.span.clone(),
                "`response` is shorter than the load generator can measure".to_owned(),
                "1 ms or more",
            )
            .help("the generator itself may start an operation up to 1 ms late".to_owned()),
        );
    }
    if let Some(recovery) = &places.recovery
        && places.no_fault
    {
        problems.add(
            Problem::new(
                recovery.span.clone(),
                "`recovery` is judged for each fault, and there is none".to_owned(),
                "nothing to recover from",
            )
            .help("add a [[fault]], or remove `recovery`".to_owned()),
        );
    }
}

/// Reports a fault whose recovery could not be seen before the load ends.
fn time_to_recover(problems: &Problems, fault: &PlacedFault, duration: Duration, places: &Places) {
    let Some(recovery) = &places.recovery else {
        return;
    };
    let end = fault.plan.end();
    if end > duration || fault.plan.at >= duration || end + RECOVERY_LEAST <= duration {
        return;
    }
    problems.add(
        Problem::new(
            fault.for_span.clone().unwrap_or(fault.at_span.clone()),
            format!(
                "the load ends too soon after fault {:?} for its recovery to be judged",
                fault.plan.name
            ),
            "too late",
        )
        .related(recovery.span.clone(), "judged for each fault")
        .help(format!(
            "recovery shows in a second of load: let the load last {} or longer",
            format_duration(end + RECOVERY_LEAST)
        )),
    );
}

fn name(problems: &Problems, fault: &PlacedFault, earlier: &[PlacedFault]) {
    if let Some(first) = earlier.iter().find(|f| f.plan.name == fault.plan.name) {
        problems.add(
            Problem::new(
                fault.name_span.clone(),
                format!("two faults are called {:?}", fault.plan.name),
                "again here",
            )
            .related(first.name_span.clone(), "first here")
            .help("the report tells faults apart by their names".to_owned()),
        );
    }
}

fn within_load(problems: &Problems, fault: &PlacedFault, duration: Duration) {
    let lasts = format_duration(duration);
    if fault.plan.at >= duration {
        problems.add(
            Problem::new(
                fault.at_span.clone(),
                format!(
                    "fault {:?} begins after the load has ended",
                    fault.plan.name
                ),
                "too late",
            )
            .help(format!("the load lasts {lasts}")),
        );
    } else if fault.plan.end() > duration {
        problems.add(
            Problem::new(
                fault.for_span.clone().unwrap_or(fault.at_span.clone()),
                format!("fault {:?} ends after the load has ended", fault.plan.name),
                "too long",
            )
            .help(format!(
                "it would end at {}, the load at {lasts}",
                format_duration(fault.plan.end())
            )),
        );
    }
}

/// Reports a reset that waits for more commits than there can ever be.
fn reachable(problems: &Problems, fault: &PlacedFault, scenario: &Scenario, places: &Places) {
    let (FaultKind::Reset { commits_in_flight }, Some(span)) =
        (fault.plan.kind, &fault.commits_span)
    else {
        return;
    };
    let endings = scenario.load.endings;
    let none_commits = endings.commit == 0 && endings.cancel == 0;
    let (message, help) = if commits_in_flight > 0 && none_commits && !places.endings_unread {
        (
            "no operation commits, so no commit is ever in flight".to_owned(),
            "give `commit` a weight in `endings`, or remove `commits_in_flight`".to_owned(),
        )
    } else if let Some(most) = capacity(scenario)
        && u64::from(commits_in_flight) > most
        && !places.pool_unread
    {
        (
            format!("{commits_in_flight} commits are never in flight at once"),
            format!("the pool has at most {most} connections: pool_size + max_overflow"),
        )
    } else {
        return;
    };
    problems.add(Problem::new(span.clone(), message, "could never be reached").help(help));
}

/// Tells of two faults of which one leaves nothing for the other to do.
fn together(fault: &PlacedFault, other: &PlacedFault) -> Option<Problem> {
    let (a, b) = (&fault.plan, &other.plan);
    if a.kind.word() == b.kind.word() {
        let at_once = matches!(a.kind, FaultKind::Reset { .. }) && a.at == b.at;
        return (overlap(a, b) || at_once).then(|| {
            Problem::new(
                fault.at_span.clone(),
                format!("two faults of kind `{}` overlap", a.kind.word()),
                "the second",
            )
            .related(other.at_span.clone(), "the first")
            .help(format!(
                "let one end before the other begins: {:?} is {}, {:?} is {}",
                b.name,
                window(b),
                a.name,
                window(a)
            ))
        });
    }
    let pairs = [(fault, other), (other, fault)];
    pairs.into_iter().find_map(|(inner, outer)| {
        let why = hides(&outer.plan, &inner.plan)?;
        let message = format!(
            "fault {:?} would have no effect within {:?}",
            inner.plan.name, outer.plan.name
        );
        Some(
            Problem::new(inner.at_span.clone(), message, "nothing left to break")
                .related(outer.at_span.clone(), why)
                .help(format!(
                    "{:?} is {}: move one of them",
                    outer.plan.name,
                    window(&outer.plan)
                )),
        )
    })
}

/// Says why nothing of `inner` could be seen, if `outer` covers all of it.
fn hides(outer: &FaultPlan, inner: &FaultPlan) -> Option<&'static str> {
    let covered = outer.duration.is_some() && outer.at <= inner.at && inner.end() <= outer.end();
    let hides = || Fault::called(outer.kind.word()).hides(inner.kind.word());
    covered.then(hides).flatten()
}

fn overlap(a: &FaultPlan, b: &FaultPlan) -> bool {
    a.duration.is_some() && b.duration.is_some() && a.at < b.end() && b.at < a.end()
}

fn window(plan: &FaultPlan) -> String {
    match plan.duration {
        Some(_) => format!(
            "from {} to {}",
            format_duration(plan.at),
            format_duration(plan.end())
        ),
        None => format!("at {}", format_duration(plan.at)),
    }
}
