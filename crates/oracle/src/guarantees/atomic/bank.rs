//! R1: the bank's total never changes, and each balance is what the op log's transfers make it.

use std::collections::{BTreeMap, BTreeSet};

use crate::figures::{Seconds, counted, grouped};
use crate::guarantees::tally::{Tally, nothing_to_check, unseen};
use crate::{Effect, Guarantee, GuaranteeResult, Limits, Observations, OpRecord, Store};

/// What the transfers in the op log did to one account.
#[derive(Debug, Clone, Copy, Default)]
struct Movement {
    delta: i128,
    transfers: u64,
}

/// Checks three kinds of facts: the final total, each account, and each snapshot of the run.
///
/// `balance = opening + Σ delta · rows in the op log`, over the transfers of the history. The op
/// log is written in the transfer's own transaction, so the equation holds for lost and doubled
/// transfers too (they are for X), and breaks for a transfer of which only a part was applied,
/// even when such parts cancel out in the total.
pub(in crate::guarantees) fn bank(observations: &Observations<'_>) -> GuaranteeResult {
    if observations.limits.bank_accounts == 0 {
        return nothing_to_check(Guarantee::R1, "the run had no bank");
    }
    let store = match &observations.store {
        Ok(store) => *store,
        Err(reason) => return unseen(Guarantee::R1, reason),
    };
    let (movements, applied) = movements(observations.ops, store);
    let mut tally = Tally::default();
    check_total(observations.limits, store, &mut tally);
    check_accounts(observations.limits, store, &movements, &mut tally);
    check_snapshots(observations, &mut tally);
    let summary = format!(
        "{} applied: total of {} and {} after the run, {} during it",
        counted(applied, "transfer"),
        grouped(expected_total(observations.limits)),
        counted(u64::from(observations.limits.bank_accounts), "balance"),
        counted(
            u64::try_from(observations.bank_snapshots.len()).unwrap_or(u64::MAX),
            "snapshot"
        ),
    );
    if applied == 0 {
        return tally.conclude_void(Guarantee::R1, summary, "no transfer was applied");
    }
    if let Some(reason) = observations.bank_unseen {
        return tally.conclude_void(Guarantee::R1, summary, reason);
    }
    tally.conclude(Guarantee::R1, summary)
}

fn expected_total(limits: Limits) -> i128 {
    i128::from(limits.bank_accounts) * i128::from(limits.bank_opening_balance)
}

/// Returns the movement of each account, and how many transfers the op log holds.
fn movements(ops: &[OpRecord], store: &Store) -> (BTreeMap<u32, Movement>, u64) {
    let mut movements: BTreeMap<u32, Movement> = BTreeMap::new();
    let mut applied = 0;
    for op in ops {
        let Effect::Transfer { from, to, amount } = op.effect else {
            continue;
        };
        let rows = store.op_log.get(&op.id).copied().unwrap_or(0);
        if rows == 0 {
            continue;
        }
        applied += rows;
        let moved = i128::from(amount) * i128::from(rows);
        for (account, delta) in [(from, -moved), (to, moved)] {
            let movement = movements.entry(account).or_default();
            movement.delta += delta;
            movement.transfers += rows;
        }
    }
    (movements, applied)
}

fn check_total(limits: Limits, store: &Store, tally: &mut Tally) {
    let expected = expected_total(limits);
    let found: i128 = store.accounts.values().copied().map(i128::from).sum();
    tally.fact(found == expected, || {
        format!(
            "total after the run: expected {}, found {} ({:+})",
            grouped(expected),
            grouped(found),
            grouped(found - expected)
        )
    });
}

fn check_accounts(
    limits: Limits,
    store: &Store,
    movements: &BTreeMap<u32, Movement>,
    tally: &mut Tally,
) {
    let opened = 0..limits.bank_accounts;
    let accounts: BTreeSet<u32> = opened
        .clone()
        .chain(store.accounts.keys().copied())
        .collect();
    for account in accounts {
        let Some(found) = store.accounts.get(&account).copied() else {
            tally.violation(|| format!("account {account}: missing"));
            continue;
        };
        if !opened.contains(&account) {
            tally.violation(|| {
                format!(
                    "account {account}: unexpected, found with {}",
                    grouped(found)
                )
            });
            continue;
        }
        let movement = movements.get(&account).copied().unwrap_or_default();
        let expected = i128::from(limits.bank_opening_balance) + movement.delta;
        tally.fact(i128::from(found) == expected, || {
            format!(
                "account {account}: expected {} ({} {:+} by {} in the op log), found {}",
                grouped(expected),
                grouped(limits.bank_opening_balance),
                grouped(movement.delta),
                counted(movement.transfers, "transfer"),
                grouped(found)
            )
        });
    }
}

