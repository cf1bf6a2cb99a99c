//! Database URLs as SQLAlchemy and libpq write them, read into sqlx's options.
//!
//! [`DatabaseUrl`] reads a URL; what it lacks comes from libpq's environment variables, its password
//! file, and the operating system. [`UrlError`] says why a text is no such URL, without the password.
//!
//! Not here: connecting, and any pool.

mod parameters;
mod parts;
mod tls;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

use parts::Parts;

/// What a host's name keeps as it is when it is shown.
const HOST: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// Where a database is and how to log in.
///
/// Reads `postgres://` and `postgresql://`, with or without a driver (`postgresql+asyncpg://`). Parts
/// that are missing come from libpq's environment variables (`PGHOST`, `PGUSER`, …), the password also
/// from the password file; without any user it is the operating system's. `Debug` and `Display` show
/// `***` in place of the password.
///
/// Query parameters: libpq's `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `application_name`,
/// `options`, `host`, `hostaddr`, `port`, `user`, `password` and `dbname` are honoured, and asyncpg's
/// `ssl`. Those that say how a driver works are ignored and listed by [`DatabaseUrl::ignored`]. Every
/// other is refused by name with the remedy, above all those that carry safety (`channel_binding`,
/// `require_auth`, `sslcrl`, …) or name another server (`service`, `target_session_attrs`, …), be they
/// in the URL or in libpq's variable.
///
/// As in libpq, `sslmode=require` with an `sslrootcert` checks the certificate (`verify-ca`),
/// `sslrootcert=system` asks for `verify-full`, and a Unix socket has no TLS. Unlike there, certificates
/// are also believed when an authority of Mozilla's list issued them, which is what `system` means here;
/// and `allow` is `prefer`. `PGOPTIONS` is sqlx's to read: it takes it into every connection, in front
/// of `options`.
///
/// # Examples
/// ```
/// use poolproof_url::DatabaseUrl;
///
/// let url: DatabaseUrl = "postgresql+psycopg2://app:s3cret@127.0.0.1:6432/shop".parse()?;
/// assert_eq!((url.host(), url.port(), url.database()), ("127.0.0.1", 6432, Some("shop")));
/// assert!(url.is_loopback());
/// assert_eq!(url.to_string(), "postgresql://app:***@127.0.0.1:6432/shop");
/// # Ok::<(), poolproof_url::UrlError>(())
/// ```
#[derive(Clone)]
pub struct DatabaseUrl {
    options: PgConnectOptions,
    /// A host name, an address, or the directory of a Unix socket.
    host: String,
    database: Option<String>,
    has_password: bool,
    ignored: Vec<String>,
}

/// Why a text is not a database URL. Never contains the password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// There is no `://`.
    #[error("a database URL starts with postgresql://")]
    NoScheme,
    /// The scheme is not Postgres.
    #[error("the scheme `{scheme}` is not postgres or postgresql, with or without +driver")]
    Scheme {
        /// What stands there.
        scheme: String,
    },
    /// The port is not one.
    #[error("the port is not a number between 1 and 65535")]
    Port,
    /// An IPv6 address lacks its bracket, or something follows it.
    #[error("the address in brackets is not an IPv6 address")]
    Bracket,
    /// An IPv6 address has no brackets, so that nobody can tell where its port begins.
    #[error("an IPv6 address stands in brackets, such as [::1]:5432")]
    NoBrackets,
    /// Several hosts are given.
    #[error("several hosts are given; name the one that is meant, such as the primary")]
    SeveralHosts,
    /// There is no user in the URL, none in `PGUSER`, and the operating system has no name for ours.
    #[error(
        "no user is named, and the operating system has no name for this one; name one: user@host"
    )]
    NoUser,
    /// A part is not UTF-8 once percent-decoded, or contains a NUL, at which it would end for the server.
    #[error("the {part} is not valid text after percent-decoding")]
    Encoding {
        /// Which part.
        part: &'static str,
    },
    /// There is a fragment, nearly always because a `#` in the password is not encoded.
    #[error("there is a `#`; within a password it must be written %23")]
    Fragment,
    /// There is an `@` after a `?`: either the password holds a `?` that is not encoded, or a parameter
    /// an `@`. Nobody can tell, and one of them would take a part of the password for a parameter.
    #[error(
        "there is an `@` after a `?`; within a password `?` must be written %3F, within a parameter \
         `@` must be written %40"
    )]
    QuestionMark,
    /// A query parameter, or the variable in its place, has a value that it cannot have.
    #[error("the value of `{name}` must be {expected}")]
    Value {
        /// The parameter or variable.
        name: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A query parameter, or the variable in its place, asks for what cannot be done, and leaving it
    /// out would be less safe or reach another server.
    #[error("`{name}` cannot be honoured: {remedy}")]
    Unsupported {
        /// The parameter or variable.
        name: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Nobody knows the query parameter.
    #[error("unknown parameter{}{}", shown(.name.as_deref()), meant(.nearest.unwrap_or_default()))]
    Unknown {
        /// The parameter, if it surely holds no part of a password.
        name: Option<String>,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A file that a parameter names cannot be used.
    #[error("the file {} of `{name}` {}", path.display(), unread(*kind))]
    File {
        /// The parameter or variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A file that a parameter names holds something else.
    #[error("the file {} of `{name}` holds no {wanted}", path.display())]
    Content {
        /// The parameter or variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
}

fn unread(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        kind => format!("cannot be read: {kind}"),
    }
}

fn shown(name: Option<&str>) -> String {
    name.map_or(String::new(), |name| format!(" `{name}`"))
}

fn meant(nearest: &str) -> String {
    if nearest.is_empty() {
        return "; leave it out, or write a setting of the server as options=-c%20NAME%3DVALUE"
            .into();
    }
    format!(": did you mean `{nearest}`?")
}

impl DatabaseUrl {
    /// Returns sqlx's options. Mind that their `Debug` prints the password.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Returns the host's name or address without brackets, or the directory of a Unix socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.options.get_port()
    }

    /// Returns the database's name; none means the one named like the user, which the options name.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Returns the user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        self.options.get_username()
    }

    /// Returns the names of the query parameters that have no meaning here.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Returns whether the host is this machine by its very name: a Unix socket, `localhost`,
    /// 127.0.0.0/8 or `::1`. Resolves nothing.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.starts_with('/')
            || self.host.eq_ignore_ascii_case("localhost")
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    /// Reads a URL, and the environment, and opens the certificates that it names.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let variable = |name: &str| std::env::var(name).ok();
        Parts::read(text.trim(), &variable)?.resolve()
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgresql://{}", encode(self.user()))?;
        if self.has_password {
            f.write_str(":***")?;
        }
        f.write_str("@")?;
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]", self.host)?;
        } else {
            write!(f, "{}", utf8_percent_encode(&self.host, HOST))?;
        }
        write!(f, ":{}", self.port())?;
        self.database()
            .map_or(Ok(()), |database| write!(f, "/{}", encode(database)))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl")
            .field(&format_args!("{self}"))
            .finish()
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The README's code compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests;
