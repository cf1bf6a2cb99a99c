//! What a URL says about TLS, by libpq's rules.

use std::fs;
use std::path::PathBuf;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::UrlError;
use crate::parameters::PASSPHRASE;
use crate::parts::unsupported;

const MODES: &str = "disable, allow, prefer, require, verify-ca or verify-full";

/// The parameters about TLS; each file with the name of the parameter or variable it came from.
#[derive(Default)]
pub(crate) struct Tls {
    pub(crate) mode: Option<PgSslMode>,
    pub(crate) root: Option<(String, String)>,
    pub(crate) certificate: Option<(String, String)>,
    pub(crate) key: Option<(String, String)>,
}

/// Reads `sslmode`; an error is what it may be.
pub(crate) fn mode(value: &str) -> Result<PgSslMode, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "disable" => Ok(PgSslMode::Disable),
        // sqlx's `allow` never uses TLS, so that a server that insists on it turns it away.
        "allow" | "prefer" => Ok(PgSslMode::Prefer),
        "require" => Ok(PgSslMode::Require),
        "verify-ca" => Ok(PgSslMode::VerifyCa),
        "verify-full" => Ok(PgSslMode::VerifyFull),
        _ => Err(MODES),
    }
}

/// Reads asyncpg's `ssl`; an error is what it may be.
pub(crate) fn mode_of_asyncpg(value: &str) -> Result<PgSslMode, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        // JDBC lets its `ssl` stand alone.
        "true" | "1" | "" => Ok(PgSslMode::VerifyFull),
        "false" | "0" => Ok(PgSslMode::Disable),
        value => mode(value).map_err(|_| "true, false, or a value of sslmode"),
    }
}

impl Tls {
    /// Adds it to `options` of a connection to `host`. `named` is the host by name where `host` is the
    /// address that was given beside it.
    pub(crate) fn apply(
        self,
        options: PgConnectOptions,
        host: &str,
        named: Option<&str>,
    ) -> Result<PgConnectOptions, UrlError> {
        if host.starts_with('/') {
            return Ok(options.ssl_mode(PgSslMode::Disable));
        }
        let mut mode = self.mode.unwrap_or_default();
        // Whatever sqlx took from the environment is replaced by what was read here.
        let mut options = options.ssl_root_cert_from_pem(Vec::new());
        match &self.root {
            Some((name, root)) if root == "system" => {
                mode = match self.mode {
                    None | Some(PgSslMode::VerifyFull) => PgSslMode::VerifyFull,
                    Some(_) => {
                        let remedy = "`system` believes every public authority, so that only \
                            sslmode=verify-full is safe with it";
                        return Err(unsupported(name, remedy));
                    }
                };
            }
            Some(root) => {
                if matches!(mode, PgSslMode::Require) {
                    mode = PgSslMode::VerifyCa;
                }
                if matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull) {
                    options = match source(root, "CERTIFICATE-----", "certificate in PEM form")? {
                        Source::File(path) => options.ssl_root_cert(path),
                        Source::Text(pem) => options.ssl_root_cert_from_pem(pem),
                    };
                }
            }
            None => {}
        }
        if matches!(mode, PgSslMode::VerifyFull) && named.is_some_and(|name| name != host) {
            let remedy = "sslmode=verify-full would check the certificate against it instead of \
                `host`; leave hostaddr out, and let `host` resolve to it (/etc/hosts)";
            return Err(unsupported("hostaddr", remedy));
        }
        if !matches!(mode, PgSslMode::Disable) {
            options = self.client(options)?;
        }
        Ok(options.ssl_mode(mode))
    }

    /// Adds the client's certificate.
    fn client(self, options: PgConnectOptions) -> Result<PgConnectOptions, UrlError> {
        match (self.certificate, self.key) {
            (None, None) => Ok(options),
            (Some(certificate), Some(key)) => {
                let certificate =
                    source(&certificate, "CERTIFICATE-----", "certificate in PEM form")?;
                let options = match certificate {
                    Source::File(path) => options.ssl_client_cert(path),
                    Source::Text(pem) => options.ssl_client_cert_from_pem(pem),
                };
                let key = source(&key, " PRIVATE KEY-----", "private key in PEM form")?;
                Ok(match key {
                    Source::File(path) => options.ssl_client_key(path),
                    Source::Text(pem) => options.ssl_client_key_from_pem(pem),
                })
            }
            (Some((name, _)), None) => Err(unsupported(&name, "name its key too, with sslkey")),
            (None, Some((name, _))) => {
                Err(unsupported(&name, "name its certificate too, with sslcert"))
            }
        }
    }
}

/// Where a certificate or key comes from.
enum Source {
    /// A file, which is read again at each connect: certificates are renewed.
    File(PathBuf),
    /// The text itself, which sqlx's `PGSSL…` variables may hold.
    Text(Vec<u8>),
}

/// Looks whether a file can be read and holds `marker`.
fn source(
    (name, value): &(String, String),
    marker: &str,
    wanted: &'static str,
) -> Result<Source, UrlError> {
    if value.trim_start().starts_with("-----BEGIN") {
        return Ok(Source::Text(value.clone().into_bytes()));
    }
    let (name, path) = (name.clone(), PathBuf::from(value));
    let pem = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            let kind = error.kind();
            return Err(UrlError::File { name, path, kind });
        }
    };
    if pem.contains("ENCRYPTED") {
        return Err(unsupported(&name, PASSPHRASE));
    }
    if pem.contains(marker) {
        return Ok(Source::File(path));
    }
    Err(UrlError::Content { name, path, wanted })
}
