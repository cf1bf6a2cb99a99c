//! Database URLs as SQLAlchemy and libpq write them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

/// What a host's name keeps as it is when it is shown.
const HOST: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// A longer scheme is something else, pasted in the wrong place; it may be secret.
const SCHEME_MAX: usize = 40;

/// Where a database is and how to log in.
///
/// Reads `postgres://` and `postgresql://`, with or without a driver (`postgresql+asyncpg://`). Parts
/// that are missing come from libpq's environment variables (`PGHOST`, `PGUSER`, …), the password also
/// from the password file. `Debug` and `Display` show `***` in place of the password.
///
/// Query parameters: those of libpq that sqlx knows (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`,
/// `application_name`, `options`, `host`, `hostaddr`, `port`, `user`, `password`, `dbname`), and
/// asyncpg's `ssl`. Others say how a driver works rather than where the database is; they are ignored
/// and listed by [`DatabaseUrl::ignored`].
///
/// # Examples
/// ```
/// use poolproof_pool::DatabaseUrl;
///
/// let url: DatabaseUrl = "postgresql+psycopg2://app:s3cret@127.0.0.1:6432/shop".parse()?;
/// assert_eq!((url.host(), url.port(), url.database()), ("127.0.0.1", 6432, Some("shop")));
/// assert!(url.is_loopback());
/// assert_eq!(url.to_string(), "postgresql://app:***@127.0.0.1:6432/shop");
/// # Ok::<(), poolproof_pool::UrlError>(())
/// ```
#[derive(Clone)]
pub struct DatabaseUrl {
    options: PgConnectOptions,
    /// A host name, an address, or the directory of a Unix socket.
    host: String,
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
    /// Several hosts are given.
    #[error("several hosts are given; name one")]
    SeveralHosts,
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
    /// A query parameter has a value that cannot be used.
    #[error("the value of the parameter `{name}` cannot be used")]
    Parameter {
        /// The parameter.
        name: String,
    },
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

    /// Returns the database's name; none means the one named like the user.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.options.get_database()
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

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let parts = Parts::split(text.trim())?;
        let defaults = PgConnectOptions::new_without_pgpass();
        let host = match parts.host() {
            Some(host) => host.to_owned(),
            None => defaults.get_socket().map_or_else(
                || defaults.get_host().to_owned(),
                |socket| socket.to_string_lossy().into_owned(),
            ),
        };
        // By way of sqlx's own parser, because only that reads the password file. Everything goes
        // into the query, where no part is subject to the rules of another.
        let mut url = format!("postgres:///?host={}", encode(&host));
        for (name, value) in parts.parameters() {
            url = url + "&" + &encode(name) + "=" + &encode(&value);
        }
        let options = PgConnectOptions::from_str(&url)
            .expect("bug: sqlx refuses a URL whose every value was checked");
        Ok(Self {
            options,
            host,
            has_password: parts.password.is_some(),
            ignored: parts.ignored,
        })
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

/// What a URL says, decoded.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    /// The parameter `hostaddr`.
    address: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    passed_on: Vec<(String, String)>,
    ignored: Vec<String>,
}

