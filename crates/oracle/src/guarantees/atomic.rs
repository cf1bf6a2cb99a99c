//! R: a transaction is there whole or not at all.
//!
//! R1 is the bank: transfers move money and never make any. R2 is the write set: one id, several
//! tables.

mod bank;
mod write_sets;

pub(super) use bank::bank;
pub(super) use write_sets::write_sets;
