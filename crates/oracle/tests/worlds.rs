//! Random runs whose tables follow from their history: the judge must hold every guarantee. Then
//! one thing is broken: the judge must name exactly the guarantees that it breaks.

use std::collections::BTreeSet;

use poolproof_oracle::{
    BackendRow, BankSnapshot, CapacityProbe, Effect, Ending, ErrorCategory, Guarantee,
    GuaranteeStatus, Limits, Observations, OpError, OpRecord, Outcome, PoolView, Sample,
    ServerView, Store, Verdict, commits_in_doubt, counts, guarantees, verdict,
};
use proptest::prelude::*;
use proptest::sample::Index;

const ACCOUNTS: u32 = 5;
const OPENING: i64 = 100;
const TABLES: u32 = 3;
const POOL_TIMEOUT_US: u64 = 1_000_000;
const DEADLINE_US: u64 = 5_000_000;
const GRACE_US: u64 = 250_000;
const POOL_MAX: u64 = 15;
const CLEAN: &str = r#"{"in_transaction" : false, "xid_assigned" : false, "advisory_locks" : 0, "temp_objects" : 0, "listens" : 0, "cursors" : 0, "settings" : ["TimeZone"], "role" : "app"}"#;

/// What became of an op in truth, whatever its caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Broke,
    DoubtApplied,
    DoubtLost,
    Shed,
}

#[derive(Debug, Clone)]
struct World {
    ops: Vec<OpRecord>,
    applied: BTreeSet<u64>,
    store: Store,
    samples: Vec<Sample>,
    pool: PoolView,
    server: ServerView,
    capacity: CapacityProbe,
    snapshots: Vec<BankSnapshot>,
}

impl World {
    fn new(ops: Vec<(OpRecord, bool)>, connections: u64) -> Self {
        let bank = |at_us| BankSnapshot {
            at_us,
            accounts: u64::from(ACCOUNTS),
            total: i64::from(ACCOUNTS) * OPENING,
        };
        let mut world = Self {
            applied: BTreeSet::new(),
            ops: Vec::new(),
            store: Store {
                accounts: (0..ACCOUNTS).map(|account| (account, OPENING)).collect(),
                write_sets: vec![[].into(); TABLES as usize],
                op_log: [].into(),
            },
            samples: [connections, POOL_MAX, connections]
                .map(|size| Sample {
                    at_us: 0,
                    pool: PoolView {
                        size: Some(size),
                        ..PoolView::default()
                    },
                    in_flight: 0,
                    links: 0,
                })
                .into(),
            pool: PoolView {
                in_use: Some(0),
                idle: Some(connections),
                opening: Some(0),
                closing: Some(0),
                size: Some(connections),
                waiting: Some(0),
                opened_total: Some(connections + 7),
                closed_total: Some(7),
                leases_issued: Some(40),
                leases_returned: Some(40),
            },
            server: ServerView {
                backends: (0..connections).map(|_| resting_backend()).collect(),
                backends_peak: connections.max(1),
                prepared_transactions: 0,
            },
            capacity: CapacityProbe {
                wanted: 15,
                acquired: 15,
                took_us: 9_000,
                within_us: 9_000,
                error: None,
            },
            snapshots: vec![bank(10), bank(900)],
        };
        for (op, applied) in ops {
            if applied {
                world.applied.insert(op.id);
                world.apply(&op);
            }
            world.ops.push(op);
        }
        world
    }

    /// Applies an op as a transaction does: whole.
    fn apply(&mut self, op: &OpRecord) {
        *self.store.op_log.entry(op.id).or_default() += 1;
        match op.effect {
            Effect::Transfer { from, to, amount } => {
                *self.store.accounts.entry(from).or_default() -= amount;
                *self.store.accounts.entry(to).or_default() += amount;
            }
            Effect::WriteSet { tables } => {
                for table in &mut self.store.write_sets[..tables as usize] {
                    *table.entry(op.id).or_default() += 1;
                }
            }
        }
    }

