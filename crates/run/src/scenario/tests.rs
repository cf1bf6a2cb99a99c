//! What a scenario file says, and what is said about a bad one.

use std::time::Duration;

use poolproof_load::{Arrivals, EndingWeights, WeightedWorkload, Workload};

use super::*;

/// The quickstart with one passage changed; the passage must be there once.
pub(super) fn edited(from: &str, to: &str) -> String {
    assert_eq!(QUICKSTART.matches(from).count(), 1, "{from:?}");
    QUICKSTART.replace(from, to)
}

/// The problems of a text: message, marked text, help.
fn problems(text: &str) -> Vec<(String, String, String)> {
    let error = Scenario::parse("test.toml", text).expect_err("the text has problems");
    error
        .problems
        .into_iter()
        .map(|p| {
            (
                p.message,
                text[p.span].to_owned(),
                p.help.unwrap_or_default(),
            )
        })
        .collect()
}

fn quickstart() -> Scenario {
    Scenario::parse("scenarios/quickstart.toml", QUICKSTART).unwrap()
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn the_quickstart_says_what_its_text_says() {
    let scenario = quickstart();
    assert_eq!(scenario.name, "quickstart");
    assert_eq!(
        scenario.pool,
        PoolSection {
            pool_size: 5,
            max_overflow: 10,
            pool_timeout: ms(1_000),
            pre_ping: true,
        }
    );
    assert_eq!(
        scenario.postgres.settings,
        BTreeMap::from([("max_connections".to_owned(), "60".to_owned())])
    );
    let weighted = |workload| WeightedWorkload {
        workload,
        weight: 1,
    };
    let bank = Workload::Bank {
        accounts: 64,
        opening_balance: 1_000,
    };
    assert_eq!(
        scenario.load,
        LoadSpec {
            rate_per_s: 400.0,
            arrivals: Arrivals::Poisson,
            duration: ms(20_000),
            deadline: ms(4_000),
            hold: Duration::ZERO,
            clean_checks: 0.1,
            cancel_within: ms(8),
            endings: EndingWeights {
                commit: 80,
                rollback: 10,
                panic: 3,
                cancel: 7,
            },
            workloads: vec![weighted(bank), weighted(Workload::WriteSet { tables: 3 })],
        }
    );
    assert_eq!(scenario.objective.recovery, Some(ms(8_000)));
    assert_eq!(scenario.remarks, Vec::<String>::new());
    assert_eq!(scenario.schedule_end(), ms(16_000));
    let reset = "reset of every connection with at least 4 commits in flight";
    let faults: Vec<_> = scenario
        .faults
        .iter()
        .map(|f| (f.kind.title(), f.at.as_millis(), f.end().as_millis()))
        .collect();
    assert_eq!(
        faults,
        [
            ("latency 40 ms ± 10 ms".to_owned(), 5_000, 8_000),
            (reset.to_owned(), 5_500, 5_500),
            (reset.to_owned(), 6_500, 6_500),
            ("silence, both directions".to_owned(), 10_000, 12_000),
            (
                "server terminates a backend in a transaction".to_owned(),
                16_000,
                16_000
            ),
        ]
    );
}

#[test]
fn the_schedule_of_the_quickstart_can_be_generated() {
    let schedule = poolproof_load::Schedule::generate(&quickstart().load, 1).unwrap();
    assert!((7_000..9_000).contains(&schedule.ops.len()));
}

#[test]
fn what_a_file_leaves_out_has_a_default() {
    let text = "name = 'least'\n[load]\nrate = 1.5\nduration = '1m'\n\
                [[load.workload]]\nkind = 'bank'\n";
    let scenario = Scenario::parse("least.toml", text).unwrap();
    assert_eq!(scenario.title, "least");
    assert_eq!(scenario.pool, PoolSection::default());
    assert_eq!(scenario.load.duration, Duration::from_mins(1));
    assert_eq!(scenario.load.deadline, ms(5_000));
    assert_eq!(scenario.load.endings.commit, 1);
    assert_eq!(scenario.objective.response, None);
    assert_eq!(scenario.objective.target(), ms(250));
    assert_eq!(scenario.faults, []);
    // SQLAlchemy's 30 s is longer than any operation may take.
    assert_eq!(scenario.remarks.len(), 1, "{:?}", scenario.remarks);
}

#[test]
fn faults_are_sorted_by_their_times() {
    let text = edited("at = \"16s\"", "at = \"1s\"");
    let scenario = Scenario::parse("test.toml", &text).unwrap();
    assert_eq!(scenario.faults[0].name, "killed backend");
}

#[test]
fn server_settings_may_be_strings_numbers_and_booleans() {
    let text = edited(
        "{ max_connections = \"60\" }",
        "{ max_connections = 60, jit = false, work_mem = '8MB', random_page_cost = 1.1 }",
    );
    let settings = Scenario::parse("test.toml", &text)
        .unwrap()
        .postgres
        .settings;
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        settings,
        [
            ("jit", "off"),
            ("max_connections", "60"),
            ("random_page_cost", "1.1"),
            ("work_mem", "8MB"),
        ]
    );
}

