//! How to run the same again: command, seed, digests, versions, settings, environment; and notes.

use maud::{Markup, html};

use super::exit_code;
use crate::Record;
use crate::units::{count, counted, duration, moment, one_line, rate};

pub(super) fn section(record: &Record) -> Markup {
    html! {
        section aria-labelledby="reproduce" {
            h2 #reproduce { "Reproduce" }
            p { "This command offers the same operations at the same moments, and the same faults:" }
            pre { code { (one_line(&record.run.replay)) } }
            div.columns {
                (run(record))
                (pool(record))
                (load(record))
                (environment(record))
            }
        }
    }
}

fn run(record: &Record) -> Markup {
    let r = &record.run;
    html! {
        div {
            h3 { "Run" }
            dl.facts {
                (fact("seed", &r.seed.to_string()))
                (fact("schedule sha256", &r.schedule_sha256))
                (fact("scenario sha256", &r.scenario_sha256))
                (fact("started", &r.started_at))
                (fact("load", &duration(r.duration_us)))
                (fact("quiescence", &r.quiescence_us.map_or_else(|| "not reached".to_owned(), |us| format!("after {}", duration(us)))))
                (fact("exit code", &exit_code(record)))
                @for phase in &record.phases {
                    (fact(&format!("phase {}", one_line(&phase.name)),
                        &format!("{} to {}", moment(phase.start_us), moment(phase.end_us))))
                }
            }
        }
    }
}

fn pool(record: &Record) -> Markup {
    let s = &record.subject;
    html! {
        div {
            h3 { "Pool" }
            dl.facts {
                (fact("subject", &s.name))
                (fact("version", &s.version))
                (fact("what it is", &s.description))
                (fact("pool_size", &s.settings.pool_size.to_string()))
                (fact("max_overflow", &match s.settings.max_overflow {
                    n if n < 0 => format!("{n} (no limit)"),
                    n => n.to_string(),
                }))
                (fact("pool_timeout", &duration(s.settings.pool_timeout_us)))
                (fact("pre_ping", if s.settings.pre_ping { "yes" } else { "no" }))
            }
        }
    }
}

fn load(record: &Record) -> Markup {
    let l = &record.load;
    html! {
        div {
            h3 { "Load" }
            dl.facts {
                (fact("arrivals", &l.arrivals))
                (fact("rate", &format!("{} ops/s", rate(l.rate_per_s))))
                (fact("deadline of an op", &duration(l.deadline_us)))
                @for (name, n) in &l.workloads {
                    (fact(&format!("workload {}", one_line(name)), &counted(*n, "op")))
                }
                @for (name, n) in &l.endings {
                    (fact(&format!("ending {}", one_line(name)), &format!("{} planned", count(*n))))
                }
            }
        }
    }
}

fn environment(record: &Record) -> Markup {
    let e = &record.environment;
    html! {
        div {
            h3 { "Environment" }
            dl.facts {
                (fact("tool", &format!("{} {}", record.tool.name, record.tool.version)))
                (fact("system", &format!("{}, {}", e.os, counted(u64::from(e.cores), "core"))))
                (fact("server", &e.postgres))
                (fact("server from", &e.postgres_source))
                @for (name, value) in &e.postgres_settings { (fact(name, value)) }
            }
        }
    }
}

fn fact(term: &str, value: &str) -> Markup {
    html! {
        dt { (one_line(term)) }
        dd { (one_line(value)) }
    }
}

pub(super) fn notes(record: &Record) -> Markup {
    html! {
        @if !record.run.notes.is_empty() {
            section aria-labelledby="notes" {
                h2 #notes { "Notes" }
                ul { @for note in &record.run.notes { li { (one_line(note)) } } }
            }
        }
    }
}
