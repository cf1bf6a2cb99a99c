//! From the text of a URL, and the environment, to sqlx's options.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use nix::unistd::{Uid, User};
use percent_encoding::percent_decode_str;
use sqlx::postgres::PgConnectOptions;

use crate::parameters::{self, Fate, Meaning};
use crate::tls::{self, Tls};
use crate::{DatabaseUrl, UrlError, encode};

/// A longer scheme, or name of a parameter, is something else, pasted in the wrong place; it may be
/// secret.
pub(crate) const WORD_MAX: usize = 40;

/// What a URL and the environment say, decoded.
#[derive(Default)]
pub(crate) struct Parts {
    host: Option<String>,
    /// The parameter `hostaddr`.
    address: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    /// Whether the password came with the URL.
    own_password: bool,
    /// Whether it came as a parameter.
    password_in_query: bool,
    database: Option<String>,
    tls: Tls,
    application_name: Option<String>,
    options: Vec<String>,
    statement_cache: Option<usize>,
    ignored: Vec<String>,
    /// Parameters that are refused but for the value that the URL gives them.
    harmless: Vec<String>,
}

impl Parts {
    pub(crate) fn read(
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        check_scheme(scheme)?;
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
        parts.own_password = parts.password.is_some();
        parts.read_environment(variable)?;
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
        } else if is_bare_ipv6(address) {
            return Err(UrlError::NoBrackets);
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
        // sqlx's way to write one setting.
        let setting = name
            .strip_prefix("options[")
            .and_then(|n| n.strip_suffix(']'));
        if let Some(setting) = setting {
            let option = format!("-c {setting}={}", escaped(&value));
            return self.honour(Meaning::Options, "options", option);
        }
        let Some(row) = parameters::row(&name) else {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            // What follows an `&` in a password that is not encoded looks like a parameter.
            let harmless = !self.password_in_query && name.len() <= WORD_MAX;
            return Err(UrlError::Unknown {
                nearest: parameters::nearest(&name),
                name: Some(name).filter(|name| harmless && name.chars().all(plain)),
            });
        };
        match &row.fate {
            Fate::Honoured(meaning) => {
                self.password_in_query |= *meaning == Meaning::Password;
                self.honour(*meaning, &name, value)?;
            }
            Fate::Refused { except, remedy } => {
                refuse(&name, &value, except, remedy)?;
                self.harmless.push(name);
            }
            Fate::Ignored => self.ignored.push(name),
        }
        Ok(())
    }