/// From, to, message, marked text, help.
pub(super) type Mistake = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
pub(super) const MISTAKES: &[Mistake] = &[
    // Words.
    ("pool_size = 5 ", "pool_sise = 5 ", "unknown key `pool_sise` in [pool]", "pool_sise", "did you mean `pool_size`?"),
    ("pool_size = 5 ", "max_size = 5 ", "unknown key `max_size` in [pool]", "max_size", "did you mean `pool_size`?"),
    ("pool_size = 5 ", "rate = 5 ", "unknown key `rate` in [pool]", "rate", "`rate` belongs under [load]"),
    ("pool_size = 5 ", "colour = 5 ", "unknown key `colour` in [pool]", "colour", "the keys of [pool] are `pool_size`, `max_overflow`, `pool_timeout`, `pre_ping`"),
    ("[pool]", "[pol]", "unknown key `pol` in the scenario", "pol", "did you mean `pool`?"),
    ("[[load.workload]]\nkind = \"bank\"", "[[load.worklod]]\nkind = \"bank\"", "unknown key `worklod` in [load]", "worklod", "did you mean `workload`?"),
    ("commit = 80", "comit = 80", "unknown key `comit` in [load.endings]", "comit", "did you mean `commit`?"),
    ("\"poisson\" ", "\"poison\" ", "unknown arrival process `poison`", "\"poison\"", "did you mean `poisson`? There are `poisson`, `uniform`"),
    ("\"bank\"", "\"bnak\"", "unknown workload `bnak`", "\"bnak\"", "did you mean `bank`? There are `bank`, `write-set`"),
    ("\"latency\" ", "\"latncy\" ", "unknown kind of fault `latncy`", "\"latncy\"", "did you mean `latency`? There are `latency`, `bandwidth`, `stall`, `silence`, `down`, `reset`, `terminate-backend`"),
    ("\"latency\" ", "\"slicer\" ", "unknown kind of fault `slicer`", "\"slicer\"", "there are `latency`, `bandwidth`, `stall`, `silence`, `down`, `reset`, `terminate-backend`"),
    ("name = \"reset\"\nkind = \"reset\"", "name = \"reset\"\nkind = \"reset_peer\"", "unknown kind of fault `reset_peer`", "\"reset_peer\"", "did you mean `reset`? There are `latency`, `bandwidth`, `stall`, `silence`, `down`, `reset`, `terminate-backend`"),
    ("\"in-transaction\"", "\"intransaction\"", "unknown target `intransaction`", "\"intransaction\"", "did you mean `in-transaction`? There are `in-transaction`, `idle`, `any`"),
    ("name = \"quickstart\"", "name = \"Quick Start\"", "\"Quick Start\" cannot be a scenario's name", "\"Quick Start\"", "use up to 64 lowercase letters, digits, `-` and `_`; `latest` is taken"),
    ("tables = 3", "tables = 3\naccounts = 3", "unknown key `accounts` in [[load.workload]]", "accounts", "`accounts` belongs to the workload `bank`"),
    ("commits_in_flight = 4    #", "jitter = '1ms' #", "unknown key `jitter` in fault \"reset\"", "jitter", "`jitter` belongs to faults of kind `latency`; this one is `reset`"),
    ("tables = 3", "tables = 3\nat = '1s'", "unknown key `at` in [[load.workload]]", "at", "`at` belongs under [[fault]]"),
    ("pool_size = 5 ", "title = '' #", "unknown key `title` in [pool]", "title", "`title` belongs at the top of the file"),
    ("response = \"500ms\"", "latency = '500ms'", "unknown key `latency` in [objective]", "latency", "did you mean `response`?"),
    ("settings = { max_connections = \"60\" }", "setings = {}", "unknown key `setings` in [postgres]", "setings", "did you mean `settings`?"),
    ("settings = { max_connections = \"60\" }", "max_connections = 60", "unknown key `max_connections` in [postgres]", "max_connections", "server settings stand in a table: `settings = { max_connections = … }`"),
    // Types.
    ("pool_size = 5 ", "pool_size = \"5\" ", "`pool_size` must be a whole number", "\"5\"", "did you mean `pool_size = 5`?"),
    ("pool_size = 5 ", "pool_size = 5.5 ", "`pool_size` must be a whole number", "5.5", ""),
    ("pre_ping = true ", "pre_ping = \"true\" ", "`pre_ping` must be true or false", "\"true\"", "did you mean `pre_ping = true`?"),
    ("rate = 400 ", "rate = \"400\" ", "`rate` must be a number", "\"400\"", "did you mean `rate = 400`?"),
    ("title = \"A small", "title = 3 #", "`title` must be a string", "3", "did you mean `title = \"3\"`?"),
    ("[pool]", "[[pool]]", "`pool` stands once", "pool", "write `[pool]` with single brackets"),
    // Durations.
    ("pool_timeout = \"1s\"", "pool_timeout = 1", "`pool_timeout` must be a duration with a unit", "1", "did you mean `pool_timeout = \"1s\"`?"),
    ("duration = \"20s\"", "duration = \"20\"", "`duration`: the duration \"20\" has no unit", "\"20\"", "did you mean \"20s\"?"),
    ("duration = \"20s\"", "duration = \"20 secs\"", "`duration`: unknown unit `secs`", "\"20 secs\"", "did you mean \"20s\"?"),
    ("duration = \"20s\"", "duration = \"20x\"", "`duration`: unknown unit `x`", "\"20x\"", "the units are `us`, `ms`, `s`, `m` and `h`"),
    ("duration = \"20s\"", "duration = \"-20s\"", "`duration`: the duration \"-20s\" is negative", "\"-20s\"", "durations count forward: did you mean \"20s\"?"),
    ("duration = \"20s\"", "duration = \"soon\"", "`duration`: \"soon\" is not a duration", "\"soon\"", "write a number and a unit, such as \"250ms\", \"20s\" or \"1.5m\""),
    ("duration = \"20s\"", "duration = \"9999h\"", "`duration`: the duration \"9999h\" is longer than 30 days", "\"9999h\"", "a run lasts seconds to hours"),
    ("deadline = \"4s\"", "deadline = \"0s\"", "`deadline` is zero", "\"0s\"", ""),
    // Numbers.
    ("pool_size = 5 ", "pool_size = 0 ", "`pool_size` is 0", "0", "a pool keeps at least 1 connection; for no limit on connections beyond `pool_size`, say `max_overflow = -1`"),
    ("pool_size = 5 ", "pool_size = -3 ", "`pool_size` is negative", "-3", "`pool_size` is the number of connections that are kept"),
    ("pool_size = 5 ", "pool_size = 5000000000 ", "`pool_size` is out of range", "5000000000", "`pool_size` is between 1 and 2147483647"),
    ("max_overflow = 10 ", "max_overflow = -2 ", "`max_overflow` is -2", "-2", "0 allows no connection beyond `pool_size`, -1 any number of them"),
    ("accounts = 64", "accounts = 1", "`accounts` is out of range", "1", "`accounts` is between 2 and 1000000"),
    ("accounts = 64", "accounts = 1000001", "1000001 accounts are more than a run prepares", "1000001", "`accounts` is between 2 and 1000000; the fewer, the more transfers meet on one"),
    ("accounts = 64", "accounts = -1", "`accounts` is negative", "-1", "`accounts` is between 2 and 1000000"),
    ("tables = 3", "tables = 17", "`tables` is out of range", "17", "`tables` is between 1 and 16"),
    ("opening_balance = 1000", "opening_balance = 9000000000000000000", "`opening_balance` is out of range", "9000000000000000000", "`opening_balance` is between 0 and 1000000000000"),
    ("rate = 400 ", "rate = 0 ", "`rate` is zero: nothing would be asked of the pool", "0", "say how many operations arrive in a second, such as `rate = 400`"),
    ("rate = 400 ", "rate = -1 ", "`rate` is negative", "-1", "say how many operations arrive in a second, such as `rate = 400`"),
    ("rate = 400 ", "rate = inf ", "`rate` must be a finite decimal number", "inf", ""),
    ("rate = 400 ", "rate = 1e9 ", "20000000000 operations are more than a run can judge", "1e9", "rate × duration may be up to 10000000"),
    ("rate = 400 ", "rate = 0.01 ", "no operation would arrive within the duration", "0.01", ""),
    ("clean_checks = 0.1 ", "clean_checks = 10 ", "`clean_checks` is a fraction between 0 and 1", "10", "for 10 % write `clean_checks = 0.1`"),
    ("commit = 80, rollback = 10, panic = 3, cancel = 7", "commit = 0", "all weights in `endings` are zero: no operation could end", "endings", "for commits only write `endings = { commit = 1 }`"),
    ("commit = 80", "commit = -80", "`commit` is negative", "-80", "`commit` is between 0 and 2147483647"),
    ("{ max_connections = \"60\" }", "{ port = 5432 }", "the run decides `port` itself", "port = 5432", "the server is private to the run: remove this setting"),
    ("{ max_connections = \"60\" }", "{ work_mem = \"a\\nb\" }", "the value of `work_mem` contains a control character", "work_mem = \"a\\nb\"", "a value stands on one line, as in postgresql.conf"),
    // Missing.
    ("duration = \"20s\"\n", "", "[load] has no `duration`", "[load]", "add a line such as `duration = \"20s\"`"),
    ("at = \"10s\"\n", "", "fault \"silence\" has no `at`", "[[fault]]", "add a line such as `at = \"5s\"`"),
    ("for = \"2s\"\n", "", "fault \"silence\" has no `for`", "[[fault]]", "add a line such as `for = \"3s\"`"),
    ("duration = \"20s\"\n", "duratoin = \"20s\"\n", "unknown key `duratoin` in [load]", "duratoin", "did you mean `duration`?"),
    // Against each other.
    ("\"write-set\"\ntables = 3", "\"bank\"", "there are two workloads of kind `bank`", "[[load.workload]]", "each kind stands once; `weight` says how often it is chosen"),
    ("name = \"silence\"", "name = \"reset\"", "two faults are called \"reset\"", "\"reset\"", "the report tells faults apart by their names"),
    ("at = \"16s\"", "at = \"20s\"", "fault \"killed backend\" begins after the load has ended", "\"20s\"", "the load lasts 20 s"),
    ("for = \"2s\"", "for = \"11s\"", "fault \"silence\" ends after the load has ended", "\"11s\"", "it would end at 21 s, the load at 20 s"),
    ("target = \"in-transaction\"", "for = \"1s\"", "a fault of kind `terminate-backend` happens at one moment", "\"1s\"", "remove `for`"),
    ("kind = \"silence\" ", "kind = \"latency\"\nlatency = \"1s\"\n#", "two faults of kind `latency` overlap", "\"7s\"", "let one end before the other begins: \"slow network\" is from 5 s to 8 s, \"silence\" is from 7 s to 9 s"),
    ("commits_in_flight = 4    #", "commits_in_flight = 16 #", "16 commits are never in flight at once", "16", "the pool has at most 15 connections: pool_size + max_overflow"),
    ("jitter = \"10ms\"", "jitter = \"50ms\"", "`jitter` is larger than `latency`", "\"50ms\"", "jitter is taken off as often as it is added"),
    ("hold = \"0ms\" ", "hold = \"5s\" ", "`hold` is not shorter than `deadline`", "\"5s\"", "an operation has 4 s from its start to its end"),
    ("response = \"500ms\"", "response = \"999us\"", "`response` is shorter than the load generator can measure", "\"999us\"", "the generator itself may start an operation up to 1 ms late"),
    ("at = \"16s\"", "at = \"19001ms\"", "the load ends too soon after fault \"killed backend\" for its recovery to be judged", "\"19001ms\"", "recovery shows in a second of load: let the load last 20.001 s or longer"),
    ("hold = \"0ms\" ", "hold = \"600ms\" ", "`response` is not longer than `hold`", "\"500ms\"", ""),
];

