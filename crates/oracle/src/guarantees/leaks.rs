//! L: no leak, by the pool's books (L1), by the server's (L2), and by using what is left (L6).

use super::culprit::had_it_last;
use super::limit::within_limit;
use super::tally::{Tally, unseen};
use crate::figures::{Seconds, counted};
use crate::{Guarantee, GuaranteeResult, GuaranteeStatus, Observations, PoolView};

/// L1: at quiescence nothing is lent, awaited, opening or closing, and the books balance; at no
/// look were there more connections than the pool may have.
pub(super) fn pool_books(observations: &Observations<'_>) -> GuaranteeResult {
    let mut tally = Tally::default();
    let limit = within_limit(observations, &mut tally);
    let view = match &observations.pool {
        Ok(view) => view,
        Err(reason) => {
            let status = GuaranteeStatus::Void(reason.clone());
            return tally.conclude_unjudged(Guarantee::L1, limit, status);
        }
    };
    if let (Some(size), Some(max)) = (view.size, observations.limits.pool_max) {
        tally.fact(size <= max, || {
            format!("size: expected at most {max} at quiescence, found {size}")
        });
    }
    let mut told = Vec::new();
    for (name, value) in [
        ("in_use", view.in_use),
        ("waiting", view.waiting),
        ("opening", view.opening),
        ("closing", view.closing),
    ] {
        if let Some(value) = value {
            told.push(format!("{name} {value}"));
            tally.fact(value == 0, || {
                format!("{name}: expected 0 at quiescence, found {value}")
            });
        }
    }
    told.extend(size_is_the_sum(view, &mut tally));
    told.extend(size_is_what_was_opened(view, &mut tally));
    if let (Some(issued), Some(returned)) = (view.leases_issued, view.leases_returned) {
        told.push(format!("leases: {issued} issued, {returned} returned"));
        tally.fact(issued == returned, || {
            format!("leases: {issued} issued, {returned} returned")
        });
    }
    if told.is_empty() {
        let reason = "the subject tells nothing about its leases and connections".to_owned();
        let status = GuaranteeStatus::NotChecked(reason);
        return tally.conclude_unjudged(Guarantee::L1, limit, status);
    }
    let rest = format!("at quiescence: {}", told.join("; "));
    let phrases: Vec<String> = limit.into_iter().chain([rest]).collect();
    tally.conclude(Guarantee::L1, phrases.join("; "))
}

/// `size = in_use + idle + opening + closing`; with a part untold, size is at least the rest.
fn size_is_the_sum(view: &PoolView, tally: &mut Tally) -> Option<String> {
    let size = view.size?;
    let parts = [
        ("in_use", view.in_use),
        ("idle", view.idle),
        ("opening", view.opening),
        ("closing", view.closing),
    ];
    let known: Vec<(&str, u64)> = parts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    if known.is_empty() {
        return None;
    }
    let sum: u64 = known
        .iter()
        .fold(0, |sum, (_, value)| sum.saturating_add(*value));
    let (relation, holds) = if known.len() == parts.len() {
        ("=", size == sum)
    } else {
        (">=", size >= sum)
    };
    let names: Vec<String> = known
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let names = names.join(" + ");
    tally.fact(holds, || {
        format!("size: expected size {relation} {names}, found size {size}")
    });
    Some(format!("size {size} {relation} {names}"))
}

/// `opened_total − closed_total = size`.
fn size_is_what_was_opened(view: &PoolView, tally: &mut Tally) -> Option<String> {
    let (size, opened, closed) = (view.size?, view.opened_total?, view.closed_total?);
    let open = i128::from(opened) - i128::from(closed);
    tally.fact(open == i128::from(size), || {
        format!("connections: {opened} opened - {closed} closed = {open}, but size is {size}")
    });
    Some(format!("opened {opened} - closed {closed} = size {size}"))
}