    /// Takes an op that was applied once back, whole.
    fn revert(&mut self, op: &OpRecord) {
        self.store.op_log.remove(&op.id);
        match op.effect {
            Effect::Transfer { from, to, amount } => {
                *self.store.accounts.entry(from).or_default() += amount;
                *self.store.accounts.entry(to).or_default() -= amount;
            }
            Effect::WriteSet { tables } => {
                for table in &mut self.store.write_sets[..tables as usize] {
                    table.remove(&op.id);
                }
            }
        }
    }

    /// Picks one of the ops that fit; the first two ops of every world are a committed transfer
    /// and a committed write set, both probed.
    fn pick(&self, index: Index, fits: impl Fn(&OpRecord, bool) -> bool) -> Option<OpRecord> {
        let fitting: Vec<&OpRecord> = self
            .ops
            .iter()
            .filter(|op| fits(op, self.applied.contains(&op.id)))
            .collect();
        (!fitting.is_empty()).then(|| (*index.get(&fitting)).clone())
    }

    fn alter(&mut self, id: u64, change: impl FnOnce(&mut OpRecord)) {
        change(
            self.ops
                .iter_mut()
                .find(|op| op.id == id)
                .expect("the op was picked from this world"),
        );
    }

    fn observations(&self) -> Observations<'_> {
        Observations {
            limits: Limits {
                pool_timeout_us: POOL_TIMEOUT_US,
                pool_max: Some(POOL_MAX),
                bank_accounts: ACCOUNTS,
                bank_opening_balance: OPENING,
                write_set_tables: TABLES,
                quiescence_us: 10_000_000,
            },
            ops: &self.ops,
            faults: &[],
            stalls: &[],
            samples: &self.samples,
            pool: Ok(self.pool),
            server: Ok(self.server.clone()),
            capacity: Ok(self.capacity.clone()),
            store: Ok(&self.store),
            bank_snapshots: &self.snapshots,
            bank_unseen: None,
        }
    }
}

fn resting_backend() -> BackendRow {
    BackendRow {
        pid: 4711,
        state: "idle".into(),
        in_transaction: false,
        locks: 0,
    }
}

fn effects() -> impl Strategy<Value = Effect> {
    prop_oneof![
        (0..ACCOUNTS, 1..ACCOUNTS, 1..=100_i64).prop_map(|(from, step, amount)| {
            Effect::Transfer {
                from,
                to: (from + step) % ACCOUNTS,
                amount,
            }
        }),
        (1..=TABLES).prop_map(|tables| Effect::WriteSet { tables }),
    ]
}

fn endings_and_fates() -> impl Strategy<Value = (Ending, Fate)> {
    let cancel = (0..DEADLINE_US).prop_map(|after_us| Ending::Cancel { after_us });
    let any_fate = || {
        prop::sample::select(vec![
            Fate::Done,
            Fate::Broke,
            Fate::DoubtApplied,
            Fate::DoubtLost,
            Fate::Shed,
        ])
    };
    let never_committed = || prop::sample::select(vec![Fate::Done, Fate::Broke, Fate::Shed]);
    prop_oneof![
        (Just(Ending::Commit), any_fate()),
        (cancel, any_fate()),
        (Just(Ending::Rollback), never_committed()),
        (Just(Ending::Panic), never_committed()),
    ]
}