/// Goal: each mistake is reported once, at its place, with the remedy. Method: one mistake at a
/// time in the quickstart.
#[test]
fn each_mistake_is_marked_and_answered_with_advice() {
    for (from, to, message, marked, help) in MISTAKES {
        let mut text = edited(from, to);
        if message.contains("overlap") {
            text = text.replace("at = \"10s\"", "at = \"7s\"");
        }
        let expected = (*message, *marked, *help);
        let found = problems(&text);
        let found: Vec<_> = found
            .iter()
            .map(|(m, s, h)| (m.as_str(), s.as_str(), h.as_str()))
            .collect();
        assert_eq!(found, [expected], "{from:?} became {to:?}");
    }
}

#[test]
fn all_problems_of_a_file_are_reported_in_the_order_of_the_text() {
    let text = edited("pool_size = 5 ", "pool_size = 0 ")
        .replace("rate = 400 ", "rate = 0 ")
        .replace("\"bank\"", "\"bnak\"")
        .replace("at = \"16s\"", "at = \"16\"");
    let messages: Vec<_> = problems(&text).into_iter().map(|(m, _, _)| m).collect();
    assert_eq!(
        messages,
        [
            "`pool_size` is 0",
            "`rate` is zero: nothing would be asked of the pool",
            "unknown workload `bnak`",
            "`at`: the duration \"16\" has no unit",
        ]
    );
}

