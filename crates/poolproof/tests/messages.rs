//! What is said to a user in trouble: one table of causes, exit codes, messages and help.
//!
//! The causes are real: servers that refuse, certificates that do not fit, typing errors in URLs and
//! scenarios. To read a message as such a user would is what the table is for.

#![expect(clippy::unwrap_used, reason = "a broken set-up fails the test")]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection};
use tokio::runtime::Runtime;

const SCENARIO: &str = "name = \"shop\"

[pool]
pool_size = 2
max_overflow = 0
pool_timeout = \"2s\"
pre_ping = true

[postgres]
settings = { max_connections = 20 }

[load]
rate = 50
duration = \"1s\"
arrivals = \"uniform\"

[[load.workload]]
kind = \"bank\"

[[fault]]
name = \"slow\"
kind = \"latency\"
latency = \"20ms\"
jitter = \"5ms\"
at = \"200ms\"
for = \"500ms\"
";

/// A table of causes that grows row by row.
struct Table {
    text: String,
    dir: tempfile::TempDir,
}

impl Table {
    fn new() -> Self {
        Self {
            text: String::new(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Adds what the program says.
    #[expect(
        clippy::disallowed_methods,
        reason = "the program under test is a process"
    )]
    fn add(&mut self, cause: &str, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_poolproof"));
        command.args(arguments).stdin(Stdio::null());
        // Where an engine is, and which image, must not decide what is said.
        command.env("DOCKER_HOST", "unix:///no/such/docker.sock");
        for variable in [
            "POOLPROOF_DATABASE_URL",
            "POOLPROOF_POSTGRES_IMAGE",
            "PGOPTIONS",
            "PGPASSWORD",
        ] {
            command.env_remove(variable);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("s3cret"), "{cause}: {said}");
        let dir = self.dir.path().to_str().unwrap();
        // How long the name of the folder is must not decide where lines end.
        let said = ["\n        ", "\n      ", "\n  | "]
            .iter()
            .fold(said, |said, end| said.replace(end, " "));
        let said = said.replace(dir, "DIR");
        let code = output.status.code().unwrap();
        write!(self.text, "== {cause}\nexit {code}\n{}\n", said.trim_end()).unwrap();
        self.text.push('\n');
    }

    /// Adds what is said about a scenario in which `from` stands as `to`.
    fn add_scenario(&mut self, from: &str, to: &str) {
        assert_eq!(SCENARIO.matches(from).count(), 1, "{from}");
        let path = self.path("shop.toml");
        fs::write(&path, SCENARIO.replace(from, to)).unwrap();
        let out = self.path("reports");
        self.add(to, &["run", &path, "--seed", "1", "--out", &out]);
    }
}

/// A server that has a reason for each refusal.
struct Server {
    runtime: Runtime,
    cluster: Cluster,
    admin: PgConnection,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let mut config = LocalConfig::default();
        config
            .settings
            .insert("max_connections".into(), "12".into());
        let cluster = runtime.block_on(Cluster::start(config)).unwrap();
        let admin = runtime.block_on(cluster.options().connect()).unwrap();
        let mut server = Self {
            runtime,
            cluster,
            admin,
        };
        for sql in [
            "create role app login password 'pw'",
            "create role trusted login password 'pw'",
            "create role nologin",
            "create role secure login password 'pw'",
            "create role crowded login password 'pw' connection limit 0",
            "create role reader login password 'pw'",
            "alter role reader set default_transaction_read_only = on",
            "grant create on database poolproof to reader",
            "create database closed allow_connections false",
            "create database crowded connection limit 0",
            "create database hidden",
            "revoke connect on database hidden from public",
        ] {
            server.ask(sql);
        }
        server.admit(
            "host all rejected all reject\nhost all identified all ident\n\
             host all trusted,nologin,missing all trust\nhostnossl all secure all reject\n",
        );
        server
    }

    fn ask(&mut self, sql: &str) {
        let done = self.admin.execute(AssertSqlSafe(sql));
        self.runtime.block_on(done).unwrap();
    }

