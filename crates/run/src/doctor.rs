//! What this machine can do: what a run needs, whether it is there, and what to do where it is
//! not. Nothing is installed and nothing is started.

use std::error::Error;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use nix::unistd::Uid;
use poolproof_testbed::{
    FindError, HOME_VARIABLE, HomeError, find_binaries, install_hint, reachable_home, server_user,
};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Where [`poolproof_faults`]' HTTP API listens by default.
const PROXY_PORT: u16 = 8474;

/// Below this a run may fill the disk.
const ENOUGH_BYTES: u64 = 1 << 30;

const ENGINE_DEADLINE: Duration = Duration::from_secs(3);
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The bit of `CAP_NET_ADMIN` in a capability set.
const CAP_NET_ADMIN: u32 = 12;

/// What was looked at and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub topic: &'static str,
    /// How it is.
    pub state: FindingState,
    /// What was found, in one line.
    pub detail: String,
    /// Why it matters and what to do, where something is to be done.
    pub advice: Option<String>,
}

/// How a thing is that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingState {
    /// It is there.
    Ok,
    /// It is not there, and runs work without it.
    Absent,
    /// It is not there, and a private Postgres cannot be started without it.
    Missing,
}

/// Looks at everything that runs need, the most important first.
///
/// `reports` is the folder that reports would go to.
///
/// # Cancel safety
/// Safe.
pub async fn doctor(reports: &Path) -> Vec<Finding> {
    let mut findings = vec![postgres(), privileges()];
    findings.push(ports());
    findings.push(home());
    findings.push(temporary(&std::env::temp_dir()));
    findings.push(place("reports", reports, "--out"));
    findings.push(proxy_port());
    findings.push(engine().await);
    findings.push(net_admin());
    findings
}

/// Returns whether a private Postgres can be started here.
#[must_use]
pub fn can_run(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.state != FindingState::Missing)
}

fn ok(topic: &'static str, detail: String) -> Finding {
    Finding {
        topic,
        state: FindingState::Ok,
        detail,
        advice: None,
    }
}

fn not(state: FindingState, topic: &'static str, detail: String, advice: &str) -> Finding {
    Finding {
        topic,
        state,
        detail,
        advice: Some(advice.to_owned()),
    }
}

fn postgres() -> Finding {
    let topic = "postgres";
    match find_binaries() {
        Ok(found) => ok(
            topic,
            format!("{} in {}", found.version, found.dir.display()),
        ),
        Err(error @ FindError::Chosen { .. }) => not(
            FindingState::Missing,
            topic,
            with_causes(&error),
            "correct the variable, or unset it to search the usual places",
        ),
        Err(error @ FindError::Machine(_)) => not(
            FindingState::Missing,
            topic,
            with_causes(&error),
            "set TMPDIR to a directory that exists, has room and may be written to",
        ),
        Err(error @ FindError::None { .. }) => not(
            FindingState::Absent,
            topic,
            with_causes(&error),
            &format!(
                "a run downloads one where there is a network; otherwise {}, or name an existing \
                 server with --postgres URL",
                install_hint()
            ),
        ),
    }
}

fn privileges() -> Finding {
    let topic = "privileges";
    let user = Uid::effective();
    match server_user() {
        Ok(None) => ok(topic, format!("user {user}: servers run as this user")),
        Ok(Some(name)) => ok(topic, format!("root: servers run as user {name}")),
        Err(error) => not(
            FindingState::Missing,
            topic,
            with_causes(&error),
            "Postgres refuses to run as root: add a system user `postgres`, or start poolproof \
             as a normal user",
        ),
    }
}

fn ports() -> Finding {
    let topic = "loopback";
    match TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()) {
        Ok(_) => ok(topic, "127.0.0.1 has free ports".to_owned()),
        Err(error) => not(
            FindingState::Missing,
            topic,
            format!("no port can be opened on 127.0.0.1: {error}"),
            "server and fault proxy listen there",
        ),
    }
}

fn proxy_port() -> Finding {
    let topic = "proxy port";
    match TcpListener::bind(("127.0.0.1", PROXY_PORT)) {
        Ok(_) => ok(topic, format!("{PROXY_PORT} is free for `poolproof proxy`")),
        Err(error) => not(
            FindingState::Absent,
            topic,
            format!("{PROXY_PORT} cannot be used: {error}"),
            "runs do not need it; give `poolproof proxy` another one with --listen",
        ),
    }
}

fn home() -> Finding {
    let topic = "cache";
    match reachable_home() {
        Ok(path) => place(topic, &path, HOME_VARIABLE),
        Err(error @ HomeError::Unreachable { .. }) => not(
            FindingState::Missing,
            topic,
            with_causes(&error),
            "set POOLPROOF_HOME to a directory that this user may enter, or run poolproof as an \
             ordinary user",
        ),
        Err(error) => not(
            FindingState::Missing,
            topic,
            with_causes(&error),
            "name a directory for templates and running servers with POOLPROOF_HOME",
        ),
    }
}

/// Nobody makes the directory for temporary files: it has to be there.
fn temporary(path: &Path) -> Finding {
    let topic = "temporary";
    if path.is_dir() {
        return place(topic, path, "TMPDIR");
    }
    let detail = format!("{} is not a directory", path.display());
    let advice = "set TMPDIR to a directory that exists";
    not(FindingState::Missing, topic, detail, advice)
}