#[test]
fn broken_syntax_is_all_that_is_reported_of_a_file() {
    let text = edited("rate = 400 ", "rate 400 ");
    let messages: Vec<_> = problems(&text).into_iter().map(|(m, _, _)| m).collect();
    assert_eq!(
        messages,
        ["not valid TOML: key with no value, expected `=`"]
    );
}

#[test]
fn an_empty_file_lacks_a_name_and_a_load() {
    let messages: Vec<_> = problems("").into_iter().map(|(m, _, _)| m).collect();
    assert_eq!(
        messages,
        ["the scenario has no `name`", "the scenario has no `load`"]
    );
}

/// Goal: a fault that another one hides is refused, one that is seen is not. Method: move the
/// backend's end and the slow network into a window of each kind.
#[test]
fn a_fault_within_another_is_refused_only_where_nothing_of_it_could_be_seen() {
    let down = edited("kind = \"silence\" ", "kind = \"down\" ");
    let silence = QUICKSTART.to_owned();
    let killed = |text: &str| text.replace("at = \"16s\"", "at = \"11s\"");
    let slow =
        |text: &str| text.replace("at = \"5s\"\nfor = \"3s\"", "at = \"10.5s\"\nfor = \"1s\"");
    let hidden = |text: &str| -> Vec<String> {
        match Scenario::parse("test.toml", text) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.into_iter().map(|p| p.message).collect(),
        }
    };
    assert_eq!(
        hidden(&killed(&down)),
        ["fault \"killed backend\" would have no effect within \"silence\""]
    );
    assert_eq!(hidden(&killed(&silence)), Vec::<String>::new());
    for text in [&down, &silence] {
        assert_eq!(
            hidden(&slow(text)),
            ["fault \"slow network\" would have no effect within \"silence\""]
        );
    }
}