    /// Puts lines before those of `pg_hba.conf`.
    fn admit(&mut self, lines: &str) {
        let path = self.cluster.data_dir().join("pg_hba.conf");
        let rest = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{lines}{rest}")).unwrap();
        self.reload();
    }

    /// Has the server read its files again, and waits until new sessions follow them.
    fn reload(&mut self) {
        let options = self.cluster.options();
        self.runtime.block_on(async {
            let before = loaded(&options).await;
            self.admin.execute("select pg_reload_conf()").await.unwrap();
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
            while loaded(&options).await == before {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "it is not read again"
                );
            }
        });
    }

    /// Switches TLS on, with a certificate of this folder.
    fn secure_by(&mut self, certificate: &str) {
        let data = self.cluster.data_dir();
        let owner = fs::metadata(&data).unwrap();
        for (from, to) in [(certificate, "server.crt"), ("server.key", "server.key")] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/tls")
                .join(from);
            let to = data.join(to);
            fs::copy(from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        self.ask("alter system set ssl = on");
        self.reload();
    }

    fn url(&self, login: &str, database: &str) -> String {
        format!(
            "postgres://{login}@127.0.0.1:{}/{database}",
            self.cluster.port()
        )
    }

    /// Puts words in the place of what differs between runs and between versions of Postgres: the
    /// server's own words before its SQLSTATE.
    fn masked(&self, table: &Table) -> String {
        let text = table.text.replace(&self.cluster.port().to_string(), "PORT");
        let rows = text.split("\n\n").map(|row| {
            let Some((before, rest)) = row.split_once("`-> ") else {
                return row.to_owned();
            };
            let Some((_, after)) = rest.split_once("(SQLSTATE") else {
                return row.to_owned();
            };
            let (state, after) = after.split_once(')').unwrap();
            // A detail or a hint of the server comes before our help.
            let help = after.find("\n  help").map_or("", |at| &after[at..]);
            format!("{before}`-> … (SQLSTATE {}){help}", state.trim())
        });
        without_ids(&rows.collect::<Vec<_>>().join("\n\n"))
    }
}

/// Puts `N` in the place of run ids and of times.
fn without_ids(text: &str) -> String {
    let parts = text.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    let masked = parts.map(|part| {
        let id = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        let long = id.len() > 8 && id.contains(|c: char| c.is_ascii_digit());
        if long {
            part.replace(id, "N")
        } else {
            part.to_owned()
        }
    });
    masked.collect()
}

async fn loaded(options: &PgConnectOptions) -> String {
    let mut session = options.connect().await.unwrap();
    sqlx::query_scalar("select pg_conf_load_time()::text")
        .fetch_one(&mut session)
        .await
        .unwrap()
}

#[test]
fn a_server_that_refuses_is_answered_by_the_cause() {
    let mut server = Server::start();
    let mut table = Table::new();
    for (cause, login, database) in [
        ("a wrong password", "app:s3cret", "poolproof"),
        ("a role that is missing", "missing", "poolproof"),
        ("a role that may not log in", "nologin", "poolproof"),
        ("rejected by pg_hba.conf", "rejected", "poolproof"),
        ("logged in by other means", "identified", "poolproof"),
        ("only with TLS", "secure:pw", "poolproof?sslmode=disable"),
        ("a database that is missing", "app:pw", "nosuch"),
        ("a database that takes none", "app:pw", "closed"),
        ("a database without CONNECT", "app:pw", "hidden"),
        ("a role's own limit", "crowded:pw", "poolproof"),
        ("a database's own limit", "app:pw", "crowded"),
        (
            "an unknown setting",
            "app:pw",
            "poolproof?options=-c%20nosuch%3D1",
        ),
        (
            "a wrong value of a setting",
            "app:pw",
            "poolproof?options=-c%20work_mem%3Dx",
        ),
        (
            "a superuser's setting",
            "app:pw",
            "poolproof?options=-c%20log_statement%3Dall",
        ),
        (
            "TLS that is not there",
            "app:pw",
            "poolproof?sslmode=require",
        ),
    ] {
        table.add(cause, &["check", &server.url(login, database)]);
    }
    let path = table.path("shop.toml");
    fs::write(&path, SCENARIO).unwrap();
    let out = table.path("reports");
    for (cause, login) in [
        ("run: a read-only server", "reader:pw"),
        ("run: a role that may create nothing", "app:pw"),
        ("run: a wrong password", "app:s3cret"),
    ] {
        let url = server.url(login, "poolproof");
        table.add(
            cause,
            &["run", &path, "--quiet", "--out", &out, "--postgres", &url],
        );
    }
    server.fill();
    let url = server.url("app:pw", "poolproof");
    table.add("no connection left", &["check", &url]);
    insta::assert_snapshot!("server", server.masked(&table));
    server.stop();
}

