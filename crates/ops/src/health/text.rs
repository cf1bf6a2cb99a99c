//! How a verdict on a pool reads.

use std::error::Error;
use std::fmt;

use poolproof_pool::brief;

use super::{Health, HealthReason, HealthStatus};

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<E: Error + 'static> fmt::Display for HealthReason<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saturated {
                out,
                closing,
                waiting,
            } => {
                write!(f, "saturated: {out} connections are in use")?;
                if *closing > 0 {
                    write!(f, ", {closing} are being reset or closed")?;
                }
                write!(f, " and {waiting} acquires wait")
            }
            Self::Opening {
                opening,
                out,
                waiting,
                served,
                within,
            } => write!(
                f,
                "no connection was opened within {}: {opening} attempts are under way, {out} connections \
                 are in use, {waiting} acquires wait and {served} were served meanwhile",
                brief(*within)
            ),
            Self::Slow { took } => write!(f, "slow: finding out took {}", brief(*took)),
            Self::Paused => f.write_str("the pool is paused"),
            Self::Unreachable { since, cause } => {
                write!(f, "no connection could be opened for {}", brief(*since))?;
                write_chain(f, cause)
            }
            Self::Rejected { cause } => {
                f.write_str("the database refuses the connection")?;
                write_chain(f, cause)
            }
            Self::NoAnswer { within } => write!(f, "no answer within {}", brief(*within)),
            Self::PingFailed => f.write_str("no connection answered its ping"),
            Self::Hook => f.write_str("the acquire hook lets no connection be lent"),
            Self::Draining => f.write_str("the pool is being drained"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

/// Writes an error and its causes; one that repeats its own cause leaves it out.
fn write_chain(f: &mut fmt::Formatter<'_>, error: &dyn Error) -> fmt::Result {
    let mut written = String::new();
    for cause in std::iter::successors(Some(error), |&error| error.source()) {
        let cause = cause.to_string();
        if !written.contains(&cause) {
            write!(f, ": {cause}")?;
            written = cause;
        }
    }
    Ok(())
}

impl<E: Error + 'static> fmt::Display for Health<E> {
    /// Says the status and the reasons in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        for (index, reason) in self.reasons.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{reason}")?;
        }
        Ok(())
    }
}