#[test]
fn a_shorter_run_scales_the_schedule_and_says_so() {
    let (scaled, remark) = quickstart().scaled_to(ms(10_000)).unwrap();
    assert_eq!(scaled.load.duration, ms(10_000));
    let times: Vec<_> = scaled.faults.iter().map(|f| (f.at, f.duration)).collect();
    assert_eq!(
        times,
        [
            (ms(2_500), Some(ms(1_500))),
            (ms(2_750), None),
            (ms(3_250), None),
            (ms(5_000), Some(ms(1_000))),
            (ms(8_000), None),
        ]
    );
    assert_eq!(
        remark.as_deref(),
        Some(
            "the fault schedule was scaled from the scenario's 20 s to this run's 10 s: a recovery that \
             takes longer than what is left of the load is not judged, and that is no pass"
        )
    );
}

#[test]
fn a_run_that_the_schedule_fits_into_keeps_its_times() {
    for duration in [ms(17_000), ms(60_000)] {
        let (scaled, remark) = quickstart().scaled_to(duration).unwrap();
        assert_eq!(remark, None);
        assert_eq!(scaled.faults, quickstart().faults);
        assert_eq!(scaled.load.duration, duration);
    }
    // Nobody could see a recovery from the last fault.
    assert!(quickstart().scaled_to(ms(16_999)).unwrap().1.is_some());
    let mut unjudged = quickstart();
    unjudged.objective.recovery = None;
    assert_eq!(unjudged.scaled_to(ms(16_001)).unwrap().1, None);
    // It would begin when the load is over.
    assert!(unjudged.scaled_to(ms(16_000)).unwrap().1.is_some());
}