#[test]
fn a_certificate_that_does_not_fit_is_answered_by_what_is_wrong_with_it() {
    let mut server = Server::start();
    let mut table = Table::new();
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/authority.pem");
    let authority = format!("sslrootcert={}", authority.display());
    server.secure_by("server.pem");
    server.ask("grant create on database poolproof to app");
    let url =
        |mode: &str, more: &str| server.url("app:pw", &format!("poolproof?sslmode={mode}{more}"));
    let known = format!("&{authority}");
    table.add("an unknown authority", &["check", &url("verify-ca", "")]);
    table.add("another name", &["check", &url("verify-full", &known)]);
    let renamed = format!("{known}&host=db.example&hostaddr=127.0.0.1");
    table.add(
        "a name and its address",
        &["check", &url("verify-full", &renamed)],
    );
    // What fits is not refused: the others fail for their own reasons.
    let mut fitting = Table::new();
    for mode in ["require", "verify-ca"] {
        fitting.add(mode, &["check", &url(mode, &known)]);
    }
    assert_eq!(
        fitting.text,
        "== require\nexit 0\n\n\n== verify-ca\nexit 0\n\n\n"
    );
    let url = url("verify-ca", &known);
    server.secure_by("expired.pem");
    table.add("an expired certificate", &["check", &url]);
    insta::assert_snapshot!("tls", server.masked(&table));
    server.stop();
}

impl Server {
    /// Takes every connection that an ordinary role can have.
    fn fill(&mut self) {
        let options = self.cluster.options().username("trusted");
        let taken = self.runtime.block_on(async {
            let mut taken = Vec::new();
            while let Ok(session) = options.connect().await {
                taken.push(session);
            }
            taken
        });
        std::mem::forget(taken);
    }

    fn stop(self) {
        let Self {
            runtime, cluster, ..
        } = self;
        runtime.block_on(cluster.stop()).unwrap();
    }
}

#[test]
fn a_slip_in_a_scenario_is_answered_with_what_to_write() {
    let mut table = Table::new();
    for (from, to) in [
        ("duration = \"1s\"", "duration = 10s"),
        ("duration = \"1s\"", "duration = 10"),
        ("duration = \"1s\"", "duration = \"10\""),
        ("duration = \"1s\"", "duration = \"ten\""),
        ("duration = \"1s\"", "duration = 0"),
        ("duration = \"1s\"", "duration = “1s”"),
        ("jitter = \"5ms\"", "jitter = -5"),
        ("jitter = \"5ms\"", "jitter = \"-5ms\""),
        ("jitter = \"5ms\"", "jitter = \"50ms\""),
        ("arrivals = \"uniform\"", "arrivals = uniform"),
        ("arrivals = \"uniform\"", "arrivals = \"uniforn\""),
        ("arrivals = \"uniform\"", "arrivals = 1"),
        ("pre_ping = true", "pre_ping = True"),
        ("pre_ping = true", "pre_ping = \"yes\""),
        ("rate = 50", "rate = 1,000"),
        ("rate = 50", "rate 50"),
        ("rate = 50", "rate = -1"),
        ("pool_size = 2", "pool_size = 2.5"),
        ("pool_size = 2", "poolsize = 2"),
        ("kind = \"bank\"", "kind = \"bnak\""),
        ("max_connections = 20", "Port = 5432"),
        ("max_connections = 20", "cluster_name = \"x\""),
        ("max_connections = 20", "\"max connections\" = 20"),
        ("max_connections = 20", "work_mem = \"1MB\\n\""),
        // Only the server can tell.
        ("max_connections = 20", "max_conections = 20"),
        ("max_connections = 20", "work_mem = \"much\""),
        ("max_connections = 20", "Max_Connections = 2"),
    ] {
        table.add_scenario(from, to);
    }
    insta::assert_snapshot!("scenario", table.text);
}