/// Looks whether files can be made in `path`, which is made when it is needed, and whether there
/// is room.
fn place(topic: &'static str, path: &Path, knob: &str) -> Finding {
    let shown = path.display();
    let existing = nearest_existing(path);
    if let Err(error) = write_probe(&existing) {
        let advice = format!("choose another directory with {knob}");
        let detail = format!("{shown} cannot be written to: {error}");
        return not(FindingState::Missing, topic, detail, &advice);
    }
    let free = match statvfs(&existing) {
        Ok(stat) => widen(stat.blocks_available()).saturating_mul(stat.fragment_size()),
        Err(error) => {
            let detail = format!("{shown} does not tell its free space: {error}");
            return not(FindingState::Absent, topic, detail, "see `df`");
        }
    };
    let detail = format!("{shown}, {} free", bytes(free));
    if free < ENOUGH_BYTES {
        let advice = format!("a run may need 1 GB: make room or choose another with {knob}");
        return not(FindingState::Absent, topic, detail, &advice);
    }
    ok(topic, detail)
}

fn nearest_existing(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute
        .ancestors()
        .find(|dir| dir.is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// A byte that can be written tells more than permissions do.
fn write_probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".poolproof-doctor-{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, b"x"));
    match fs::remove_file(&path) {
        Err(error) if written.is_ok() => Err(error),
        _ => written,
    }
}

#[derive(Debug, Deserialize)]
struct EngineVersion {
    #[serde(rename = "Version")]
    version: String,
    #[serde(rename = "ApiVersion")]
    api: String,
}

async fn engine() -> Finding {
    let topic = "docker";
    let advice =
        "only `--postgres docker` needs it: servers are started as local processes otherwise";
    let absent = |detail| not(FindingState::Absent, topic, detail, advice);
    let socket = match std::env::var("DOCKER_HOST") {
        Ok(host) => match host.strip_prefix("unix://") {
            Some(path) => PathBuf::from(path),
            None => {
                return absent(format!(
                    "DOCKER_HOST is {host}, and only unix:// is looked at"
                ));
            }
        },
        Err(_) => PathBuf::from(DOCKER_SOCKET),
    };
    let shown = socket.display();
    match timeout(ENGINE_DEADLINE, engine_version(&socket)).await {
        Ok(Ok(engine)) => ok(
            topic,
            format!("engine {} (API {}) at {shown}", engine.version, engine.api),
        ),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            absent(format!("no engine at {shown}"))
        }
        Ok(Err(error)) => absent(format!("{shown} is of no use: {error}")),
        Err(_elapsed) => absent(format!("{shown} does not answer")),
    }
}

async fn engine_version(socket: &Path) -> io::Result<EngineVersion> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // HTTP/1.0 keeps chunks out of the body, but not every engine is that polite.
    let json = match (body.find('{'), body.rfind('}')) {
        (Some(from), Some(to)) if from < to => &body[from..=to],
        _ => "",
    };
    serde_json::from_str(json).map_err(io::Error::other)
}

fn net_admin() -> Finding {
    let topic = "net admin";
    match capabilities() {
        Some(set) if set & (1 << CAP_NET_ADMIN) != 0 => {
            ok(topic, "CAP_NET_ADMIN is there".to_owned())
        }
        _ => not(
            FindingState::Absent,
            topic,
            "no CAP_NET_ADMIN".to_owned(),
            "runs do not need it: faults happen in a proxy of our own",
        ),
    }
}

/// The effective capabilities of this process, where the system tells.
fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Systems differ in how wide a number of blocks is.
fn widen(n: impl Into<u64>) -> u64 {
    n.into()
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000_000_000 => format!("{} MB", n / 1_000_000),
        _ => format!("{} GB", n / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_does_not_exist_yet_is_judged_by_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let finding = place("reports", &dir.path().join("not/yet"), "--out");
        assert_eq!(finding.state, FindingState::Ok, "{finding:?}");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "the probe is gone"
        );
    }

    #[test]
    fn a_place_that_is_a_file_below_proc_cannot_be_written_to() {
        let finding = place("reports", Path::new("/proc/self/fd/x"), "--out");
        assert_eq!(finding.state, FindingState::Missing, "{finding:?}");
        assert_eq!(
            finding.advice.as_deref(),
            Some("choose another directory with --out")
        );
    }

    #[tokio::test]
    async fn an_engine_tells_its_version_over_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).await.unwrap();
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      27\r\n{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\"}\r\n0\r\n\r\n",
                )
                .await
                .unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        };
        let (request, version) = tokio::join!(answer, engine_version(&path));
        let version = version.unwrap();
        assert!(request.starts_with("GET /version "), "{request}");
        assert_eq!(
            (version.version.as_str(), version.api.as_str()),
            ("20.10.24", "1.41")
        );
    }

    #[test]
    fn one_thing_that_must_be_there_and_is_not_decides() {
        let absent = not(FindingState::Absent, "docker", String::new(), "");
        let missing = not(FindingState::Missing, "loopback", String::new(), "");
        assert!(can_run(std::slice::from_ref(&absent)));
        assert!(!can_run(&[absent, missing]));
    }
}