#[test]
fn a_run_that_leaves_nothing_of_a_fault_is_refused_with_the_least_that_would_do() {
    let mut scenario = quickstart();
    let refused = |scenario: &Scenario, duration, least| {
        assert_eq!(
            scenario.scaled_to(duration),
            Err(TooShort { duration, least })
        );
        let (scaled, remark) = scenario.scaled_to(least).unwrap();
        for window in scaled.faults.iter().filter_map(|fault| fault.duration) {
            assert!(window >= ms(99), "{window:?}");
        }
        assert!(remark.is_some(), "{least:?}");
    };
    // In a fifth of 5 s after the last fault its recovery can be seen.
    refused(&scenario, ms(1), ms(5_000));
    refused(&scenario, ms(4_999), ms(5_000));
    scenario.objective.recovery = None;
    refused(&scenario, ms(1), ms(1_000));
    refused(&scenario, ms(999), ms(1_000));
    // A fault of 300 ms within 20 s may become a third of that.
    let last = scenario.faults.last_mut().unwrap();
    (last.kind, last.duration) = (FaultKind::Silence, Some(ms(300)));
    refused(&scenario, ms(6_666), ms(6_667));
    // Without a fault there is nothing to lose.
    scenario.faults.clear();
    assert_eq!(scenario.scaled_to(ms(5)).unwrap().1, None);
}

