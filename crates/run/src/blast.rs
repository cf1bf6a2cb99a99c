//! The blast radius: what faults, load and destructive set-up may be aimed at.

use poolproof_url::DatabaseUrl;

use crate::{RunError, bench};

/// What the user said about a database that is not on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteConsent {
    /// `--allow-remote` was given.
    pub allow_remote: bool,
    /// The name given with `--confirm-database`.
    pub confirm_database: Option<String>,
}

/// Checks that the run may be aimed at `url`.
///
/// # Errors
/// [`RunError::NotTcp`] for a socket; [`RunError::NotLoopback`] and
/// [`RunError::WrongConfirmation`] when consent is missing or names another database.
pub fn check_blast_radius(url: &DatabaseUrl, consent: &RemoteConsent) -> Result<(), RunError> {
    let host = url.host().to_owned();
    let database = bench::database_of(&url.options());
    if host.starts_with('/') {
        return Err(RunError::NotTcp { host });
    }
    if let Some(confirmed) = &consent.confirm_database
        && *confirmed != database
    {
        return Err(RunError::WrongConfirmation {
            confirmed: confirmed.clone(),
            database,
        });
    }
    let consented = consent.allow_remote && consent.confirm_database.is_some();
    if !url.is_loopback() && !consented {
        return Err(RunError::NotLoopback { host, database });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, allow_remote: bool, confirm: Option<&str>) -> Result<(), String> {
        let url = url.parse::<DatabaseUrl>().expect("the URL parses");
        let consent = RemoteConsent {
            allow_remote,
            confirm_database: confirm.map(ToOwned::to_owned),
        };
        check_blast_radius(&url, &consent).map_err(|error| error.to_string())
    }

    #[test]
    fn loopback_needs_no_consent() {
        for host in ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"] {
            assert_eq!(
                check(&format!("postgres://u@{host}:5432/db"), false, None),
                Ok(())
            );
        }
    }

    #[test]
    fn a_remote_host_needs_both_flags_and_the_right_name() {
        let url = "postgres://u:secret@db.example.com/shop";
        let refused = "db.example.com is not this machine, \
                       and faults are aimed only at what they may break";
        assert_eq!(check(url, false, None), Err(refused.into()));
        assert_eq!(check(url, true, None), Err(refused.into()));
        assert_eq!(check(url, false, Some("shop")), Err(refused.into()));
        assert_eq!(
            check(url, true, Some("shopp")),
            Err("--confirm-database names \"shopp\", but the URL names \"shop\"".into())
        );
        assert_eq!(check(url, true, Some("shop")), Ok(()));
    }

    #[test]
    fn names_that_only_look_like_loopback_are_remote() {
        for host in [
            "localhost.example.com",
            "127.0.0.1.example.com",
            "128.0.0.1",
        ] {
            let verdict = check(&format!("postgres://u@{host}/db"), false, None);
            assert!(
                verdict.is_err_and(|text| text.contains("is not this machine")),
                "{host}"
            );
        }
    }
}
