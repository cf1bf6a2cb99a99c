//! Downloads a Postgres where there is none, in the layout of the theseus-rs/postgresql-binaries
//! releases: an archive and, beside it, its SHA-256.
//!
//! Proxies are taken from `HTTPS_PROXY`, `ALL_PROXY`, `HTTP_PROXY` and `NO_PROXY`; certificates of
//! a private authority from the file that `SSL_CERT_FILE` names.

mod unpack;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

pub use unpack::UnpackError;

use crate::account::Account;
use crate::binaries::{Binaries, Unusable};
use crate::home::{self, Home};
use crate::lock::{self, Mode};
use crate::random;

/// The version that is downloaded, in the releases' own numbering: the third number is the build.
pub const DOWNLOAD_VERSION: &str = "17.5.0";

/// The environment variable with another place to download from. `{version}` and `{target}` in it
/// are replaced; the checksum is expected at the same URL with `.sha256` appended.
pub const DOWNLOAD_URL_VARIABLE: &str = "POOLPROOF_PG_DOWNLOAD_URL";

const URL_TEMPLATE: &str = "https://github.com/theseus-rs/postgresql-binaries/releases/download/{version}/postgresql-{version}-{target}.tar.gz";

const CERTIFICATES_VARIABLE: &str = "SSL_CERT_FILE";

/// For the whole archive of about 30 MB, on a slow line.
const DOWNLOAD_WITHIN: Duration = Duration::from_secs(600);
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// Ten times what the largest archive has.
const ARCHIVE_BYTES_MAX: u64 = 300 << 20;
const CHECKSUM_BYTES_MAX: u64 = 4096;
/// A neighbour may be downloading the same.
const LOCK_WITHIN: Duration = Duration::from_secs(660);

/// Why there is no downloaded Postgres.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There are no archives for this kind of machine.
    #[error("download a Postgres: there are none for {arch} {os}")]
    Unsupported {
        /// The processor.
        arch: &'static str,
        /// The operating system.
        os: &'static str,
    },
    /// The server could not be reached, or the transfer broke.
    #[error("download {url}")]
    Http {
        /// What was asked for.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server answered, and not with the file.
    #[error("download {url}: the server answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The checksum file holds no checksum.
    #[error("read a SHA-256 from {url}")]
    NoChecksum {
        /// Where the checksum should be.
        url: String,
    },
    /// The archive is not what its checksum says.
    #[error("verify {url}: its SHA-256 is {actual}, and {expected} was announced")]
    Checksum {
        /// The archive.
        url: String,
        /// What its checksum file says.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// The archive could not be unpacked.
    #[error("unpack {url}")]
    Unpack {
        /// The archive.
        url: String,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// What was in the archive is of no use.
    #[error("use the Postgres from {url}")]
    Unusable {
        /// The archive.
        url: String,
        /// What is wrong with it.
        #[source]
        source: Unusable,
    },
    /// Files could not be read, written or locked.
    #[error("keep a downloaded Postgres in {}", path.display())]
    Files {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file with certificates is of no use.
    #[error("read certificates from {}, which {CERTIFICATES_VARIABLE} names", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<ureq::Error>,
    },
}

/// Fetches the Postgres for this machine into the home's downloads, once.
pub(crate) fn fetch(home: &Home, account: Option<&Account>) -> Result<Binaries, DownloadError> {
    let template = std::env::var(DOWNLOAD_URL_VARIABLE)
        .ok()
        .filter(|url| !url.is_empty())
        .unwrap_or_else(|| URL_TEMPLATE.to_owned());
    fetch_from(&template, home, account)
}

fn fetch_from(
    template: &str,
    home: &Home,
    account: Option<&Account>,
) -> Result<Binaries, DownloadError> {
    let target = target()?;
    let url = template
        .replace("{version}", DOWNLOAD_VERSION)
        .replace("{target}", &target);
    let name = format!("postgresql-{DOWNLOAD_VERSION}-{target}");
    let downloads = home.downloads();
    let place = downloads.join(&name);
    let files = |source| DownloadError::Files {
        path: downloads.clone(),
        source,
    };

    let lock = lock::open(&downloads.join(format!("{name}.lock"))).map_err(files)?;
    lock::take(&lock, Mode::Exclusive, LOCK_WITHIN).map_err(files)?;
    // A neighbour may have fetched it while we waited.
    if let Ok(found) = Binaries::at(&place.join("bin"), account) {
        return Ok(found);
    }
    remove_parts(&downloads, &name).map_err(files)?;
    let suffix = random::hex(4).map_err(files)?;
    let part = downloads.join(format!(".part-{name}-{suffix}"));
    home::create(&part, 0o755).map_err(files)?;
    let placed = fill(&part, &url, account).and_then(|()| {
        if place.exists() {
            fs::remove_dir_all(&place).map_err(files)?;
        }
        fs::rename(&part, &place).map_err(files)
    });
    if placed.is_err()
        && let Err(error) = fs::remove_dir_all(&part)
    {
        tracing::debug!(%error, "a partial download is left for the next one to remove");
    }
    placed?;
    Binaries::at(&place.join("bin"), account)
        .map_err(|source| DownloadError::Unusable { url, source })
}

/// Downloads, verifies and unpacks, and sees that the result answers.
fn fill(part: &Path, url: &str, account: Option<&Account>) -> Result<(), DownloadError> {
    let files = |source| DownloadError::Files {
        path: part.to_path_buf(),
        source,
    };
    let agent = agent()?;
    let expected = checksum(&agent, &format!("{url}.sha256"))?;
    let mut archive = tempfile::tempfile_in(part).map_err(files)?;
    let actual = transfer(&agent, url, &mut archive)?;
    if actual != expected {
        return Err(DownloadError::Checksum {
            url: url.to_owned(),
            expected,
            actual,
        });
    }
    archive.seek(SeekFrom::Start(0)).map_err(files)?;
    unpack::unpack(&archive, part).map_err(|source| DownloadError::Unpack {
        url: url.to_owned(),
        source,
    })?;
    Binaries::at(&part.join("bin"), account).map_err(|source| DownloadError::Unusable {
        url: url.to_owned(),
        source,
    })?;
    Ok(())
}

/// Removes what killed downloads left. Holding the lock, nobody else can be at this one.
fn remove_parts(downloads: &Path, name: &str) -> io::Result<()> {
    let prefix = format!(".part-{name}-");
    for entry in fs::read_dir(downloads)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn agent() -> Result<ureq::Agent, DownloadError> {
    let mut tls = TlsConfig::builder();
    let named = std::env::var_os(CERTIFICATES_VARIABLE).filter(|path| !path.is_empty());
    if let Some(path) = named.map(PathBuf::from) {
        let roots = certificates(&path).map_err(|source| DownloadError::Certificates {
            path,
            source: Box::new(source),
        })?;
        tls = tls.root_certs(roots);
    }
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(DOWNLOAD_WITHIN))
        .timeout_connect(Some(CONNECT_WITHIN))
        .http_status_as_error(false)
        .tls_config(tls.build())
        .build();
    Ok(config.into())
}

fn certificates(path: &Path) -> Result<RootCerts, ureq::Error> {
    let text = fs::read(path)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        let kind = io::ErrorKind::InvalidData;
        return Err(io::Error::new(kind, "there is no certificate in it").into());
    }
    Ok(RootCerts::from(certificates))
}

fn get(agent: &ureq::Agent, url: &str) -> Result<ureq::Body, DownloadError> {
    let response = agent.get(url).call().map_err(|source| http(url, source))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(DownloadError::Status {
            url: url.to_owned(),
            status,
        });
    }
    Ok(response.into_body())
}