#[test]
fn each_reset_that_waits_for_commits_of_a_load_without_any_is_marked() {
    let text = edited(
        "commit = 80, rollback = 10, panic = 3, cancel = 7",
        "rollback = 1",
    );
    let one = (
        "no operation commits, so no commit is ever in flight".to_owned(),
        "4".to_owned(),
        "give `commit` a weight in `endings`, or remove `commits_in_flight`".to_owned(),
    );
    assert_eq!(problems(&text), [one.clone(), one]);
}

/// An objective is judged, or refused as one that cannot be judged or met.
#[test]
fn objectives_that_cannot_be_judged_or_met_are_refused() {
    let text = |hold: &str, rest: &str| {
        format!(
            "name = 'a'\n[load]\nrate = 1\nduration = '9s'\nhold = '{hold}'\n\
             [[load.workload]]\nkind = 'bank'\n{rest}"
        )
    };
    let fine = |text: &str| Scenario::parse("test.toml", text).is_ok();
    let fault = "[[fault]]\nname = 'cut'\nkind = 'reset'\nat = '1s'\n";
    let objective = "[objective]\nrecovery = '4s'\n";
    let unmet = (
        "`hold` is not shorter than `response`, which is 250 ms unless set".to_owned(),
        "'800ms'".to_owned(),
        "say what counts as well: `response = \"1.05 s\"` under [objective]".to_owned(),
    );
    for rest in [fault, &format!("{objective}{fault}")] {
        assert_eq!(problems(&text("800ms", rest)), std::slice::from_ref(&unmet));
        assert!(fine(&text("249ms", rest)));
    }
    assert!(fine(&text(
        "800ms",
        &format!("{fault}[objective]\nresponse = '1.05 s'\n")
    )));
    // Nothing is judged by it.
    assert!(fine(&text("800ms", "")));
    let none = (
        "`recovery` is judged for each fault, and there is none".to_owned(),
        "'4s'".to_owned(),
        "add a [[fault]], or remove `recovery`".to_owned(),
    );
    assert_eq!(problems(&text("0s", objective)), [none]);
}

#[test]
fn what_the_run_decides_cannot_be_set_in_any_case() {
    for name in [
        "port",
        "Port",
        "cluster_name",
        "LISTEN_ADDRESSES",
        "logging_collector",
        "unix_socket_directories",
        "include",
    ] {
        let text = edited("max_connections = \"60\"", &format!("{name} = 1"));
        let (message, marked, help) = problems(&text).remove(0);
        assert_eq!(message, format!("the run decides `{name}` itself"));
        assert_eq!(marked, format!("{name} = 1"));
        assert!(help.contains("remove this setting"), "{help}");
    }
    let twice = "max_connections = 60, Max_Connections = 50";
    let text = edited("max_connections = \"60\"", twice);
    assert_eq!(problems(&text).len(), 1);
}

#[test]
fn a_suggestion_is_never_refused_in_its_turn() {
    let suggested = |from: &str, to: &str| problems(&edited(from, to)).remove(0).2;
    for (from, to, help) in [
        (
            "jitter = \"10ms\"",
            "jitter = -5",
            "did you mean `jitter = \"5s\"`?",
        ),
        (
            "pool_timeout = \"1s\"",
            "pool_timeout = -1",
            "did you mean `pool_timeout = \"1s\"`?",
        ),
        ("pool_timeout = \"1s\"", "pool_timeout = 0", ""),
        ("pool_timeout = \"1s\"", "pool_timeout = inf", ""),
        (
            "pool_timeout = \"1s\"",
            "pool_timeout = 0x10",
            "did you mean `pool_timeout = \"16s\"`?",
        ),
        (
            "pool_size = 5 ",
            "pool_size = 5.0 ",
            "did you mean `pool_size = 5`?",
        ),
        ("rate = 400 ", "rate = \"inf\" ", ""),
        (
            "pre_ping = true",
            "pre_ping = \"yes\"",
            "did you mean `pre_ping = true`?",
        ),
        ("kind = \"bank\"", "kind = 1", ""),
    ] {
        assert_eq!(suggested(from, to), help, "{to}");
    }
}

