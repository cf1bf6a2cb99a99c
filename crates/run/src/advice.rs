//! What to do about an error, by its cause and not by the step in which it came.
//!
//! The server's messages come in its own language, so what tells two causes with one SQLSTATE apart is
//! the routine that Postgres names with them, never the text.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};
use sqlx::postgres::PgDatabaseError;

use crate::error::{chain_of, driver_error};

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Connecting and logging in.
    Connecting,
    /// Making a schema and its tables.
    Creating,
}

/// One answer of a server.
struct Answer {
    sqlstate: &'static str,
    /// What the routine of Postgres begins with that it comes from, where that matters.
    routine: &'static str,
    step: Option<Step>,
    advice: &'static str,
}

const fn always(sqlstate: &'static str, advice: &'static str) -> Answer {
    from(sqlstate, "", advice)
}

const fn from(sqlstate: &'static str, routine: &'static str, advice: &'static str) -> Answer {
    Answer {
        sqlstate,
        routine,
        step: None,
        advice,
    }
}

const fn at(step: Step, sqlstate: &'static str, advice: &'static str) -> Answer {
    Answer {
        step: Some(step),
        ..always(sqlstate, advice)
    }
}

const OPTIONS: &str =
    "see the settings in the URL's `options`: the server does not take one of them";
const TOO_OLD: &str = "Postgres 13 or later is needed: is it an older one, or another database that \
    speaks its protocol?";

/// The first that fits counts.
const ANSWERS: &[Answer] = &[
    always(
        "28P01",
        "user or password are wrong, or the URL has no password",
    ),
    from(
        "28000",
        "InitializeSessionUserId",
        "there is no such role, or it may not log in: create it (CREATE ROLE … LOGIN), or correct \
         the user of the URL",
    ),
    from(
        "28000",
        "ClientAuthentication",
        "the server's pg_hba.conf does not let this user in from here, or not with this sslmode: \
         add a line for it there, or change the URL's user, host or sslmode",
    ),
    from(
        "28000",
        "auth_failed",
        "pg_hba.conf has this user logged in by other means than a password (peer, ident, \
         certificate): connect by host and port, or as that user of the system",
    ),
    always(
        "28000",
        "the server does not let this user in, and says above why",
    ),
    always(
        "3D000",
        "there is no such database: create it or correct the name; a URL without one means that of \
         the user",
    ),
    from(
        "55000",
        "CheckMyDatabase",
        "this database takes no connections: name another",
    ),
    from(
        "53300",
        "InitializeSessionUserId",
        "this role has reached its own limit: close some of its connections, or raise it (ALTER \
         ROLE … CONNECTION LIMIT)",
    ),
    from(
        "53300",
        "CheckMyDatabase",
        "this database has reached its own limit: close some of its connections, or raise it (ALTER \
         DATABASE … CONNECTION LIMIT)",
    ),
    always(
        "53300",
        "the server has no connection left: close some, raise max_connections, or wait",
    ),
    always(
        "57P03",
        "the server is starting up or shutting down: try again in a moment",
    ),
    always(
        "57P01",
        "the server ended the connection: it stops, or somebody terminated it; try again in a moment",
    ),
    always(
        "57P02",
        "the server crashed and starts again: see its log, and try again in a moment",
    ),
    always(
        "25006",
        "nothing can be written there: name the primary of a standby, or switch \
         default_transaction_read_only off, be it the scenario's, the role's, the database's or the \
         server's",
    ),
    from("42501", "set_config", OPTIONS),
    at(
        Step::Connecting,
        "42501",
        "the role may not use this database: GRANT CONNECT ON DATABASE … TO …",
    ),
    at(
        Step::Creating,
        "42501",
        "the role must be allowed to create a schema in that database: GRANT CREATE ON DATABASE … \
         TO …",
    ),
    at(Step::Connecting, "42704", OPTIONS),
    at(Step::Connecting, "22023", OPTIONS),
    at(Step::Connecting, "55P02", OPTIONS),
    at(
        Step::Connecting,
        "08P01",
        "a pooler says no, and above why; where PgBouncer does not take a startup parameter, set \
         ignore_startup_parameters = extra_float_digits, options there",
    ),
    at(Step::Connecting, "0A000", TOO_OLD),
    at(Step::Creating, "0A000", TOO_OLD),
    at(Step::Creating, "42601", TOO_OLD),
    at(Step::Creating, "42883", TOO_OLD),
    always("53100", "the server's disk is full: free some space there"),
    always(
        "53200",
        "the server has no memory left: see its log, and what else runs there",
    ),
    always(
        "57014",
        "a statement was cancelled, by hand or by the statement_timeout of scenario, role or database: raise \
         that, or write options=-c%20statement_timeout%3D0 into the URL",
    ),
    always(
        "55P03",
        "another session holds a lock for longer than lock_timeout: see pg_stat_activity",
    ),
];

