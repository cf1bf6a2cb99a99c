//! The program as its users meet it: exit codes, streams, and what it never says.

#![expect(clippy::unwrap_used, reason = "a broken set-up fails the test")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[path = "cli/completion.rs"]
mod completion;
#[path = "cli/load.rs"]
mod load;
#[path = "cli/seeds.rs"]
mod seeds;

const QUICKSTART: &str = include_str!("../../../scenarios/quickstart.toml");

/// A second of light load and nothing that breaks.
/// So few operations need many that check their connection: with a tenth of them none does now and then.
const CALM: &str = "name = 'calm'\n[pool]\npool_timeout = '2s'\n\
                    [load]\nrate = 50\nduration = '1s'\nclean_checks = 0.5\n\
                    [[load.workload]]\nkind = 'bank'\n";

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test is a process"
)]
fn poolproof(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolproof"));
    command
        .args(arguments)
        .env_remove("POOLPROOF_DATABASE_URL")
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    told(poolproof(arguments).output().unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().expect("it exits by itself"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn scenario(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn mistakes_of_the_user_exit_with_2_and_start_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("reports");
    let out = out.to_str().unwrap();
    let misspelt = QUICKSTART.replace("pool_size", "pool_sise");
    let misspelt = scenario(dir.path(), "misspelt.toml", &misspelt);
    let good = scenario(dir.path(), "good.toml", QUICKSTART);
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let endless = scenario(dir.path(), "endless.toml", &"# no end\n".repeat(120_000));
    let folder = dir.path().to_str().unwrap();
    let astray = dir.path().join("nosuch/r.json");
    let astray = astray.to_str().unwrap();
    let remote = "postgres://app:s3cret@db.example.com/shop";
    #[rustfmt::skip]
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: poolproof <COMMAND>"),
        (&["demmo"], "a similar subcommand exists: 'demo'"),
        (&["run"], "required arguments were not provided"),
        (&["run", "nosuch.toml"], "nosuch.toml cannot be read"),
        (&["run", &misspelt, "--out", out], "did you mean `pool_size`?"),
        (&["run", &good, &misspelt, "--out", out], "did you mean `pool_size`?"),
        (&["run", &good, &good, "--json", "x.json", "--out", out], "--json names one file for one record, and there are 2 runs"),
        (&["demo", "--seeds", "2", "--json", "x.json", "--out", out], "there are 2 runs"),
        (&["demo", "--seeds", "0", "--out", out], "0 is not in 1..=10000"),
        (&["run", "postgres://app:s3cret@127.0.0.1/db"], "a database URL stands in the place of a scenario file"),
        (&["demo", "--postgres", remote, "--out", out], "db.example.com is not this machine"),
        (&["demo", "--postgres", remote, "--out", out, "--allow-remote"], "--confirm-database"),
        (&["demo", "--postgres", remote, "--out", out, "--allow-remote", "--confirm-database", "shopp"], "\"shopp\""),
        (&["demo", "--postgres", "mysql://app:s3cret@127.0.0.1/db", "--out", out], "the scheme `mysql` is not postgres"),
        (&["demo", "--postgres", "env", "--out", out], "POOLPROOF_DATABASE_URL is not set"),
        (&["demo", "postgres://app:s3cret@127.0.0.1/db"], "unexpected argument"),
        (&["demo", "--subject", "planted:leek"], "a similar value exists: 'planted:leak'"),
        (&["demo", "--duration", "20"], "did you mean \"20s\"?"),
        (&["demo", "--duration", "0s"], "must be longer than nothing"),
        (&["demo", "--duration", "700h", "--out", out], "choose a shorter --duration"),
        (&["demo", "--json", "-", "--md", "-", "--out", out], "json and md cannot both go to standard output"),
        (&["demo", "--json", astray, "--out", out], "nosuch/r.json of --json cannot be written"),
        (&["demo", "--junit", "/proc/nowhere/j.xml", "--out", out], "/proc/nowhere/j.xml of --junit cannot be written"),
        (&["demo", "--md", folder, "--out", out], "is a directory"),
        (&["run", &endless, "--out", out], "endless.toml is longer than a scenario can be"),
        (&["demo", "--duration", "1ms", "--out", out], "--duration 5s"),
        // Its last fault would leave 600 ms, in which no recovery can be seen.
        (&["demo", "--duration", "3s", "--out", out], "--duration 5s"),
        (&["run", &calm, "--duration", "1ms", "--out", out], "no operation would arrive within 1ms"),
        (&["check"], "POOLPROOF_DATABASE_URL is not set"),
        (&["report", &good], "holds no record of a run"),
        (&["report", "nosuch.json"], "nosuch.json cannot be read"),
    ];
    for (arguments, said) in cases {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
        assert!(!stderr.contains("s3cret"), "{arguments:?}: {stderr}");
        assert!(!Path::new(out).exists(), "{arguments:?} started something");
    }
}

/// Whatever a user has set for `psql`, and what it would do to a private server or to its connections.
const FOREIGN: &[(&str, &str)] = &[
    (
        "PGOPTIONS",
        "-c statement_timeout=1 -c default_transaction_read_only=on",
    ),
    ("PGHOST", "nowhere.invalid"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "1"),
    ("PGUSER", "nobody-at-all"),
    ("PGPASSWORD", "s3cret"),
    ("PGDATABASE", "nosuch"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/no/such.pem"),
    ("PGSSLCERT", "/no/such.pem"),
    ("PGAPPNAME", "poolproof-admin"),
    ("PGSERVICE", "nosuch"),
    ("PGTZ", "Nowhere/At_All"),
    ("PGDATESTYLE", "nonsense"),
    ("PGCLIENTENCODING", "nonsense"),
    ("PGDATA", "/no/such"),
    ("PGTARGETSESSIONATTRS", "standby"),
    ("LC_ALL", "tlh_KX.UTF-8"),
    ("LC_MESSAGES", "tlh_KX.UTF-8"),
    ("TZ", "Nowhere/At_All"),
];

#[test]
fn a_private_server_does_not_listen_to_the_users_environment() {
    let dir = tempfile::tempdir().unwrap();
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let out = dir.path().join("reports");
    let mut command = poolproof(&["run", &calm, "--out", out.to_str().unwrap()]);
    command.envs(FOREIGN.iter().copied());
    let (code, _, stderr) = told(command.output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("PGOPTIONS is not used"), "{stderr}");
}

/// The capabilities that containers have, without those of another user's processes and memory.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test is a process"
)]
fn root_without_its_strongest_capabilities_stops_its_server_cleanly() {
    if !nix::unistd::Uid::effective().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        println!("not tested: this needs root and setpriv");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let out = dir.path().join("reports");
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .arg("--bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid")
        .args([env!("CARGO_BIN_EXE_poolproof"), "run", &calm, "--out"])
        .arg(&out)
        .stdin(Stdio::null());
    let (code, _, stderr) = told(command.output().unwrap());
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("nothing left"), "{stderr}");
}

