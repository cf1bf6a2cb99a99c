//! Workloads: what an op does, the tables it needs, and how to read them back.
//!
//! Everything here is text and numbers: whoever runs it brings the connection. Table names are
//! unqualified; the run sets `search_path`.

use std::borrow::Cow;

use poolproof_oracle::{Effect, Statement};

use crate::seed::Stream;

/// Creates the op log, in this order. Its index is not unique: a unique key would turn the second
/// application of an op into an error, and nobody would see it.
pub const OP_LOG_SCHEMA_SQL: [&str; 2] = [
    "create table op_log (op bigint not null)",
    "create index op_log_op on op_log (op)",
];

/// Reads the op log: rows of (`op` bigint, `count` bigint).
pub const OP_LOG_READ_SQL: &str = "select op, count(*) as count from op_log group by op";

/// Reads the bank: rows of (`account` int, `balance` bigint).
pub const BANK_ACCOUNTS_READ_SQL: &str = "select account, balance from bank_account";

/// Reads the bank's sum in one snapshot: one row of (`count` bigint, `total` bigint).
pub const BANK_SUM_READ_SQL: &str =
    "select count(*) as count, coalesce(sum(balance), 0)::bigint as total from bank_account";

/// The largest amount of one transfer; the smallest is 1.
pub const TRANSFER_MAX: i64 = 100;

/// The most tables that a write set can have.
pub const WRITE_SET_TABLES_MAX: u32 = 16;

const OP_LOG_INSERT: &str = "insert into op_log (op) values ($1)";
const BANK_UPDATE: &str = "update bank_account set balance = balance + $1 where account = $2";

macro_rules! write_set_sql {
    ($($table:literal)*) => {
        [$((
            concat!("create table write_set_", $table, " (op bigint not null)"),
            concat!("insert into write_set_", $table, " (op) values ($1)"),
            concat!("select op, count(*) as count from write_set_", $table, " group by op"),
        )),*]
    };
}

/// Creating, inserting into and reading each write-set table. Static, so that a million ops do
/// not carry a million copies.
const WRITE_SET_SQL: [(&str, &str, &str); WRITE_SET_TABLES_MAX as usize] =
    write_set_sql!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// A kind of op with its own tables.
///
/// Whatever the workload, an op's first statement writes its id into the op log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Transfers between two accounts, the row with the lower id locked first: otherwise
    /// deadlocks swamp the run. The sum over all accounts never changes.
    Bank {
        /// Accounts, numbered from 0; at least 2.
        accounts: u32,
        /// Balance that each begins with.
        opening_balance: i64,
    },
    /// Writes the op's id into each of `tables` tables, all or none.
    WriteSet {
        /// Tables, numbered from 0; 1 to [`WRITE_SET_TABLES_MAX`].
        tables: u32,
    },
}

impl Workload {
    /// Returns the name that scenarios and records use.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bank { .. } => "bank",
            Self::WriteSet { .. } => "write-set",
        }
    }

    /// Returns the statements that create and fill its tables, in this order; the op log is
    /// [`OP_LOG_SCHEMA_SQL`].
    #[must_use]
    pub fn schema_sql(&self) -> Vec<String> {
        match *self {
            Self::Bank {
                accounts,
                opening_balance,
            } => vec![
                "create table bank_account (account int primary key, balance bigint not null)"
                    .to_owned(),
                format!(
                    "insert into bank_account (account, balance) \
                     select account, {opening_balance} from generate_series(0, {accounts} - 1) as account"
                ),
            ],
            Self::WriteSet { tables } => write_set_sql(tables)
                .map(|(create, _, _)| create.to_owned())
                .collect(),
        }
    }

    /// Returns the statements that read its write-set tables back, one per table and in their
    /// order, each with rows of (`op` bigint, `count` bigint); none for a bank.
    #[must_use]
    pub fn write_set_read_sql(&self) -> Vec<&'static str> {
        match *self {
            Self::Bank { .. } => Vec::new(),
            Self::WriteSet { tables } => write_set_sql(tables).map(|(_, _, read)| read).collect(),
        }
    }

    /// Draws what the op `id` does.
    pub(crate) fn content(&self, id: u64, stream: &mut Stream) -> (Vec<Statement>, Effect) {
        let op = i64::try_from(id).expect("bug: an op's id is below the limit of ops");
        let mut statements = vec![statement(OP_LOG_INSERT, vec![op])];
        let effect = match *self {
            Self::Bank { accounts, .. } => {
                let (from, to, amount) = transfer(accounts, stream);
                let mut updates = [(from, -amount), (to, amount)];
                updates.sort_unstable_by_key(|(account, _)| *account);
                statements.extend(updates.map(|(account, delta)| {
                    statement(BANK_UPDATE, vec![delta, i64::from(account)])
                }));
                Effect::Transfer { from, to, amount }
            }
            Self::WriteSet { tables } => {
                statements.extend(
                    write_set_sql(tables).map(|(_, insert, _)| statement(insert, vec![op])),
                );
                Effect::WriteSet { tables }
            }
        };
        (statements, effect)
    }
}

fn transfer(accounts: u32, stream: &mut Stream) -> (u32, u32, i64) {
    let mut account = |bound: u32| {
        u32::try_from(stream.below(u64::from(bound))).expect("bug: a draw below a u32 is a u32")
    };
    let from = account(accounts);
    // The draw leaves out one account, and that shall be `from`.
    let drawn = account(accounts - 1);
    let to = if drawn < from { drawn } else { drawn + 1 };
    let amount = 1 + stream.below(TRANSFER_MAX.unsigned_abs()).cast_signed();
    (from, to, amount)
}

fn write_set_sql(tables: u32) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    WRITE_SET_SQL.into_iter().take(tables as usize)
}

fn statement(sql: &'static str, params: Vec<i64>) -> Statement {
    Statement {
        sql: Cow::Borrowed(sql),
        params,
    }
}
