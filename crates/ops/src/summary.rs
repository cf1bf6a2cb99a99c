//! What an operator wants to see on one screen.

use std::fmt;

use poolproof_pool::{OpenSession, PgConnector, Pool, Snapshot, brief};

/// Sessions that are shown, the oldest first.
const SHOWN_MAX: usize = 20;

/// Characters of a last statement that are shown.
const STATEMENT_MAX: usize = 48;

/// A pool and its open sessions at one moment. `Display` fits on one screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The pool's numbers.
    pub pool: Snapshot,
    /// The open sessions, the oldest first.
    pub sessions: Vec<OpenSession>,
}

impl Summary {
    /// Looks at a pool. Costs as much as [`Pool::sessions`].
    ///
    /// # Examples
    /// ```no_run
    /// # use poolproof_ops::Summary;
    /// # use poolproof_pool::{PgConnector, Pool};
    /// # fn example(pool: &Pool<PgConnector>) {
    /// eprintln!("{}", Summary::of(pool));
    /// # }
    /// ```
    #[must_use]
    pub fn of(pool: &Pool<PgConnector>) -> Self {
        Self {
            pool: pool.snapshot(),
            sessions: pool.sessions(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot {
            pool_size,
            max_overflow,
            out,
            idle,
            opening,
            closing,
            waiting,
            ..
        } = self.pool;
        writeln!(
            f,
            "pool_size {pool_size}, max_overflow {max_overflow}: {out} out, {idle} idle, \
             {opening} opening, {closing} closing; {waiting} waiting"
        )?;
        let in_transaction = self
            .sessions
            .iter()
            .filter(|session| session.transaction.is_some())
            .count();
        write!(
            f,
            "open sessions: {}, in a transaction: {in_transaction}",
            self.sessions.len()
        )?;
        if self.sessions.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "\n{:>8} {:>8} {:<10} {:>8} {:>11} {:>6}  {:<STATEMENT_MAX$}  asked for at",
            "pid", "open", "state", "for", "transaction", "stmts", "last statement"
        )?;
        for session in self.sessions.iter().take(SHOWN_MAX) {
            write!(f, "\n{}", Line(session))?;
        }
        match self.sessions.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} younger ones"),
        }
    }
}

struct Line<'a>(&'a OpenSession);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.0;
        let state = match session.reaped {
            Some(_) => "ended".to_owned(),
            None => session.activity.to_string(),
        };
        let transaction = session
            .transaction
            .map_or_else(|| "-".to_owned(), |open| brief(open.open_for));
        write!(
            f,
            "{:>8} {:>8} {state:<10} {:>8} {transaction:>11} {:>6}  {:<STATEMENT_MAX$}  {}",
            session.backend.pid,
            brief(session.open_for),
            brief(session.activity_for),
            session.statements,
            cut(session.last_statement.as_deref().unwrap_or("-")),
            session.location,
        )
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= STATEMENT_MAX {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(STATEMENT_MAX - 1).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests;
