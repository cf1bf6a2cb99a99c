//! Every connection parameter that people write into a URL, and what becomes of it here.
//!
//! The names are those of libpq (up to version 18), and those of other drivers and frameworks
//! whose URLs get pasted. What is not in the table is refused, with the nearest name.

use crate::parts::WORD_MAX;

/// One parameter.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// libpq's environment variable, which stands in where the URL does not have the parameter.
    pub(crate) variable: Option<&'static str>,
    pub(crate) fate: Fate,
}

/// What becomes of a parameter.
pub(crate) enum Fate {
    /// It is honoured.
    Honoured(Meaning),
    /// It says how a driver works, not where the database is or how safe the way to it must be: it
    /// is left out and shown.
    Ignored,
    /// It is refused, except for values that ask for what happens anyway.
    Refused {
        except: &'static [&'static str],
        remedy: &'static str,
    },
}

/// What an honoured parameter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Host,
    Address,
    Port,
    User,
    Password,
    Database,
    TlsMode,
    /// asyncpg's and JDBC's `ssl`, whose `true` checks certificate and name.
    Tls,
    RootCertificate,
    Certificate,
    Key,
    ApplicationName,
    Options,
    StatementCache,
}

const fn honoured(name: &'static str, meaning: Meaning) -> Parameter {
    Parameter {
        name,
        variable: None,
        fate: Fate::Honoured(meaning),
    }
}

const fn ignored(name: &'static str) -> Parameter {
    Parameter {
        name,
        variable: None,
        fate: Fate::Ignored,
    }
}

const fn refused(
    name: &'static str,
    except: &'static [&'static str],
    remedy: &'static str,
) -> Parameter {
    Parameter {
        name,
        variable: None,
        fate: Fate::Refused { except, remedy },
    }
}

impl Parameter {
    const fn or(self, variable: &'static str) -> Self {
        Self {
            variable: Some(variable),
            ..self
        }
    }
}

/// Returns the row of a parameter.
pub(crate) fn row(name: &str) -> Option<&'static Parameter> {
    TABLE.iter().find(|row| row.name == name)
}