/// Turns a fate into what the caller saw of it: the record, and whether the op was applied.
fn record(
    id: u64,
    effect: Effect,
    (ending, fate): (Ending, Fate),
    (started_us, wait_us, work_us): (u64, u64, u64),
) -> (OpRecord, bool) {
    let (outcome, category) = match (fate, ending) {
        (Fate::Done, Ending::Panic) => (Outcome::Fail, Some(ErrorCategory::Panicked)),
        (Fate::Done, _) => (Outcome::Ok, None),
        (Fate::Broke, Ending::Cancel { .. }) => (Outcome::Fail, Some(ErrorCategory::Cancelled)),
        (Fate::Broke, _) => (Outcome::Fail, Some(ErrorCategory::Connection)),
        (Fate::DoubtApplied | Fate::DoubtLost, Ending::Cancel { .. }) => {
            (Outcome::Info, Some(ErrorCategory::Cancelled))
        }
        (Fate::DoubtApplied | Fate::DoubtLost, _) => {
            (Outcome::Info, Some(ErrorCategory::Ambiguous))
        }
        (Fate::Shed, _) => (Outcome::Shed, Some(ErrorCategory::Capacity)),
    };
    let commits = matches!(ending, Ending::Commit | Ending::Cancel { .. });
    let acquired_us = (fate != Fate::Shed).then_some(started_us + wait_us);
    let commit_sent = commits && !matches!(fate, Fate::Broke | Fate::Shed);
    let ended_us = started_us + wait_us + if fate == Fate::Shed { 0 } else { work_us };
    let op = OpRecord {
        id,
        workload: "any".into(),
        ending,
        effect,
        intended_us: started_us.saturating_sub(300),
        started_us,
        deadline_us: DEADLINE_US,
        acquired_us,
        commit_sent_us: commit_sent.then_some(ended_us),
        ended_us: Some(ended_us),
        outcome,
        error: category.map(|category| OpError {
            category,
            sqlstate: None,
            message: category.as_str().into(),
        }),
        backend_pid: None,
        previous_op: None,
        clean_probe: (acquired_us.is_some() && id.is_multiple_of(2)).then(|| CLEAN.to_owned()),
    };
    let applied = commits && matches!(fate, Fate::Done | Fate::DoubtApplied);
    (op, applied)
}

fn worlds() -> impl Strategy<Value = World> {
    let times = (
        0..20_000_000_u64,
        0..=POOL_TIMEOUT_US + GRACE_US,
        0..=DEADLINE_US - POOL_TIMEOUT_US,
    );
    let ops = prop::collection::vec((effects(), endings_and_fates(), times), 0..60);
    (ops, 0..8_u64).prop_map(|(ops, connections)| {
        let done = (Ending::Commit, Fate::Done);
        let transfer = Effect::Transfer {
            from: 0,
            to: 1,
            amount: 7,
        };
        let whole = Effect::WriteSet { tables: TABLES };
        let first = [
            record(0, transfer, done, (0, 10, 10)),
            record(2, whole, done, (0, 10, 10)),
            record(4, transfer, (Ending::Rollback, Fate::Done), (0, 10, 10)),
        ];
        let rest = (5..)
            .zip(ops)
            .map(|(id, (effect, ending, times))| record(id, effect, ending, times));
        World::new(first.into_iter().chain(rest).collect(), connections)
    })
}

/// One thing to break.
type Breakage = (
    &'static str,
    &'static [Guarantee],
    fn(&mut World, Index) -> Option<()>,
);