#[test]
fn a_scenario_comes_from_standard_input_too() {
    let mut child = poolproof(&["run", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"nmae = 'x'").unwrap();
    drop(stdin);
    let (code, _, stderr) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 2);
    assert!(stderr.contains("standard input:1:1"), "{stderr}");
    assert!(stderr.contains("did you mean `name`?"), "{stderr}");
}

#[test]
fn a_closed_port_exits_with_3_and_the_remedy() {
    let url = "postgres://app:s3cret@127.0.0.1:1/db";
    let from_env = poolproof(&["check"])
        .env("POOLPROOF_DATABASE_URL", url)
        .output()
        .unwrap();
    for (code, stdout, stderr) in [run(&["check", url]), told(from_env)] {
        assert_eq!(code, 3, "{stderr}");
        assert_eq!(stdout, "");
        assert!(stderr.contains("nothing listens there"), "{stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
}

#[test]
fn an_address_in_use_exits_with_3_and_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = run(&["proxy", "--listen", &address]);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("something listens there already"),
        "{stderr}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_exits_with_3_before_anything_starts() {
    let (code, stdout, stderr) = run(&["demo", "--quiet", "--out", "/proc/nowhere"]);
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    assert!(stderr.contains("/proc/nowhere"), "{stderr}");
}

#[test]
fn the_proxy_serves_toxiproxys_api_until_it_is_told_to_end() {
    let mut child = poolproof(&["proxy", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().rsplit('/').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"version\": \"2.12.0\"}\n"), "{answer}");
    send(&child, Signal::SIGTERM);
    let (code, _, stderr) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn the_schema_is_json_and_names_its_version() {
    let (code, stdout, _) = run(&["schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(schema["$schema"].is_string(), "{schema}");
    assert!(schema["properties"]["verdict"].is_object(), "{schema}");
    assert_eq!(run(&["schema", "result"]).1, stdout);
}

#[test]
fn the_schema_of_scenarios_is_json_and_names_its_version() {
    let (code, stdout, stderr) = run(&["schema", "scenario"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let schema: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(schema["$id"], "urn:poolproof:schema:scenario:v1");
    let rate = &schema["properties"]["load"]["properties"]["rate"];
    assert_eq!(rate["exclusiveMinimum"], 0, "{rate}");
}

#[test]
fn completions_know_commands_and_subjects() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, stderr) = run(&["completions", shell]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        for word in ["doctor", "--confirm-database", "poolproof"] {
            let word = word.trim_start_matches("--");
            assert!(stdout.contains(word), "{shell} lacks {word}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = poolproof(&["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let (code, _, stderr) = told(child.wait_with_output().unwrap());
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn doctor_says_how_each_thing_is_in_words() {
    let (code, stdout, stderr) = run(&["doctor"]);
    assert!(matches!(code, 0 | 3), "{stderr}");
    for topic in ["postgres", "privileges", "loopback", "cache", "docker"] {
        let line = stdout.lines().find(|line| line.contains(topic)).unwrap();
        let state = line.split_whitespace().nth(1).unwrap();
        assert!(matches!(state, "ok" | "absent" | "missing"), "{line}");
    }
    assert!(!stdout.contains('\u{1b}'), "colour without a terminal");
}

/// Goal: what a run leaves and says, from end to end. Method: a second of light load on a private
/// server, then the record rendered again.
#[test]
fn a_calm_run_passes_and_leaves_its_reports() {
    let dir = tempfile::tempdir().unwrap();
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // The folder of the first does not exist before the run makes it.
    let (out, json, junit, md) = (path("out"), path("out/r.json"), path("j.xml"), path("r.md"));
    let (code, stdout, stderr) = run(&[
        "run", &calm, "--quiet", "--seed", "5", "--out", &out, "--json", &json, "--junit", &junit,
        "--md", &md,
    ]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.starts_with("✓ PASS"), "{stdout}");
    assert!(
        stdout.lines().count() <= 12,
        "a calm run needs no more: {stdout}"
    );
    assert!(
        stdout.contains(&format!("poolproof run {calm} --seed 5")),
        "{stdout}"
    );

    let latest = path("out/latest");
    for name in [
        "result.json",
        "history.jsonl",
        "report.html",
        "report.md",
        "junit.xml",
    ] {
        assert!(Path::new(&latest).join(name).is_file(), "{name}");
    }
    let record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(record["run"]["seed"], 5);
    assert!(fs::read_to_string(&junit).unwrap().contains("<testsuites"));
    assert!(fs::read_to_string(&md).unwrap().contains("calm"));

    let (code, again, _) = run(&["report", &latest]);
    assert_eq!((code, again), (0, stdout));
    let page = path("page.html");
    let (code, _, _) = run(&["report", &json, "--format", "html", "--out", &page]);
    assert_eq!(code, 0);
    assert!(
        fs::read_to_string(&page)
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
}

#[test]
fn standard_output_can_be_the_record_alone() {
    let dir = tempfile::tempdir().unwrap();
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let out = dir.path().join("out");
    let (code, stdout, stderr) =
        run(&["run", &calm, "--json", "-", "--out", out.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    let record: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(record["schema"], "poolproof.result/v1");
    assert!(stderr.contains("✓ PASS"), "{stderr}");
}

/// Goal: what CI goes by survives a copy that cannot be written. Method: a pool with a planted
/// bug, and a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn no_copy_is_written_over_a_scenario_or_another_copy() {
    let dir = tempfile::tempdir().unwrap();
    let file = scenario(dir.path(), "calm.toml", CALM);
    let other = dir.path().join("copy");
    let other = other.to_str().unwrap();
    let around = format!("{}/./calm.toml", dir.path().display());
    for copies in [
        &["--md", &file][..],
        &["--json", &around],
        &["--junit", &file],
        &["--md", other, "--junit", other],
    ] {
        let (code, _, stderr) = run(&[&["run", &file], copies].concat());
        assert_eq!(code, 2, "{copies:?}: {stderr}");
        assert!(stderr.contains("nothing was started"), "{stderr}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), CALM);
    assert!(!Path::new(other).exists());
}

/// Goal: a password in the wrong place is not repeated.
#[test]
fn a_url_in_the_wrong_place_is_shown_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = scenario(dir.path(), "calm.toml", CALM);
    let url = "postgres://u:hunter2secret@127.0.0.1:1/shop";
    for arguments in [
        &["report", url][..],
        &["run", url],
        &["run", "u:hunter2secret@127.0.0.1/shop"],
        &["run", "host=127.0.0.1 password=hunter2secret"],
        &["run", &file, "--json", url],
        &["run", &file, "--junit", url],
        &["run", &file, "--subject", url],
        &[
            "check",
            "postgres://127.0.0.1:1/shop?sslmod=a&password=hunter2secret",
        ],
        &[
            "run",
            &file,
            "--allow-remote",
            "--confirm-database",
            url,
            "--postgres",
            "postgres://u@127.0.0.1:1/shop",
        ],
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_ne!(code, 0, "{arguments:?}");
        let told = format!("{stdout}{stderr}");
        assert!(!told.contains("hunter2secret"), "{arguments:?}: {told}");
    }
}

#[test]
fn a_copy_that_cannot_be_written_does_not_hide_a_failed_guarantee() {
    let dir = tempfile::tempdir().unwrap();
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    let full = ["--json", "/dev/full", "--out", out, "--quiet"];
    for (subject, expected, verdict) in [("planted:leak", 1, "✗ FAIL"), ("poolproof", 3, "✓ PASS")]
    {
        let arguments = [&["run", &calm, "--subject", subject], &full[..]].concat();
        let (code, stdout, stderr) = run(&arguments);
        assert_eq!(code, expected, "{stdout}{stderr}");
        assert!(stdout.starts_with(verdict), "{stdout}");
        assert!(stderr.contains("/dev/full cannot be written"), "{stderr}");
    }
}

/// Goal: a report that cannot be written costs neither the verdict nor its exit code. Method: a
/// folder stands where the link `latest` belongs, which is written last.
#[test]
fn a_run_without_a_report_still_tells_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let (out, copy) = (dir.path().join("out"), dir.path().join("out/r.json"));
    fs::create_dir_all(out.join("latest/in the way")).unwrap();
    let (out, copy) = (out.to_str().unwrap(), copy.to_str().unwrap());
    let common = ["--out", out, "--json", copy];
    for (subject, expected, verdict) in [("planted:leak", 1, "✗ FAIL"), ("poolproof", 3, "✓ PASS")]
    {
        let (code, stdout, stderr) =
            run(&[&["run", &calm, "--subject", subject], &common[..]].concat());
        assert_eq!(code, expected, "{stdout}{stderr}");
        assert!(stdout.starts_with(verdict), "{stdout}");
        let said = "the scenario calm was run, but its report could not be written";
        assert!(stderr.contains(said), "{stderr}");
        assert!(stderr.contains("out/latest"), "{stderr}");
        assert!(!stderr.contains("report.html"), "{stderr}");
        let record = fs::read_to_string(copy).unwrap();
        assert!(record.contains("poolproof.result/v1"), "{record}");
    }
}

#[test]
fn of_many_problems_in_a_scenario_the_first_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let broken = scenario(dir.path(), "broken.toml", &"a = 1\n".repeat(80_000));
    let (code, stdout, stderr) = run(&["run", &broken]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert_eq!(stderr.matches("duplicate key").count(), 20);
    let end = "\nand 79979 more\n\n79999 problems in ";
    assert!(stderr.contains(end), "{}", &stderr[stderr.len() - 300..]);
}

/// Goal: doctor finds what would end a run. Method: a home that the server's user cannot reach,
/// which only root can have.
#[test]
fn doctor_finds_a_home_that_the_servers_user_may_not_enter() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("not tested: only root's servers run as another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    let home = dir.path().join("home");
    let doctor = poolproof(&["doctor"]).env("POOLPROOF_HOME", &home).output();
    let (code, stdout, _) = told(doctor.unwrap());
    assert_eq!(code, 3, "{stdout}");
    let line = stdout.lines().find(|line| line.contains("cache")).unwrap();
    assert!(line.starts_with("✗ missing"), "{line}");
    assert!(line.contains("may not enter"), "{line}");
    assert!(!home.exists(), "nothing is made");
}

/// Goal: the place for temporary files is what is blamed where it is missing, by doctor and by a
/// run, and neither asks the network for a Postgres.
#[test]
fn a_missing_place_for_temporary_files_is_named_as_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let nowhere = dir.path().join("nowhere");
    let in_nowhere = |arguments: &[&str]| {
        let mut command = poolproof(arguments);
        command
            .env("TMPDIR", &nowhere)
            .env("POOLPROOF_HOME", dir.path().join("home"))
            .env("POOLPROOF_PG_DOWNLOAD_URL", "http://127.0.0.1:1/asked");
        told(command.output().unwrap())
    };
    let (code, stdout, _) = in_nowhere(&["doctor"]);
    assert_eq!(code, 3, "{stdout}");
    let line = |topic| stdout.lines().find(|line| line.contains(topic)).unwrap();
    let line = (line("temporary"), line("postgres"));
    assert!(line.0.starts_with("✗ missing"), "{stdout}");
    assert!(line.1.contains("TMPDIR"), "{stdout}");
    assert!(!stdout.contains("install"), "{stdout}");

    let out = dir.path().join("out");
    let (code, _, stderr) = in_nowhere(&["demo", "--quiet", "--out", out.to_str().unwrap()]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("TMPDIR"), "{stderr}");
    assert!(!stderr.contains("127.0.0.1:1"), "{stderr}");
}

/// Starts a run of five minutes with a home of its own and waits until the load is on.
fn started(dir: &Path, more: &[&str]) -> (Child, BufReader<ChildStderr>) {
    // The server's unprivileged user passes through here on its way to its data.
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    let long = scenario(dir, "long.toml", &CALM.replace("'1s'", "'5m'"));
    let out = dir.join("out");
    let mut child = poolproof(&["run", &long, "--out", out.to_str().unwrap()])
        .args(more)
        .env("POOLPROOF_HOME", dir.join("home"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut progress, "prepare");
    (child, progress)
}

fn wait_for(progress: &mut BufReader<ChildStderr>, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(progress.read_line(&mut line).unwrap(), 0, "it ended early");
    }
}

/// What a run left of its server: nothing but the lock that all runs share.
fn left_behind(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("home/runs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn an_interrupted_run_reports_what_it_has_and_exits_with_130() {
    let dir = tempfile::tempdir().unwrap();
    let (child, mut progress) = started(dir.path(), &[]);
    assert_eq!(left_behind(dir.path()).len(), 1, "one server runs");
    send(&child, Signal::SIGINT);
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    let (code, stdout, _) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 130, "{stdout}{rest}");
    let record = fs::read_to_string(dir.path().join("out/latest/result.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let partial = record["run"]["partial"].as_str().unwrap_or_default();
    assert!(partial.contains("interrupted"), "{}", record["run"]);
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
}

#[test]
fn a_second_signal_still_stops_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let (child, mut progress) = started(dir.path(), &[]);
    send(&child, Signal::SIGTERM);
    wait_for(&mut progress, "interrupted");
    send(&child, Signal::SIGINT);
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    let (code, stdout, _) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 130, "{stdout}{rest}");
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}