fn http(url: &str, source: ureq::Error) -> DownloadError {
    DownloadError::Http {
        url: url.to_owned(),
        source: Box::new(source),
    }
}

fn checksum(agent: &ureq::Agent, url: &str) -> Result<String, DownloadError> {
    let text = get(agent, url)?
        .into_with_config()
        .limit(CHECKSUM_BYTES_MAX)
        .read_to_string()
        .map_err(|source| http(url, source))?;
    // `<sum>  <name>`, or the sum alone.
    let sum = text.split_whitespace().next().unwrap_or_default();
    if sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(sum.to_ascii_lowercase());
    }
    Err(DownloadError::NoChecksum {
        url: url.to_owned(),
    })
}

/// Copies what is at `url` into `file` and returns its SHA-256.
fn transfer(agent: &ureq::Agent, url: &str, file: &mut File) -> Result<String, DownloadError> {
    let mut body = get(agent, url)?
        .into_with_config()
        .limit(ARCHIVE_BYTES_MAX)
        .reader();
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = body
            .read(&mut buffer)
            .map_err(|source| http(url, source.into()))?;
        if read == 0 {
            return Ok(random::to_hex(&sum.finalize()));
        }
        sum.update(&buffer[..read]);
        file.write_all(&buffer[..read])
            .map_err(|source| http(url, source.into()))?;
    }
}

/// The name of this kind of machine in the releases.
fn target() -> Result<String, DownloadError> {
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    let target = match (arch, os) {
        ("x86_64" | "aarch64" | "s390x", "linux") => format!("{arch}-unknown-linux-{}", libc()),
        ("powerpc64", "linux") if cfg!(target_endian = "little") => {
            format!("powerpc64le-unknown-linux-{}", libc())
        }
        ("x86", "linux") => format!("i686-unknown-linux-{}", libc()),
        ("x86_64" | "aarch64", "macos") => format!("{arch}-apple-darwin"),
        _ => return Err(DownloadError::Unsupported { arch, os }),
    };
    Ok(target)
}

/// The system's C library, which is not always ours: a static build runs on either.
fn libc() -> &'static str {
    if Path::new("/etc/alpine-release").exists() {
        "musl"
    } else {
        "gnu"
    }
}

#[cfg(test)]
mod tests;