/// L2: the server has no more backends of the subject than the pool says, all of them at rest.
///
/// Fewer are no leak: the server or the network may end an idle connection, and a pool finds out
/// only when it next uses or pings it. They are told in the summary.
pub(super) fn server_books(observations: &Observations<'_>) -> GuaranteeResult {
    let server = match &observations.server {
        Ok(server) => server,
        Err(reason) => return unseen(Guarantee::L2, reason),
    };
    let mut tally = Tally::default();
    let found = count_of(server.backends.len());
    let size = observations.pool.as_ref().ok().and_then(|view| view.size);
    let compared = match size {
        Some(size) => {
            tally.fact(found <= size, || {
                format!("backends: expected at most {size} by the pool's size, found {found}")
            });
            compared(found, size)
        }
        None => format!(
            "{} (the subject does not tell its size)",
            counted(found, "backend")
        ),
    };
    for backend in &server.backends {
        let open = backend.in_transaction || backend.state.starts_with("idle in transaction");
        tally.fact(!open, || {
            format!(
                "backend {}: transaction open ({}){}",
                backend.pid,
                backend.state,
                had_it_last(backend.pid, observations.ops)
            )
        });
        tally.fact(backend.locks == 0, || {
            format!(
                "backend {}: {} left ({}){}",
                backend.pid,
                counted(backend.locks, "lock"),
                backend.state,
                had_it_last(backend.pid, observations.ops)
            )
        });
    }
    let prepared = server.prepared_transactions;
    tally.fact(prepared == 0, || {
        format!("prepared transactions: expected 0, found {prepared}")
    });
    let summary = format!("{compared}; open transactions, locks and prepared transactions counted");
    if server.backends_peak == 0 {
        let reason = "the server never showed a connection of the subject";
        return tally.conclude_void(Guarantee::L2, summary, reason);
    }
    tally.conclude(Guarantee::L2, summary)
}

fn compared(found: u64, size: u64) -> String {
    let text = format!("{} for a pool size of {size}", counted(found, "backend"));
    match size.saturating_sub(found) {
        0 => text,
        1 if size == 1 => {
            format!("{text}: the pool's only connection is already gone at the server")
        }
        1 => format!("{text}: 1 of the pool's {size} connections is already gone at the server"),
        gone => {
            format!(
                "{text}: {gone} of the pool's {size} connections are already gone at the server"
            )
        }
    }
}

/// L6: everything that the pool promises can be held at once. Finds permits that were lost
/// without a connection to show for it.
pub(super) fn capacity(observations: &Observations<'_>) -> GuaranteeResult {
    let probe = match &observations.capacity {
        Ok(probe) => probe,
        Err(reason) => return unseen(Guarantee::L6, reason),
    };
    let mut tally = Tally::default();
    tally.fact(probe.acquired == probe.wanted, || {
        let error = match &probe.error {
            Some(error) => format!("; first error: {error}"),
            None => String::new(),
        };
        format!(
            "expected {} held at once, found {}{error}",
            counted(probe.wanted, "connection"),
            probe.acquired
        )
    });
    tally.fact(probe.took_us <= probe.within_us, || {
        format!(
            "expected within {}, took {}",
            Seconds(probe.within_us),
            Seconds(probe.took_us)
        )
    });
    let summary = format!(
        "{} of {} held at once after {} (allowed {})",
        probe.acquired,
        counted(probe.wanted, "connection"),
        Seconds(probe.took_us),
        Seconds(probe.within_us)
    );
    if probe.wanted == 0 {
        return tally.conclude_void(Guarantee::L6, summary, "no connection was wanted");
    }
    tally.conclude(Guarantee::L6, summary)
}