#[test]
fn a_url_that_cannot_be_used_is_answered_with_what_to_write() {
    let mut table = Table::new();
    let key = table.path("key.pem");
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    fs::copy(tls.join("server.key"), &key).unwrap();
    let wrong_file = format!("postgres://u@h/d?sslmode=verify-ca&sslrootcert={key}");
    for url in [
        "localhost/shop",
        "mysql://u:s3cret@h/d",
        "postgres://u@::1:6501/d",
        "postgres://u@h:port/d",
        "postgres://u@h1,h2/d",
        "postgres://u:s3#cret@h/d",
        "postgres://u:s3?cret@h/d",
        "postgres://u@h/d?sslmod=require",
        "postgres://u@h/d?frobnicate=1",
        "postgres://u@h/d?sslmode=required",
        "postgres://u@h/d?target_session_attrs=read-write",
        "postgres://u@h/d?channel_binding=require",
        "postgres://u@h/d?service=shop",
        "postgres://u@h/d?currentSchema=shop",
        "postgres://u@h/d?options=-c%20timezone%3DEurope/Berlin",
        "postgres://u@h/d?sslmode=require&sslrootcert=system",
        "postgres://u@h/d?sslmode=verify-ca&sslrootcert=/no/such.pem",
        &wrong_file,
        "postgres://u@h/d?sslcert=/no/such.pem",
    ] {
        let shown = url.replace(&key, "DIR/key.pem").replace("s3", "…");
        table.add(&shown, &["check", url]);
    }
    insta::assert_snapshot!("url", table.text);
}

#[test]
fn what_is_not_there_or_not_allowed_is_answered_by_the_cause() {
    let mut table = Table::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("postgres://u@127.0.0.1:{closed}/d");
    table.add("a closed port", &["check", &url]);
    table.add(
        "a socket that is missing",
        &["check", "postgres://u@/d?host=/no/such"],
    );
    let (stranger, thread) = stranger();
    table.add("another protocol", &["check", &stranger]);
    thread.join().unwrap();
    let path = table.path("shop.toml");
    fs::write(&path, SCENARIO).unwrap();
    let below_a_file = table.path("shop.toml/reports");
    let folder = table.path("");
    for (cause, arguments) in [
        (
            "reports below a file",
            ["run", path.as_str(), "--quiet", "--out", &below_a_file],
        ),
        (
            "reports where no folder can be",
            ["run", &path, "--quiet", "--out", "/proc/reports"],
        ),
        (
            "a folder as a scenario",
            ["run", &folder, "--quiet", "--out", "x"],
        ),
        (
            "a scenario that is missing",
            ["run", "nosuch.toml", "--quiet", "--out", "x"],
        ),
        (
            "a remote database",
            [
                "run",
                &path,
                "--quiet",
                "--postgres",
                "postgres://u@db.example/d",
            ],
        ),
        (
            "no container engine",
            ["run", &path, "--quiet", "--postgres", "docker"],
        ),
        (
            "an image without a name",
            ["run", &path, "--quiet", "--postgres", "docker:"],
        ),
        (
            "a socket for a run",
            [
                "run",
                &path,
                "--quiet",
                "--postgres",
                "postgres://u@/d?host=/tmp",
            ],
        ),
    ] {
        table.add(cause, &arguments);
    }
    let text = table.text.replace(&closed.to_string(), "PORT");
    let port = stranger.rsplit(':').next().unwrap().trim_end_matches("/d");
    insta::assert_snapshot!("place", text.replace(port, "PORT"));
}

/// Something that answers one client in HTTP.
fn stranger() -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/d", listener.local_addr().unwrap());
    let answer = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut asked = [0; 8];
        client.read_exact(&mut asked).unwrap();
        client
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    (url, answer)
}