fn check_snapshots(observations: &Observations<'_>, tally: &mut Tally) {
    let accounts = u64::from(observations.limits.bank_accounts);
    let total = expected_total(observations.limits);
    for snapshot in observations.bank_snapshots {
        let holds = snapshot.accounts == accounts && i128::from(snapshot.total) == total;
        tally.fact(holds, || {
            format!(
                "snapshot at {}: expected {} with a total of {}, found {} with {}",
                Seconds(snapshot.at_us),
                counted(accounts, "account"),
                grouped(total),
                grouped(snapshot.accounts),
                grouped(snapshot.total)
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::bank;
    use crate::fixture::{World, committed, failed, in_doubt, write_set};
    use crate::{BankSnapshot, Effect, GuaranteeStatus, OpRecord};

    fn transfer(id: u64, from: u32, to: u32, amount: i64) -> OpRecord {
        OpRecord {
            effect: Effect::Transfer { from, to, amount },
            ..committed(id)
        }
    }

    /// Four accounts with 1,000 each; ops 0, 1 and 3 were applied, op 2 was not.
    fn consistent() -> World {
        let mut world = World::with_ops([
            transfer(0, 0, 1, 10),
            transfer(1, 2, 0, 25),
            failed(2),
            in_doubt(3),
        ]);
        world.store.op_log = [(0, 1), (1, 1), (3, 1)].into();
        world.store.accounts = [(0, 1_005), (1, 1_020), (2, 975), (3, 1_000)].into();
        world.bank_snapshots = vec![BankSnapshot {
            at_us: 150_000,
            accounts: 4,
            total: 4_000,
        }];
        world
    }

    #[test]
    fn balances_that_follow_from_the_op_log_keep_r1() {
        let result = bank(&consistent().observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 6);
        assert_eq!(
            result.summary,
            "3 transfers applied: total of 4,000 and 4 balances after the run, \
             1 snapshot during it"
        );
    }

    #[test]
    fn a_half_applied_transfer_breaks_the_total_and_the_account() {
        let mut world = consistent();
        world.store.accounts.insert(2, 1_000);
        let result = bank(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Violated);
        assert_eq!(
            result.evidence,
            [
                "total after the run: expected 4,000, found 4,025 (+25)",
                "account 2: expected 975 (1,000 -25 by 1 transfer in the op log), found 1,000",
            ]
        );
    }

    #[test]
    fn half_applied_transfers_that_cancel_out_are_caught() {
        let mut world = consistent();
        world.store.accounts.insert(1, 1_015);
        world.store.accounts.insert(3, 1_005);
        assert_eq!(
            bank(&world.observations()).evidence,
            [
                "account 1: expected 1,020 (1,000 +20 by 2 transfers in the op log), found 1,015",
                "account 3: expected 1,000 (1,000 +0 by 0 transfers in the op log), found 1,005",
            ]
        );
    }

    #[test]
    fn money_moved_without_a_row_in_the_op_log_is_caught() {
        let mut world = consistent();
        world.store.op_log.remove(&0);
        let result = bank(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Violated);
        assert_eq!(result.violations, 2);
    }

    #[test]
    fn a_transfer_applied_twice_as_a_whole_is_left_to_x() {
        let mut world = consistent();
        world.store.op_log.insert(1, 2);
        world.store.accounts.insert(2, 950);
        world.store.accounts.insert(0, 1_030);
        assert_eq!(bank(&world.observations()).status, GuaranteeStatus::Held);
    }

    #[test]
    fn missing_and_unexpected_accounts_are_caught() {
        let mut world = consistent();
        let balance = world.store.accounts.remove(&3).unwrap();
        world.store.accounts.insert(4, balance);
        assert_eq!(
            bank(&world.observations()).evidence,
            [
                "account 3: missing",
                "account 4: unexpected, found with 1,000"
            ]
        );
    }

    #[test]
    fn a_snapshot_that_saw_half_a_transfer_is_caught() {
        for (accounts, total, found) in [(4, 3_990, "4 with 3,990"), (3, 4_000, "3 with 4,000")] {
            let mut world = consistent();
            world.bank_snapshots.push(BankSnapshot {
                at_us: 250_000,
                accounts,
                total,
            });
            assert_eq!(
                bank(&world.observations()).evidence,
                [format!(
                    "snapshot at 0.250 s: expected 4 accounts with a total of 4,000, found {found}"
                )]
            );
        }
    }

    #[test]
    fn an_emptied_bank_is_violated_although_nothing_was_applied() {
        let mut world = World::with_ops([failed(0)]);
        let result = bank(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Violated);
        assert_eq!(result.violations, 5);

        world.store.accounts = (0..4).map(|account| (account, 1_000)).collect();
        assert_eq!(
            bank(&world.observations()).status,
            GuaranteeStatus::Void("no transfer was applied".into())
        );
    }

    #[test]
    fn a_run_without_a_bank_has_nothing_to_check() {
        let mut world = World::with_ops([write_set(0, 3)]);
        world.limits.bank_accounts = 0;
        let mut observations = world.observations();
        for store in [Ok(&world.store), Err("the tables are gone".to_owned())] {
            observations.store = store;
            assert_eq!(
                bank(&observations).status,
                GuaranteeStatus::NothingToCheck("the run had no bank".into())
            );
        }
    }

    #[test]
    fn a_bank_that_could_no_longer_be_seen_is_void_unless_it_broke_before() {
        let mut world = consistent();
        world.bank_unseen = Some("the bank could not be read from 2.5 s on".into());
        let result = bank(&world.observations());
        assert_eq!(
            result.status,
            GuaranteeStatus::Void("the bank could not be read from 2.5 s on".into())
        );
        world.bank_snapshots[0].total -= 1;
        assert_eq!(
            bank(&world.observations()).status,
            GuaranteeStatus::Violated
        );
    }

    #[test]
    fn balances_near_the_limits_of_64_bits_do_not_overflow() {
        let mut world = World::with_ops([transfer(0, 0, 1, i64::MAX), transfer(1, 0, 1, i64::MAX)]);
        world.limits.bank_accounts = 2;
        world.limits.bank_opening_balance = i64::MAX;
        world.store.op_log = [(0, 3), (1, 3)].into();
        world.store.accounts = [(0, i64::MIN), (1, i64::MAX)].into();
        assert_eq!(bank(&world.observations()).violations, 3);
    }
}