impl Parts {
    fn split(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let dialect = scheme
            .split_once('+')
            .map_or(scheme, |(dialect, _)| dialect);
        if !["postgres", "postgresql"].contains(&dialect.to_ascii_lowercase().as_str()) {
            // Anything else before `://` may be a login with its password.
            let plain = |c: char| c.is_ascii_alphanumeric() || "+.-_".contains(c);
            if scheme.len() > SCHEME_MAX || !scheme.chars().all(plain) {
                return Err(UrlError::NoScheme);
            }
            let scheme = scheme.to_owned();
            return Err(UrlError::Scheme { scheme });
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment);
        }
        let mut parts = Self::default();
        // The last @ before the path, as SQLAlchemy does: a password may hold one.
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            return Err(UrlError::QuestionMark);
        }
        let (login, place) = match before_query.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, before_query),
        };
        if let Some(login) = login {
            parts.read_login(login)?;
        }
        let (address, database) = place.split_once('/').unwrap_or((place, ""));
        parts.read_address(address)?;
        parts.database = non_empty(decode(database, "database name")?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plus_is_space = |text: &str| text.replace('+', " ");
            let name = decode(&plus_is_space(name), "name of a parameter")?;
            let value = decode(&plus_is_space(value), "value of a parameter")?;
            parts.read_parameter(name, value)?;
        }
        Ok(parts)
    }

    fn read_login(&mut self, login: &str) -> Result<(), UrlError> {
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        self.user = non_empty(decode(user, "user name")?);
        self.password = password
            .map(|password| decode(password, "password"))
            .transpose()?;
        Ok(())
    }

    fn read_address(&mut self, address: &str) -> Result<(), UrlError> {
        if address.contains(',') {
            return Err(UrlError::SeveralHosts);
        }
        let (host, port) = if let Some(rest) = address.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(UrlError::Bracket)?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(UrlError::Bracket);
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => return Err(UrlError::Bracket),
            }
        } else {
            address.split_once(':').unwrap_or((address, ""))
        };
        self.host = non_empty(decode(host, "host")?);
        if !port.is_empty() {
            self.port = Some(parse_port(port)?);
        }
        Ok(())
    }

    fn read_parameter(&mut self, name: String, value: String) -> Result<(), UrlError> {
        match name.as_str() {
            "host" | "hostaddr" if value.contains(',') => return Err(UrlError::SeveralHosts),
            "host" => self.host = non_empty(value),
            "hostaddr" => {
                if value.parse::<IpAddr>().is_err() {
                    return Err(UrlError::Parameter { name });
                }
                self.address = Some(value);
            }
            "port" => self.port = Some(parse_port(&value)?),
            "user" => self.user = non_empty(value),
            "password" => self.password = Some(value),
            "dbname" | "database" => self.database = non_empty(value),
            "sslmode" | "ssl-mode" => self.pass_on("sslmode", ssl_mode(&name, &value)?),
            "ssl" => self.pass_on("sslmode", ssl_of_asyncpg(&name, &value)?),
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslcert" | "ssl-cert" | "sslkey"
            | "ssl-key" | "application_name" | "options" => self.pass_on(&name, value),
            "statement-cache-capacity" => {
                if value.parse::<usize>().is_err() {
                    return Err(UrlError::Parameter { name });
                }
                self.pass_on(&name, value);
            }
            _ => self.ignored.push(name),
        }
        Ok(())
    }

    fn pass_on(&mut self, name: &str, value: String) {
        self.passed_on.push((name.to_owned(), value));
    }

    /// Returns the host to connect to: as in libpq, an address wins over a name.
    fn host(&self) -> Option<&str> {
        self.address.as_deref().or(self.host.as_deref())
    }

    /// Returns all but the host by the names of libpq.
    fn parameters(&self) -> Vec<(&str, String)> {
        let mut parameters: Vec<(&str, String)> = self
            .passed_on
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        parameters.extend(self.port.map(|port| ("port", port.to_string())));
        for (name, value) in [
            ("user", &self.user),
            ("password", &self.password),
            ("dbname", &self.database),
        ] {
            parameters.extend(value.clone().map(|value| (name, value)));
        }
        parameters
    }
}

fn ssl_mode(name: &str, value: &str) -> Result<String, UrlError> {
    let known = [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ];
    let value = value.to_ascii_lowercase();
    if known.contains(&value.as_str()) {
        Ok(value)
    } else {
        Err(UrlError::Parameter {
            name: name.to_owned(),
        })
    }
}

/// Translates asyncpg's `ssl`, whose `true` checks certificate and name.
fn ssl_of_asyncpg(name: &str, value: &str) -> Result<String, UrlError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok("verify-full".to_owned()),
        "false" | "0" => Ok("disable".to_owned()),
        _ => ssl_mode(name, value),
    }
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or(UrlError::Port)
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn decode(text: &str, part: &'static str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8().ok();
    decoded
        .filter(|decoded| !decoded.contains('\0'))
        .map(Into::into)
        .ok_or(UrlError::Encoding { part })
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests;
