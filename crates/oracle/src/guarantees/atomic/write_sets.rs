//! R2: an op's id is in each of its tables equally often, and as often as in the op log.

use std::collections::BTreeMap;

use crate::figures::{counted, grouped};
use crate::guarantees::tally::{Tally, nothing_to_check, unseen};
use crate::{Effect, Guarantee, GuaranteeResult, Observations};

/// Checks one fact per write-set op, and one per id that does not belong where it was found.
///
/// Whether an op may be there at all is for X; here it is all or none.
pub(in crate::guarantees) fn write_sets(observations: &Observations<'_>) -> GuaranteeResult {
    if observations.limits.write_set_tables == 0 {
        return nothing_to_check(Guarantee::R2, "the run had no write sets");
    }
    let store = match &observations.store {
        Ok(store) => *store,
        Err(reason) => return unseen(Guarantee::R2, reason),
    };
    let widths = widths(observations);
    let read = store.write_sets.len();
    if let Some((id, width)) = widths.iter().find(|(_, width)| **width > read) {
        return unseen(
            Guarantee::R2,
            &format!("op {id} writes {width} tables, only {read} could be read"),
        );
    }
    let mut tally = Tally::default();
    let (mut whole, mut absent): (u64, u64) = (0, 0);
    for (id, width) in &widths {
        let counts: Vec<u64> = store.write_sets[..*width]
            .iter()
            .map(|table| table.get(id).copied().unwrap_or(0))
            .collect();
        let logged = store.op_log.get(id).copied().unwrap_or(0);
        let holds = counts.iter().all(|count| *count == logged);
        match (holds, logged) {
            (true, 0) => absent += 1,
            (true, _) => whole += 1,
            (false, _) => {}
        }
        tally.fact(holds, || {
            format!(
                "op {id}: expected {logged} in each of its {} as in the op log, found {}",
                counted(u64::try_from(*width).unwrap_or(u64::MAX), "table"),
                list(&counts)
            )
        });
    }
    for (index, table) in store.write_sets.iter().enumerate() {
        for (id, count) in table {
            if widths.get(id).is_none_or(|width| index >= *width) {
                tally.violation(|| {
                    format!(
                        "op {id}: {} in write-set table {index}, where it never wrote",
                        counted(*count, "row")
                    )
                });
            }
        }
    }
    let total = count_of(widths.len());
    let summary = format!(
        "{} over {}: {} whole, {} absent, {} broken",
        counted(total, "write set"),
        counted(count_of(read), "table"),
        grouped(whole),
        grouped(absent),
        grouped(total - whole - absent),
    );
    if whole == 0 {
        return tally.conclude_void(Guarantee::R2, summary, "no write set was applied");
    }
    tally.conclude(Guarantee::R2, summary)
}

/// How many tables each write-set op writes.
fn widths(observations: &Observations<'_>) -> BTreeMap<u64, usize> {
    observations
        .ops
        .iter()
        .filter_map(|op| match op.effect {
            Effect::WriteSet { tables } => {
                Some((op.id, usize::try_from(tables).unwrap_or(usize::MAX)))
            }
            Effect::Transfer { .. } => None,
        })
        .collect()
}

fn list(counts: &[u64]) -> String {
    let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
    counts.join(", ")
}

fn count_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::write_sets;
    use crate::fixture::{World, committed, write_set};
    use crate::{GuaranteeStatus, OpRecord, Outcome};

    /// Two write sets over three tables, one of them applied, and a narrower one.
    fn consistent() -> World {
        let absent = OpRecord {
            outcome: Outcome::Fail,
            ..write_set(1, 3)
        };
        let mut world = World::with_ops([write_set(0, 3), absent, write_set(2, 2), committed(3)]);
        world.store.op_log = [(0, 1), (2, 1), (3, 1)].into();
        world.store.write_sets = vec![
            [(0, 1), (2, 1)].into(),
            [(0, 1), (2, 1)].into(),
            [(0, 1)].into(),
        ];
        world
    }

    #[test]
    fn whole_and_absent_write_sets_keep_r2() {
        let result = write_sets(&consistent().observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 3);
        assert_eq!(
            result.summary,
            "3 write sets over 3 tables: 2 whole, 1 absent, 0 broken"
        );
    }

    #[test]
    fn a_table_that_misses_a_part_is_caught() {
        let mut world = consistent();
        world.store.write_sets[1].remove(&0);
        let result = write_sets(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Violated);
        assert_eq!(
            result.evidence,
            ["op 0: expected 1 in each of its 3 tables as in the op log, found 1, 0, 1"]
        );
        assert_eq!(
            result.summary,
            "3 write sets over 3 tables: 1 whole, 1 absent, 1 broken"
        );
    }

    #[test]
    fn a_part_of_a_failed_write_set_that_stays_is_caught() {
        let mut world = consistent();
        world.store.write_sets[2].insert(1, 1);
        assert_eq!(
            write_sets(&world.observations()).evidence,
            ["op 1: expected 0 in each of its 3 tables as in the op log, found 0, 0, 1"]
        );
    }

    #[test]
    fn a_part_that_is_there_twice_is_caught() {
        let mut world = consistent();
        world.store.write_sets[0].insert(0, 2);
        assert_eq!(
            write_sets(&world.observations()).evidence,
            ["op 0: expected 1 in each of its 3 tables as in the op log, found 2, 1, 1"]
        );
    }

    #[test]
    fn a_write_set_without_its_row_in_the_op_log_is_caught() {
        let mut world = consistent();
        world.store.op_log.remove(&0);
        assert_eq!(
            write_sets(&world.observations()).evidence,
            ["op 0: expected 0 in each of its 3 tables as in the op log, found 1, 1, 1"]
        );
    }

    #[test]
    fn a_write_set_applied_twice_as_a_whole_is_left_to_x() {
        let mut world = consistent();
        world.store.op_log.insert(0, 2);
        for table in &mut world.store.write_sets {
            table.insert(0, 2);
        }
        assert_eq!(
            write_sets(&world.observations()).status,
            GuaranteeStatus::Held
        );
    }

    #[test]
    fn ids_that_do_not_belong_into_a_table_are_caught() {
        let mut world = consistent();
        world.store.write_sets[0].insert(99, 1);
        world.store.write_sets[1].insert(3, 1);
        world.store.write_sets[2].insert(2, 2);
        let result = write_sets(&world.observations());
        assert_eq!(
            result.evidence,
            [
                "op 99: 1 row in write-set table 0, where it never wrote",
                "op 3: 1 row in write-set table 1, where it never wrote",
                "op 2: 2 rows in write-set table 2, where it never wrote",
            ]
        );
    }

    #[test]
    fn write_sets_of_which_none_was_applied_are_void() {
        let mut world = consistent();
        world.store.op_log.clear();
        world.store.write_sets = vec![[].into(), [].into(), [].into()];
        assert_eq!(
            write_sets(&world.observations()).status,
            GuaranteeStatus::Void("no write set was applied".into())
        );
    }

    #[test]
    fn tables_that_were_not_read_make_r2_void() {
        let mut world = consistent();
        world.store.write_sets.pop();
        assert_eq!(
            write_sets(&world.observations()).status,
            GuaranteeStatus::Void("op 0 writes 3 tables, only 2 could be read".into())
        );
    }

    #[test]
    fn a_run_without_write_sets_has_nothing_to_check() {
        let mut world = World::with_ops([committed(0)]);
        world.limits.write_set_tables = 0;
        assert_eq!(
            write_sets(&world.observations()).status,
            GuaranteeStatus::NothingToCheck("the run had no write sets".into())
        );
    }
}
