//! The command that does a run again.

use std::path::Path;
use std::time::Duration;

use poolproof_run::PostgresChoice;

use crate::args::{PoolArgs, RunArgs};

/// Returns the command that does the same run again, without a password.
pub(super) fn replay_command(
    what: &str,
    seed: u64,
    args: &RunArgs,
    postgres: &PostgresChoice,
) -> String {
    let mut words = vec!["poolproof".to_owned(), what.to_owned()];
    words.push(format!("--seed {seed}"));
    if args.subject.name() != "poolproof" {
        words.push(format!("--subject {}", args.subject));
    }
    if let Some(duration) = args.duration {
        words.push(format!("--duration {}", duration_word(duration)));
    }
    match postgres {
        PostgresChoice::Local => {}
        // The image by name: the variable may say something else by then.
        PostgresChoice::Container(image) => {
            let place = format!("docker:{image}");
            words.push(format!("--postgres {}", shell_word(&place)));
        }
        // A URL may hold a password in more than one place, so a replay reads it from outside.
        PostgresChoice::Url(_) => words.push("--postgres env".to_owned()),
    }
    if let Some(name) = &args.confirm_database {
        words.push(format!(
            "--allow-remote --confirm-database {}",
            shell_word(name)
        ));
    }
    words.join(" ")
}

/// Returns how the command line asked for a measurement without faults.
pub(super) fn load_command(file: &Path, pool: &PoolArgs) -> String {
    let mut what = format!("load {}", shell_word(&file.display().to_string()));
    if let Some(pool_size) = pool.pool_size {
        what = format!("{what} --pool-size {pool_size}");
    }
    if let Some(max_overflow) = pool.max_overflow {
        what = format!("{what} --max-overflow {max_overflow}");
    }
    what
}

/// Writes a duration as the command line reads it.
pub(crate) fn duration_word(duration: Duration) -> String {
    let micros = duration.as_micros();
    match (micros % 1_000_000, micros % 1_000) {
        (0, _) => format!("{}s", micros / 1_000_000),
        (_, 0) => format!("{}ms", micros / 1_000),
        _ => format!("{micros}us"),
    }
}

/// Quotes a word for a POSIX shell where it needs that.
pub(super) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