/// Says what to do about an error among whose causes is one of sqlx; none where there is none, or
/// nothing to say.
pub(crate) fn advice(error: &(dyn Error + 'static), step: Step) -> Option<String> {
    let text = match chain_of(error).find_map(driver_error)? {
        sqlx::Error::Database(answer) => {
            let answer = answer.try_downcast_ref::<PgDatabaseError>()?;
            let fits = |row: &&Answer| {
                row.sqlstate == answer.code()
                    && answer
                        .routine()
                        .unwrap_or_default()
                        .starts_with(row.routine)
                    && row.step.is_none_or(|only| only == step)
            };
            let found = ANSWERS.iter().find(fits);
            found.map_or("the server says no, and above why", |row| row.advice)
        }
        sqlx::Error::Tls(cause) => match cause.downcast_ref::<rustls::Error>() {
            Some(cause) => tls_advice(cause),
            None => {
                "the server has no TLS, which the URL asks for: switch it on there (ssl = on), or \
                 write sslmode=prefer"
            }
        },
        sqlx::Error::Io(cause) => io_advice(cause),
        sqlx::Error::Protocol(_) => {
            "something listens there that does not speak Postgres' protocol: is the port right?"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn io_advice(cause: &io::Error) -> &'static str {
    let inner = cause.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_advice(tls);
    }
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is the server started, and is the port right?"
        }
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => {
            "something listens there and hangs up at once: is it a Postgres server?"
        }
        io::ErrorKind::PermissionDenied => "this user may not use that socket",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "there is no route to that host from here"
        }
        io::ErrorKind::TimedOut => {
            "nothing answers at that address: a firewall that drops, or a host \
                                    that is down"
        }
        io::ErrorKind::NotFound => {
            "there is no such socket: is the server started, and is the folder right?"
        }
        // The standard library has no kind for it.
        _ if cause.to_string().contains("lookup address") => {
            "check that the host's name is right and can be resolved from here"
        }
        _ => "the system says no, and above why",
    }
}

fn tls_advice(cause: &rustls::Error) -> &'static str {
    match cause {
        rustls::Error::InvalidCertificate(problem) => certificate_advice(problem),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => "the server does not accept this client's certificate: see sslcert and sslkey",
        _ => "server and client do not agree on TLS: 1.2 and 1.3 are spoken here",
    }
}

fn certificate_advice(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it there, or set this machine's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: set this machine's clock"
        }
        CertificateError::UnknownIssuer => {
            "no known authority issued the server's certificate: name the authority's own with \
             sslrootcert=FILE"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name: write that as the host, or \
             sslmode=verify-ca to check the authority only"
        }
        _ => {
            "the server's certificate cannot be used; one that is its own authority has to issue \
             another for the server"
        }
    }
}

/// Says what to do about a file or folder that cannot be written. `instead` is another place.
#[must_use]
pub fn write_advice(kind: io::ErrorKind, instead: &str) -> String {
    let why = match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or ",
        io::ErrorKind::PermissionDenied => "this user may not write there: ",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read only: ",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a folder has to be: move it, or "
        }
        io::ErrorKind::IsADirectory => "a folder stands there: ",
        io::ErrorKind::NotFound => "there is no such folder: make it, or ",
        _ => "",
    };
    format!("{why}{instead}")
}
