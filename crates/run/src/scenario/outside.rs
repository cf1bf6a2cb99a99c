//! What is said of a number out of range, where its limits alone do not say why.

use std::ops::Range;

use super::problem::Problem;
use super::workloads::ACCOUNTS_MAX;

pub(super) fn pool_size(value: f64, span: Range<usize>) -> Option<Problem> {
    if value > 0.0 {
        return None;
    }
    let (message, label, help) = match value < 0.0 {
        false => (
            "`pool_size` is 0",
            "SQLAlchemy reads this as: no limit",
            "a pool keeps at least 1 connection; for no limit on connections beyond `pool_size`, \
             say `max_overflow = -1`",
        ),
        true => (
            "`pool_size` is negative",
            "must be 1 or more",
            "`pool_size` is the number of connections that are kept",
        ),
    };
    Some(Problem::new(span, message.to_owned(), label).help(help.to_owned()))
}

pub(super) fn max_overflow(value: f64, span: Range<usize>) -> Option<Problem> {
    let message = format!("`max_overflow` is {value}");
    let help = "0 allows no connection beyond `pool_size`, -1 any number of them";
    (value < 0.0).then(|| Problem::new(span, message, "must be -1 or more").help(help.to_owned()))
}

pub(super) fn rate(value: f64, span: Range<usize>) -> Option<Problem> {
    let message = match value < 0.0 {
        true => "`rate` is negative",
        false => "`rate` is zero: nothing would be asked of the pool",
    };
    let help = "say how many operations arrive in a second, such as `rate = 400`";
    Some(Problem::new(span, message.to_owned(), "operations per second").help(help.to_owned()))
}

pub(super) fn clean_checks(value: f64, span: Range<usize>) -> Option<Problem> {
    let message = "`clean_checks` is a fraction between 0 and 1".to_owned();
    let problem = Problem::new(span, message, "out of range");
    if value > 1.0 && value <= 100.0 {
        let fraction = value / 100.0;
        let help = format!("for {value} % write `clean_checks = {fraction}`");
        return Some(problem.help(help));
    }
    Some(problem)
}

pub(super) fn accounts(value: f64, span: Range<usize>) -> Option<Problem> {
    // What no 32 bits hold is a slip of the hand, and no wish for more rows.
    (2.0..=f64::from(i32::MAX)).contains(&value).then(|| {
        let message = format!("{value} accounts are more than a run prepares");
        Problem::new(
            span,
            message,
            "each is a row to write before and to read after",
        )
        .help(format!(
            "`accounts` is between 2 and {ACCOUNTS_MAX}; the fewer, the more transfers meet on one"
        ))
    })
}