/// Returns the name that was probably meant.
pub(crate) fn nearest(typed: &str) -> Option<&'static str> {
    if typed.len() > WORD_MAX {
        return None;
    }
    let typed = typed.to_ascii_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&typed, &name.to_ascii_lowercase());
    let names = TABLE.iter().map(|row| (distance(row.name), row.name));
    names
        .filter(|(distance, name)| *distance <= name.len().min(typed.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

const SERVICE: &str = "write what the service stands for into the URL";
const CRL: &str = "revocation lists are not read; leave it out if the server's certificate need not \
    be checked against one";
const SERVER_ROLE: &str = "one host is taken as it is; name the server that is meant and leave it \
    out";
const KERBEROS: &str = "GSSAPI is not supported; use a password or a certificate, and leave it out";
const OAUTH: &str = "OAuth is not supported; use a password or a certificate";
pub(crate) const PASSPHRASE: &str =
    "an encrypted key cannot be read; name a key without a passphrase";
const VERIFY: &str = "write sslmode=verify-full";
const SEARCH_PATH: &str = "write options=-c%20search_path%3DNAME";
const SETTING: &str = "a setting of the server stands in options, such as \
    options=-c%20statement_timeout%3D5s";

use Meaning as M;

#[rustfmt::skip] // A table reads best with one row to a line.
pub(crate) const TABLE: &[Parameter] = &[
    // libpq
    honoured("host", M::Host), // PGHOST and PGHOSTADDR depend on each other: `Parts::place`
    honoured("hostaddr", M::Address),
    honoured("port", M::Port).or("PGPORT"),
    honoured("user", M::User).or("PGUSER"),
    honoured("password", M::Password).or("PGPASSWORD"),
    honoured("dbname", M::Database).or("PGDATABASE"),
    honoured("sslmode", M::TlsMode).or("PGSSLMODE"),
    honoured("sslrootcert", M::RootCertificate).or("PGSSLROOTCERT"),
    honoured("sslcert", M::Certificate).or("PGSSLCERT"),
    honoured("sslkey", M::Key).or("PGSSLKEY"),
    honoured("application_name", M::ApplicationName).or("PGAPPNAME"),
    honoured("options", M::Options),
    refused("service", &[], SERVICE).or("PGSERVICE"),
    refused("servicefile", &[], SERVICE),
    refused("passfile", &[], "name the password file in PGPASSFILE"),
    refused("target_session_attrs", &["any", "prefer-standby"], SERVER_ROLE).or("PGTARGETSESSIONATTRS"),
    refused("load_balance_hosts", &["disable"], SERVER_ROLE).or("PGLOADBALANCEHOSTS"),
    refused("channel_binding", &["prefer", "disable"], "sslmode=verify-full guards against the same attack; leave channel_binding out").or("PGCHANNELBINDING"),
    refused("require_auth", &[], "the server chooses how to log in; set pg_hba.conf there, and leave require_auth out").or("PGREQUIREAUTH"),
    refused("requirepeer", &[], "the server's user is not checked; leave it out").or("PGREQUIREPEER"),
    refused("requiressl", &["0"], "write sslmode=require").or("PGREQUIRESSL"),
    refused("sslcertmode", &["allow"], "the client's certificate is sent when the server asks for it; leave sslcertmode out").or("PGSSLCERTMODE"),
    refused("sslpassword", &[], PASSPHRASE),
    refused("sslcrl", &[], CRL).or("PGSSLCRL"),
    refused("sslcrldir", &[], CRL).or("PGSSLCRLDIR"),
    refused("sslnegotiation", &["postgres"], "TLS begins as servers before version 17 expect it; leave sslnegotiation out").or("PGSSLNEGOTIATION"),
    refused("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"], "TLS 1.2 and 1.3 are spoken; let the server require 1.3 (ssl_min_protocol_version)").or("PGSSLMINPROTOCOLVERSION"),
    refused("ssl_max_protocol_version", &["TLSv1.3"], "TLS 1.2 and 1.3 are spoken; leave it out").or("PGSSLMAXPROTOCOLVERSION"),
    refused("gssencmode", &["disable", "prefer"], KERBEROS).or("PGGSSENCMODE"),
    refused("replication", &["false", "off", "no", "0"], "a replication connection runs no statements; leave it out"),
    refused("client_encoding", &["UTF8", "utf8", "UTF-8", "utf-8", "auto"], "text is UTF-8 here; leave it out").or("PGCLIENTENCODING"),
    refused("scram_client_key", &[], "log in with the password"),
    refused("scram_server_key", &[], "log in with the password"),
    refused("oauth_issuer", &[], OAUTH),
    refused("oauth_client_id", &[], OAUTH),
    refused("oauth_client_secret", &[], OAUTH),
    refused("oauth_scope", &[], OAUTH),
    refused("min_protocol_version", &["3.0"], "protocol 3.0 is spoken; leave it out").or("PGMINPROTOCOLVERSION"),
    ignored("max_protocol_version"),
    ignored("connect_timeout"),
    ignored("fallback_application_name"),
    ignored("keepalives"),
    ignored("keepalives_idle"),
    ignored("keepalives_interval"),
    ignored("keepalives_count"),
    ignored("tcp_user_timeout"),
    ignored("sslcompression"),
    ignored("sslsni"),
    ignored("sslkeylogfile"),
    ignored("krbsrvname"),
    ignored("gsslib"),
    ignored("gssdelegation"),
    ignored("authtype"),
    ignored("tty"),
    // sqlx
    honoured("database", M::Database),
    honoured("ssl-mode", M::TlsMode),
    honoured("ssl-root-cert", M::RootCertificate),
    honoured("ssl-ca", M::RootCertificate),
    honoured("ssl-cert", M::Certificate),
    honoured("ssl-key", M::Key),
    honoured("statement-cache-capacity", M::StatementCache),
    // asyncpg, psycopg and SQLAlchemy's dialects for them
    honoured("ssl", M::Tls),
    refused("direct_tls", &["false", "False", "0"], "TLS begins as servers before version 17 expect it; leave it out"),
    refused("server_settings", &[], SETTING),
    ignored("async_fallback"),
    ignored("autosave"),
    ignored("command_timeout"),
    ignored("max_cacheable_statement_size"),
    ignored("max_cached_statement_lifetime"),
    ignored("prepare_threshold"),
    ignored("prepared_statement_cache_size"),
    ignored("prepared_statement_name_func"),
    ignored("statement_cache_size"),
    ignored("timeout"),
    // SQLAlchemy's engine, and Django's and Rails' settings for their pools
    ignored("conn_health_checks"),
    ignored("conn_max_age"),
    ignored("max_overflow"),
    ignored("pool"),
    ignored("pool_pre_ping"),
    ignored("pool_recycle"),
    ignored("pool_size"),
    // JDBC
    honoured("ApplicationName", M::ApplicationName),
    refused("currentSchema", &[], SEARCH_PATH),
    refused("targetServerType", &["any", "preferSecondary"], SERVER_ROLE),
    refused("loadBalanceHosts", &["false"], SERVER_ROLE),
    refused("sslfactory", &[], "write sslmode=verify-full, or sslmode=require to check no certificate"),
    refused("readOnly", &["false"], "write options=-c%20default_transaction_read_only%3Don"),
    ignored("connectTimeout"),
    ignored("defaultRowFetchSize"),
    ignored("loginTimeout"),
    ignored("prepareThreshold"),
    ignored("preparedStatementCacheQueries"),
    ignored("reWriteBatchedInserts"),
    ignored("socketTimeout"),
    ignored("stringtype"),
    ignored("tcpKeepAlive"),
    // Prisma
    refused("schema", &[], SEARCH_PATH),
    refused("sslaccept", &["accept_invalid_certs"], VERIFY),
    refused("sslidentity", &[], "write sslcert and sslkey, both in PEM form"),
    ignored("connection_limit"),
    ignored("pgbouncer"),
    ignored("pool_timeout"),
    ignored("socket_timeout"),
    ignored("statement_cache_capacity"),
    // node-postgres, pgx, lib/pq
    refused("search_path", &[], SEARCH_PATH),
    refused("statement_timeout", &[], SETTING),
    refused("lock_timeout", &[], SETTING),
    refused("idle_in_transaction_session_timeout", &[], SETTING),
    refused("timezone", &["UTC"], OWN_SETTING),
    refused("TimeZone", &["UTC"], OWN_SETTING),
    ignored("binary_parameters"),
    ignored("connectionTimeoutMillis"),
    ignored("default_query_exec_mode"),
    ignored("idleTimeoutMillis"),
    ignored("max"),
    ignored("pool_max_conn_idle_time"),
    ignored("pool_max_conn_lifetime"),
    ignored("pool_max_conns"),
    ignored("pool_min_conns"),
    ignored("uselibpqcompat"),
];

const OWN_SETTING: &str = "the driver sets timezone, datestyle and client_encoding itself at each \
    connect (UTC, ISO, UTF8), and that wins; leave it out here, and SET it in the pool's on_connect";

/// What the driver sends at each connect, and the server takes after, and over, `options`.
const OWN_SETTINGS: &[(&str, &[&str])] = &[
    ("timezone", &["utc"]),
    ("datestyle", &["iso", "iso,mdy", "iso, mdy"]),
    ("client_encoding", &["utf8", "utf-8", "unicode"]),
];

/// Returns why `options` cannot be honoured, if they set what the driver sets itself.
pub(crate) fn overruled(options: &str) -> Option<&'static str> {
    let overruled = settings(options).any(|(name, value)| {
        let own = OWN_SETTINGS.iter().find(|(own, _)| *own == name);
        own.is_some_and(|(_, values)| !values.contains(&value.to_ascii_lowercase().as_str()))
    });
    overruled.then_some(OWN_SETTING)
}

/// Returns whether `options` set `wanted`, which is in lower case.
pub(crate) fn sets(options: &str, wanted: &str) -> bool {
    settings(options).any(|(name, _)| name == wanted)
}

/// The settings in `options`, as the server reads them: words with `\` before a blank that is meant,
/// each `-c name=value`, `-cname=value` or `--name=value`. Names are returned in lower case.
fn settings(options: &str) -> impl Iterator<Item = (String, String)> {
    let mut words = words(options).into_iter();
    std::iter::from_fn(move || {
        loop {
            let word = words.next()?;
            let setting = match (word.as_str(), word.get(..2)) {
                ("-c", _) => words.next()?,
                (_, Some("-c" | "--")) => word[2..].to_owned(),
                _ => continue,
            };
            if let Some((name, value)) = setting.split_once('=') {
                return Some((
                    name.replace('-', "_").to_ascii_lowercase(),
                    value.to_owned(),
                ));
            }
        }
    })
}

fn words(options: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match (c, words.last_mut()) {
            ('\\', Some(word)) => word.extend(chars.next()),
            (c, _) if c.is_ascii_whitespace() => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