#[test]
fn a_load_without_a_workload_is_refused_whatever_hides_it() {
    let load = |rest: &str| {
        let text = format!("name = 'a'\n[load]\nrate = 1\nduration = '1s'\n{rest}");
        let messages = problems(&text).into_iter().map(|(message, ..)| message);
        messages.collect::<Vec<_>>()
    };
    assert_eq!(load(""), ["[load] has no `workload`"]);
    assert_eq!(
        load("workload = []"),
        ["`workload` is an empty list: nothing would be asked of the pool"]
    );
    assert_eq!(
        load("workload = [1]"),
        ["`workload` must be a list of tables"]
    );
    assert_eq!(
        load("[[load.workload]]\nkimd = 'bank'\naccounts = 2"),
        ["unknown key `kimd` in [[load.workload]]"]
    );
}

#[test]
fn faults_that_all_overlap_are_reported_once_each() {
    let mut text = QUICKSTART.to_owned();
    for n in 0..50 {
        text.push_str("\n[[fault]]\nkind = 'down'\nat = '15s'\nfor = '500ms'\n");
        text.extend(["name = 'n", &n.to_string(), "'\n"]);
    }
    let overlaps = problems(&text);
    assert_eq!(overlaps.len(), 49, "{overlaps:?}");
}

#[test]
fn a_pool_larger_than_its_server_is_remarked_upon() {
    let text = edited("max_overflow = 10 ", "max_overflow = 60 ");
    let remarks = Scenario::parse("test.toml", &text).unwrap().remarks;
    assert_eq!(
        remarks,
        [
            "pool_size + max_overflow need max_connections = 72 or more with what the run itself \
             uses; the private server has 60"
        ]
    );
}

#[test]
fn a_stall_is_a_bandwidth_of_nothing() {
    let slow = "kind = \"latency\"         # a round trip takes that much longer: half on the way \
                there, half back";
    assert!(QUICKSTART.contains(slow));
    let parameters = "latency = \"40ms\"\njitter = \"10ms\"\n";
    for (text, word) in [
        ("kind = \"stall\"", "stall"),
        ("kind = \"bandwidth\"\nrate = 0", "stall"),
        ("kind = \"bandwidth\"\nrate = 7", "bandwidth"),
    ] {
        let text = QUICKSTART.replace(slow, text).replace(parameters, "");
        let kind = Scenario::parse("test.toml", &text).unwrap().faults[0].kind;
        assert_eq!(kind.word(), word);
        let stalls = kind == FaultKind::Bandwidth { rate_kb_s: 0 };
        assert_eq!(stalls, word == "stall");
    }
}

#[test]
fn durations_are_read_and_written_with_their_units() {
    #[rustfmt::skip]
    let cases = [
        ("250us", 250, "250 µs"), ("40ms", 40_000, "40 ms"), ("1.5s", 1_500_000, "1.5 s"),
        ("20 s", 20_000_000, "20 s"), ("2m", 120_000_000, "2 min"), ("0s", 0, "0 s"),
        ("90s", 90_000_000, "90 s"), ("1h", 3_600_000_000, "60 min"), ("0.25ms", 250, "250 µs"),
        ("2 min", 120_000_000, "2 min"), ("250 µs", 250, "250 µs"),
    ];
    for (text, micros, shown) in cases {
        let duration = parse_duration(text).unwrap();
        assert_eq!(duration, Duration::from_micros(micros), "{text}");
        assert_eq!(format_duration(duration), shown, "{text}");
    }
    for text in ["", "s", "1m30s", "1,5s", "1e3s", ".", "--1s", "NaNs"] {
        let error = parse_duration(text).unwrap_err();
        assert!(
            matches!(error, ParseDurationError::NotADuration { .. }),
            "{text}: {error}"
        );
    }
}