    /// Reads what the URL does not say from libpq's variables; an empty one says nothing.
    fn read_environment(
        &mut self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), UrlError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if self.host.is_none() && self.address.is_none() {
            for (name, meaning) in [("PGHOSTADDR", Meaning::Address), ("PGHOST", Meaning::Host)] {
                if let Some(value) = variable(name) {
                    self.honour(meaning, name, value)?;
                }
            }
        }
        for row in parameters::TABLE {
            let Some((name, value)) = row.variable.and_then(|name| Some((name, variable(name)?)))
            else {
                continue;
            };
            match &row.fate {
                Fate::Honoured(meaning) if !self.says(*meaning) => {
                    self.honour(*meaning, name, value)?;
                }
                Fate::Refused { except, remedy }
                    if !self.harmless.iter().any(|said| said == row.name) =>
                {
                    refuse(name, &value, except, remedy)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether something is said about `meaning` already.
    fn says(&self, meaning: Meaning) -> bool {
        match meaning {
            Meaning::Host => self.host.is_some(),
            Meaning::Address => self.address.is_some(),
            Meaning::Port => self.port.is_some(),
            Meaning::User => self.user.is_some(),
            Meaning::Password => self.password.is_some(),
            Meaning::Database => self.database.is_some(),
            Meaning::TlsMode | Meaning::Tls => self.tls.mode.is_some(),
            Meaning::RootCertificate => self.tls.root.is_some(),
            Meaning::Certificate => self.tls.certificate.is_some(),
            Meaning::Key => self.tls.key.is_some(),
            Meaning::ApplicationName => self.application_name.is_some(),
            Meaning::Options => !self.options.is_empty(),
            Meaning::StatementCache => self.statement_cache.is_some(),
        }
    }

    fn honour(&mut self, meaning: Meaning, name: &str, value: String) -> Result<(), UrlError> {
        let expected = |expected| UrlError::Value {
            name: name.to_owned(),
            expected,
        };
        match meaning {
            Meaning::Host | Meaning::Address if value.contains(',') => {
                return Err(UrlError::SeveralHosts);
            }
            Meaning::Host => self.host = non_empty(value),
            Meaning::Address => {
                if value.parse::<IpAddr>().is_err() {
                    return Err(expected("an address, not a name"));
                }
                self.address = Some(value);
            }
            Meaning::Port => {
                let port = parse_port(&value);
                self.port = Some(port.map_err(|_| expected("a number between 1 and 65535"))?);
            }
            Meaning::User => self.user = non_empty(value),
            Meaning::Password => self.password = Some(value),
            Meaning::Database => self.database = non_empty(value),
            Meaning::TlsMode => self.tls.mode = Some(tls::mode(&value).map_err(expected)?),
            Meaning::Tls => self.tls.mode = Some(tls::mode_of_asyncpg(&value).map_err(expected)?),
            Meaning::RootCertificate => self.tls.root = Some((name.to_owned(), value)),
            Meaning::Certificate => self.tls.certificate = Some((name.to_owned(), value)),
            Meaning::Key => self.tls.key = Some((name.to_owned(), value)),
            Meaning::ApplicationName => self.application_name = Some(value),
            Meaning::Options => {
                if let Some(remedy) = parameters::overruled(&value) {
                    return Err(unsupported(name, remedy));
                }
                self.options.push(value);
            }
            Meaning::StatementCache => {
                let capacity = value.parse().ok();
                self.statement_cache = Some(capacity.ok_or_else(|| expected("a whole number"))?);
            }
        }
        Ok(())
    }

    pub(crate) fn resolve(self) -> Result<DatabaseUrl, UrlError> {
        // sqlx's own place for a server without a host: a socket if there is one, else localhost.
        let host = (self.address.clone().or_else(|| self.host.clone()))
            .or_else(|| non_empty(PgConnectOptions::new_without_pgpass().get_host().to_owned()))
            .unwrap_or_else(|| "localhost".to_owned());
        let user = match &self.user {
            Some(user) => user.clone(),
            None => system_user().ok_or(UrlError::NoUser)?,
        };
        let database = self.database.as_ref().unwrap_or(&user);
        // By way of sqlx's own parser, because only that reads the password file. Everything goes
        // into the query, where no part is subject to the rules of another.
        let mut url = format!("postgres:///?host={}", encode(&host));
        let port = self.port.unwrap_or(5432).to_string();
        let parameters = [
            ("port", Some(&port)),
            ("user", Some(&user)),
            ("password", self.password.as_ref()),
            ("dbname", Some(database)),
            ("application_name", self.application_name.as_ref()),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                url = url + "&" + name + "=" + &encode(value);
            }
        }
        let set_by_options = |name| self.options.iter().any(|o| parameters::sets(o, name));
        for option in &self.options {
            url = url + "&options=" + &encode(option);
        }
        let mut options = PgConnectOptions::from_str(&url)
            .expect("bug: sqlx refuses a URL whose every value was checked");
        if set_by_options("extra_float_digits") {
            // sqlx's own would win.
            options = options.extra_float_digits(None);
        }
        if let Some(capacity) = self.statement_cache {
            options = options.statement_cache_capacity(capacity);
        }
        let named = self.host.as_deref().filter(|_| self.address.is_some());
        let options = self.tls.apply(options, &host, named)?;
        Ok(DatabaseUrl {
            options,
            host,
            database: self.database,
            has_password: self.own_password,
            ignored: self.ignored,
        })
    }
}

fn check_scheme(scheme: &str) -> Result<(), UrlError> {
    let dialect = scheme
        .split_once('+')
        .map_or(scheme, |(dialect, _)| dialect);
    if ["postgres", "postgresql"].contains(&dialect.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    // Anything else before `://` may be a login with its password.
    let plain = |c: char| c.is_ascii_alphanumeric() || "+.-_".contains(c);
    if scheme.len() > WORD_MAX || !scheme.chars().all(plain) {
        return Err(UrlError::NoScheme);
    }
    let scheme = scheme.to_owned();
    Err(UrlError::Scheme { scheme })
}

/// Whether it is an IPv6 address without brackets, with or without a port.
fn is_bare_ipv6(address: &str) -> bool {
    let without_port = address.rsplit_once(':').map_or("", |(host, _)| host);
    [address, without_port]
        .iter()
        .any(|text| text.parse::<Ipv6Addr>().is_ok())
}

fn refuse(name: &str, value: &str, except: &[&str], remedy: &'static str) -> Result<(), UrlError> {
    if except.contains(&value) {
        return Ok(());
    }
    Err(unsupported(name, remedy))
}

pub(crate) fn unsupported(name: &str, remedy: &'static str) -> UrlError {
    UrlError::Unsupported {
        name: name.to_owned(),
        remedy,
    }
}

/// The name of the user that this process runs as, who is libpq's default too.
pub(crate) fn system_user() -> Option<String> {
    let user = User::from_uid(Uid::effective()).ok().flatten()?;
    Some(user.name)
}

/// Escapes what would part a value of `options` into words.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        if c == '\\' || c.is_ascii_whitespace() {
            text.push('\\');
        }
        text.push(c);
    }
    text
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
