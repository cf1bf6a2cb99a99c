//! `poolproof check`.

use std::env::{self, VarError};
use std::fmt::Write as _;
use std::time::Duration;

use poolproof_run::{Checked, DatabaseUrl, Room, Timing};

use super::CommandError;
use crate::args::URL_VARIABLE;
use crate::{exit, output};

pub(super) async fn check(url: &str) -> Result<u8, CommandError> {
    let url = database_url(url)?;
    let checked = poolproof_run::check(&url)
        .await
        .map_err(CommandError::Check)?;
    output::print(&describe(&checked)).map_err(CommandError::Print)?;
    Ok(if checked.unwritable.is_none() {
        exit::OK
    } else {
        exit::ENVIRONMENT
    })
}

/// Reads a database URL, from the environment for `env`.
pub(super) fn database_url(text: &str) -> Result<DatabaseUrl, CommandError> {
    let from_env;
    let text = if text == "env" {
        from_env = env::var(URL_VARIABLE).map_err(|error| match error {
            VarError::NotPresent => CommandError::NoUrl,
            VarError::NotUnicode(_) => CommandError::UrlNotText,
        })?;
        if from_env.trim().is_empty() {
            return Err(CommandError::EmptyUrl);
        }
        &from_env
    } else {
        text
    };
    text.parse().map_err(CommandError::Url)
}

fn describe(checked: &Checked) -> String {
    let Checked {
        target,
        version,
        unwritable,
        ignored,
        tls,
        connect,
        first_query,
        room,
    } = checked;
    let headline = match unwritable {
        None => format!("✓ {target} can be used"),
        Some(why) => format!(
            "✗ {target} answers, but no run can write there\n  writing      {}",
            why.text()
        ),
    };
    let tls = tls.as_deref().unwrap_or("off");
    let mut text = format!(
        "{headline}\n  \
         server       {version}\n  \
         TLS          {tls}\n  \
         connect      {}\n  \
         first query  {}\n  \
         connections  {}\n",
        timing(*connect),
        timing(*first_query),
        connections(room)
    );
    if !ignored.is_empty() {
        text = text + "  ignored      " + &ignored.join(", ") + " of the URL: no meaning here\n";
    }
    text
}

fn timing(timing: Timing) -> String {
    format!(
        "{} (median of {}, slowest {})",
        millis(timing.median),
        poolproof_run::CHECK_TRIES,
        millis(timing.slowest)
    )
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn connections(room: &Room) -> String {
    let mut text = format!(
        "{} usable = {} max_connections - {} reserved - {} in use",
        room.usable(),
        room.max_connections,
        room.reserved,
        room.in_use
    );
    for (whose, share) in [("role", room.role), ("database", room.database)] {
        if let Some(share) = share {
            write!(
                text,
                "; this {whose} may have {} and has {}",
                share.limit, share.in_use
            )
            .expect("bug: writing to a String cannot fail");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use poolproof_run::{Share, Unwritable};

    use super::*;

    #[test]
    fn a_database_is_described_in_a_few_lines() {
        let timing = |micros, most| Timing {
            median: Duration::from_micros(micros),
            slowest: Duration::from_micros(most),
        };
        let checked = Checked {
            target: "app@127.0.0.1:5432/shop".to_owned(),
            version: "PostgreSQL 15.18".to_owned(),
            unwritable: None,
            ignored: vec!["connect_timeout".to_owned(), "keepalives".to_owned()],
            tls: Some("TLSv1.3, TLS_AES_256_GCM_SHA384".to_owned()),
            connect: timing(4_210, 9_000),
            first_query: timing(180, 1_250),
            room: Room {
                max_connections: 100,
                reserved: 3,
                in_use: 7,
                role: None,
                database: None,
            },
        };
        insta::assert_snapshot!("check", describe(&checked));
        let unwritable = Some(Unwritable::NoCreate);
        let checked = Checked {
            unwritable,
            ..checked
        };
        insta::assert_snapshot!("check_unwritable", describe(&checked));
    }

    #[test]
    fn the_figures_add_up_in_one_line() {
        let room = Room {
            max_connections: 100,
            reserved: 3,
            in_use: 7,
            role: None,
            database: Some(Share {
                limit: 20,
                in_use: 2,
            }),
        };
        assert_eq!(
            connections(&room),
            "18 usable = 100 max_connections - 3 reserved - 7 in use; \
             this database may have 20 and has 2"
        );
    }
}