const BREAKAGES: [Breakage; 25] = [
    (
        "an acknowledged op is lost whole",
        &[Guarantee::X],
        |world, index| {
            let op = world.pick(index, |op, applied| applied && op.outcome == Outcome::Ok)?;
            world.revert(&op);
            Some(())
        },
    ),
    (
        "an op is applied twice, each time whole",
        &[Guarantee::X],
        |world, index| {
            let op = world.pick(index, |_, applied| applied)?;
            world.apply(&op);
            Some(())
        },
    ),
    (
        "an op that failed, rolled back or was shed stays",
        &[Guarantee::X],
        |world, index| {
            let op = world.pick(index, |op, applied| !applied && op.outcome != Outcome::Info)?;
            world.apply(&op);
            Some(())
        },
    ),
    ("a stray row in the op log", &[Guarantee::X], |world, _| {
        world.store.op_log.insert(1, 1);
        Some(())
    }),
    (
        "a transfer lost its row in the op log",
        &[Guarantee::R1, Guarantee::X],
        |world, index| {
            let op = world.pick(index, |op, applied| {
                applied && op.outcome == Outcome::Ok && matches!(op.effect, Effect::Transfer { .. })
            })?;
            world.store.op_log.remove(&op.id);
            Some(())
        },
    ),
    (
        "a write set lost its row in the op log",
        &[Guarantee::R2, Guarantee::X],
        |world, index| {
            let op = world.pick(index, |op, applied| {
                applied && op.outcome == Outcome::Ok && matches!(op.effect, Effect::WriteSet { .. })
            })?;
            world.store.op_log.remove(&op.id);
            Some(())
        },
    ),
    ("half a transfer", &[Guarantee::R1], |world, index| {
        let op = world.pick(index, |op, applied| {
            applied && matches!(op.effect, Effect::Transfer { .. })
        })?;
        let Effect::Transfer { to, amount, .. } = op.effect else {
            return None;
        };
        *world.store.accounts.get_mut(&to)? -= amount;
        Some(())
    }),
    (
        "two half transfers that cancel out",
        &[Guarantee::R1],
        |world, _| {
            *world.store.accounts.get_mut(&0)? -= 3;
            *world.store.accounts.get_mut(&4)? += 3;
            Some(())
        },
    ),
    ("a missing account", &[Guarantee::R1], |world, index| {
        let account = u32::try_from(index.index(ACCOUNTS as usize)).ok()?;
        world.store.accounts.remove(&account);
        Some(())
    }),
    ("an unexpected account", &[Guarantee::R1], |world, _| {
        world.store.accounts.insert(ACCOUNTS, 0);
        Some(())
    }),
    (
        "a snapshot inside a transfer",
        &[Guarantee::R1],
        |world, index| {
            world.snapshots[index.index(2)].total += 1;
            Some(())
        },
    ),
    (
        "a write set misses a table",
        &[Guarantee::R2],
        |world, index| {
            let op = world.pick(index, |op, applied| {
                applied && matches!(op.effect, Effect::WriteSet { .. })
            })?;
            world.store.write_sets[0].remove(&op.id);
            Some(())
        },
    ),
    (
        "a part of a write set that is not there",
        &[Guarantee::R2],
        |world, index| {
            let op = world.pick(index, |op, applied| {
                !applied && matches!(op.effect, Effect::WriteSet { .. })
            })?;
            world.store.write_sets[0].insert(op.id, 1);
            Some(())
        },
    ),
    (
        "a stray row in a write-set table",
        &[Guarantee::R2],
        |world, index| {
            world.store.write_sets[index.index(TABLES as usize)].insert(1, 1);
            Some(())
        },
    ),
    (
        "an op beyond its deadline",
        &[Guarantee::T],
        |world, index| {
            let op = world.pick(index, |op, _| op.acquired_us.is_some())?;
            world.alter(op.id, |op| {
                op.ended_us = Some(op.started_us + DEADLINE_US + GRACE_US + 1)
            });
            Some(())
        },
    ),
    ("an op that never ended", &[Guarantee::T], |world, index| {
        let op = world.pick(index, |_, _| true)?;
        world.alter(op.id, |op| op.ended_us = None);
        Some(())
    }),
    (
        "a wait beyond pool_timeout",
        &[Guarantee::T],
        |world, index| {
            let op = world.pick(index, |_, _| true)?;
            let late = op.started_us + POOL_TIMEOUT_US + GRACE_US + 1;
            world.alter(op.id, |op| match &mut op.acquired_us {
                Some(acquired) => {
                    *acquired = late;
                    op.ended_us = op.ended_us.max(Some(late));
                }
                None => op.ended_us = Some(late),
            });
            Some(())
        },
    ),
    ("a dirty connection", &[Guarantee::C], |world, index| {
        let op = world.pick(index, |op, _| op.clean_probe.is_some())?;
        world.alter(op.id, |op| {
            let dirty = CLEAN.replace(r#""in_transaction" : false"#, r#""in_transaction" : true"#);
            op.clean_probe = Some(dirty);
        });
        Some(())
    }),
    ("an unreadable probe", &[Guarantee::C], |world, index| {
        let op = world.pick(index, |op, _| op.clean_probe.is_some())?;
        world.alter(op.id, |op| op.clean_probe = Some(CLEAN[..40].to_owned()));
        Some(())
    }),
    (
        "a lease that never came back",
        &[Guarantee::L1],
        |world, _| {
            world.pool.leases_returned = Some(39);
            Some(())
        },
    ),
    (
        "a waiter that is still there",
        &[Guarantee::L1],
        |world, _| {
            world.pool.waiting = Some(1);
            Some(())
        },
    ),
    (
        "a connection beyond the limit",
        &[Guarantee::L1],
        |world, index| {
            let look = index.index(world.samples.len());
            world.samples[look].pool.size = Some(POOL_MAX + 1);
            Some(())
        },
    ),
    ("a backend too many", &[Guarantee::L2], |world, _| {
        world.server.backends.push(resting_backend());
        Some(())
    }),
    ("a prepared transaction", &[Guarantee::L2], |world, _| {
        world.server.prepared_transactions = 1;
        Some(())
    }),
    ("a lost permit", &[Guarantee::L6], |world, _| {
        world.capacity.acquired = 14;
        Some(())
    }),
];

fn violated(world: &World) -> Vec<Guarantee> {
    guarantees(&world.observations())
        .into_iter()
        .filter(|result| result.status == GuaranteeStatus::Violated)
        .map(|result| result.guarantee)
        .collect()
}

proptest! {
    #[test]
    fn a_world_that_follows_from_its_history_keeps_every_guarantee(world in worlds()) {
        let results = guarantees(&world.observations());
        for result in &results {
            prop_assert_eq!(&result.status, &GuaranteeStatus::Held, "{:?}", result);
            prop_assert!(result.checked > 0);
            prop_assert_eq!(result.violations, 0);
            prop_assert!(result.evidence.is_empty());
        }
        prop_assert_eq!(verdict(&results, &[], &[]), (Verdict::Pass, Vec::new()));
    }

    #[test]
    fn each_breakage_violates_exactly_its_guarantees(world in worlds(), index: Index) {
        for (name, guarantees, break_it) in BREAKAGES {
            let mut broken = world.clone();
            if break_it(&mut broken, index).is_some() {
                prop_assert_eq!(violated(&broken), guarantees, "{}", name);
            }
        }
    }

    #[test]
    fn each_commit_in_doubt_resolves_to_what_happened(world in worlds()) {
        let doubts = commits_in_doubt(&world.ops, Some(&world.store));
        let info = world.ops.iter().filter(|op| op.outcome == Outcome::Info).count();
        prop_assert_eq!(doubts.len(), info);
        for doubt in doubts {
            prop_assert_eq!(doubt.applied, Some(world.applied.contains(&doubt.op)));
        }
    }

    #[test]
    fn every_op_is_counted_in_one_outcome(world in worlds()) {
        let counts = counts(&world.ops);
        prop_assert_eq!(
            counts.offered,
            counts.ok + counts.fail + counts.info + counts.shed
        );
        prop_assert_eq!(counts.ok, counts.committed + counts.rolled_back);
        let in_doubt_and_applied = world
            .ops
            .iter()
            .filter(|op| op.outcome == Outcome::Info && world.applied.contains(&op.id))
            .count();
        let applied = u64::try_from(world.applied.len() - in_doubt_and_applied).unwrap();
        prop_assert_eq!(counts.committed, applied);
    }
}

#[test]
fn every_breakage_is_possible_in_some_world() {
    let runner = &mut proptest::test_runner::TestRunner::deterministic();
    let mut possible = BTreeSet::new();
    for _ in 0..32 {
        let world = proptest::strategy::ValueTree::current(&worlds().new_tree(runner).unwrap());
        let index =
            proptest::strategy::ValueTree::current(&any::<Index>().new_tree(runner).unwrap());
        for (name, _, break_it) in BREAKAGES {
            if break_it(&mut world.clone(), index).is_some() {
                possible.insert(name);
            }
        }
    }
    assert_eq!(possible, BREAKAGES.iter().map(|(name, ..)| *name).collect());
}