fn count_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{capacity, pool_books, server_books};
    use crate::fixture::{World, cancelled, committed};
    use crate::{BackendRow, GuaranteeStatus, OpRecord, PoolView};

    type Change<T> = (&'static str, fn(&mut T));

    #[test]
    fn a_quiet_pool_keeps_l1_and_its_summary_names_every_book() {
        let world = World::default();
        let result = pool_books(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 8);
        assert_eq!(
            result.summary,
            "at quiescence: in_use 0; waiting 0; opening 0; closing 0; \
             size 5 = in_use 0 + idle 5 + opening 0 + closing 0; \
             opened 28 - closed 23 = size 5; leases: 900 issued, 900 returned"
        );
    }

    #[test]
    fn each_book_that_does_not_balance_is_caught_by_l1() {
        let planted: [Change<PoolView>; 8] = [
            ("in_use: expected 0 at quiescence, found 1", |view| {
                view.in_use = Some(1);
                view.idle = Some(4);
            }),
            ("waiting: expected 0 at quiescence, found 2", |view| {
                view.waiting = Some(2);
            }),
            ("opening: expected 0 at quiescence, found 1", |view| {
                view.opening = Some(1);
                view.idle = Some(4);
            }),
            ("closing: expected 0 at quiescence, found 1", |view| {
                view.closing = Some(1);
                view.idle = Some(4);
            }),
            (
                "size: expected size = in_use 0 + idle 4 + opening 0 + closing 0, found size 5",
                |view| view.idle = Some(4),
            ),
            (
                "connections: 29 opened - 23 closed = 6, but size is 5",
                |view| view.opened_total = Some(29),
            ),
            (
                "connections: 22 opened - 23 closed = -1, but size is 5",
                |view| view.opened_total = Some(22),
            ),
            ("leases: 900 issued, 899 returned", |view| {
                view.leases_returned = Some(899);
            }),
        ];
        for (evidence, change) in planted {
            let mut world = World::default();
            change(&mut world.pool);
            let result = pool_books(&world.observations());
            assert_eq!(result.status, GuaranteeStatus::Violated, "{evidence}");
            assert_eq!(result.evidence, [evidence]);
        }
    }

    #[test]
    fn l1_checks_only_what_the_subject_tells() {
        let mut world = World {
            pool: PoolView {
                in_use: Some(0),
                idle: Some(3),
                size: Some(3),
                ..PoolView::default()
            },
            ..World::default()
        };
        let result = pool_books(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(
            result.summary,
            "at quiescence: in_use 0; size 3 >= in_use 0 + idle 3"
        );

        world.pool.size = Some(2);
        assert_eq!(
            pool_books(&world.observations()).evidence,
            ["size: expected size >= in_use 0 + idle 3, found size 2"]
        );
    }

    #[test]
    fn a_subject_that_tells_no_book_is_not_checked() {
        let world = World {
            pool: PoolView {
                idle: Some(3),
                opened_total: Some(9),
                leases_issued: Some(4),
                ..PoolView::default()
            },
            ..World::default()
        };
        assert_eq!(
            pool_books(&world.observations()).status,
            GuaranteeStatus::NotChecked(
                "the subject tells nothing about its leases and connections".into()
            )
        );
    }

    #[test]
    fn resting_backends_as_many_as_the_pool_says_keep_l2() {
        let mut world = World::default();
        // An active backend is no leak as long as it holds nothing.
        world.server.backends[0].state = "active".into();
        let result = server_books(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 12);
    }

    #[test]
    fn connections_that_the_server_has_ended_already_are_told_and_are_no_leak() {
        let judge = |left: usize, size: u64| {
            let mut world = World::default();
            world.server.backends.truncate(left);
            world.pool.size = Some(size);
            let result = server_books(&world.observations());
            assert_eq!(result.status, GuaranteeStatus::Held, "{result:?}");
            result.summary
        };
        let rest = "; open transactions, locks and prepared transactions counted";
        for (left, size, told) in [
            (5, 5, "5 backends for a pool size of 5"),
            (
                4,
                5,
                "4 backends for a pool size of 5: \
                 1 of the pool's 5 connections is already gone at the server",
            ),
            (
                2,
                5,
                "2 backends for a pool size of 5: \
                 3 of the pool's 5 connections are already gone at the server",
            ),
            (
                0,
                1,
                "0 backends for a pool size of 1: \
                 the pool's only connection is already gone at the server",
            ),
        ] {
            assert_eq!(judge(left, size), format!("{told}{rest}"));
        }
    }

    #[test]
    fn a_backend_that_is_left_with_a_lock_is_caught_by_l2_when_others_are_gone() {
        let mut world = World::default();
        world.server.backends.truncate(2);
        world.server.backends[1].locks = 1;
        assert_eq!(
            server_books(&world.observations()).evidence,
            ["backend 101: 1 lock left (idle)"]
        );
    }

    #[test]
    fn a_server_that_never_showed_a_connection_makes_l2_void() {
        let mut world = World::default();
        world.server.backends.clear();
        world.server.backends_peak = 0;
        let reason = "the server never showed a connection of the subject";
        assert_eq!(
            server_books(&world.observations()).status,
            GuaranteeStatus::Void(reason.into())
        );
    }

    #[test]
    fn each_thing_left_on_the_server_is_caught_by_l2() {
        let planted: [Change<World>; 5] = [
            (
                "backends: expected at most 5 by the pool's size, found 6",
                |world| {
                    world.server.backends.push(BackendRow {
                        pid: 77,
                        state: "idle".into(),
                        in_transaction: false,
                        locks: 0,
                    });
                },
            ),
            (
                "backend 102: transaction open (idle in transaction)",
                |world| world.server.backends[2].state = "idle in transaction".into(),
            ),
            ("backend 101: transaction open (active)", |world| {
                world.server.backends[1].in_transaction = true;
                world.server.backends[1].state = "active".into();
            }),
            ("backend 100: 1 lock left (idle)", |world| {
                world.server.backends[0].locks = 1;
            }),
            ("prepared transactions: expected 0, found 1", |world| {
                world.server.prepared_transactions = 1;
            }),
        ];
        for (evidence, change) in planted {
            let mut world = World::default();
            change(&mut world);
            let result = server_books(&world.observations());
            assert_eq!(result.status, GuaranteeStatus::Violated, "{evidence}");
            assert_eq!(result.evidence, [evidence]);
        }
    }

    #[test]
    fn evidence_of_l2_names_the_op_that_had_the_backend_last() {
        let on_101 = |op| OpRecord {
            backend_pid: Some(101),
            ..op
        };
        let ops = [on_101(committed(1)), on_101(cancelled(3)), committed(4)];
        let mut world = World::with_ops(ops);
        world.server.backends[1].locks = 1;
        world.server.backends[2].locks = 1;
        assert_eq!(
            server_books(&world.observations()).evidence,
            [
                "backend 101: 1 lock left (idle); op 3 (bank), cancelled, had it last",
                "backend 102: 1 lock left (idle)"
            ]
        );
    }

    #[test]
    fn without_the_pools_size_l2_checks_the_rest() {
        let mut world = World::default();
        world.pool.size = None;
        world.server.backends.pop();
        let result = server_books(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 9);

        world.server.backends[3].locks = 2;
        let mut observations = world.observations();
        observations.pool = Err("the subject is closed".into());
        assert_eq!(
            server_books(&observations).evidence,
            ["backend 103: 2 locks left (idle)"]
        );
    }

    #[test]
    fn the_whole_capacity_in_time_keeps_l6() {
        let mut world = World::default();
        world.capacity.took_us = world.capacity.within_us;
        let result = capacity(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(
            result.summary,
            "15 of 15 connections held at once after 5.000 s (allowed 5.000 s)"
        );
    }

    #[test]
    fn lost_permits_and_a_late_capacity_are_caught_by_l6() {
        let mut world = World::default();
        world.capacity.acquired = 14;
        world.capacity.error = Some("pool timed out".into());
        assert_eq!(
            capacity(&world.observations()).evidence,
            ["expected 15 connections held at once, found 14; first error: pool timed out"]
        );

        let mut world = World::default();
        world.capacity.took_us = world.capacity.within_us + 1;
        let result = capacity(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Violated);
        assert_eq!(
            result.evidence,
            ["expected within 5.000 s, took 5.000001 s"]
        );
    }

    #[test]
    fn a_capacity_probe_that_wanted_nothing_is_void() {
        let mut world = World::default();
        world.capacity.wanted = 0;
        world.capacity.acquired = 0;
        assert_eq!(
            capacity(&world.observations()).status,
            GuaranteeStatus::Void("no connection was wanted".into())
        );
    }
}
