//! What a killed run leaves is removed by the next; a living neighbour is not touched.
//!
//! The runs to kill are this test binary again, told by an argument to hold a cluster.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use poolproof_testbed::{Admin, Cluster, LocalConfig, reap};

use crate::traces::{self, Traces};

const HOME_OF_HELPER: &str = "POOLPROOF_TEST_HELPER_HOME";
const RUN_OF_HELPER: &str = "POOLPROOF_TEST_HELPER_RUN";
const SETTING_OF_HELPER: &str = "POOLPROOF_TEST_HELPER_DSM";

/// Another process that holds a cluster until its standard input ends.
struct Neighbour {
    process: Child,
    output: BufReader<ChildStdout>,
    run_dir: PathBuf,
}

impl Neighbour {
    fn start(home: &Path, run_id: &str, dsm: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::start_with(command(&program), home, run_id, dsm)
    }

    fn start_with(mut command: Command, home: &Path, run_id: &str, dsm: &str) -> Self {
        let mut process = command
            .args([
                "--exact",
                "reaper::hold_a_cluster",
                "--ignored",
                "--nocapture",
            ])
            .env(HOME_OF_HELPER, home)
            .env(RUN_OF_HELPER, run_id)
            .env(SETTING_OF_HELPER, dsm)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let ready = format!("holding {run_id}\n");
        let mut line = String::new();
        while !line.ends_with(&ready) {
            line.clear();
            let read = output.read_line(&mut line).unwrap();
            assert!(read > 0, "the helper did not start its cluster");
        }
        Self {
            process,
            output,
            run_dir: home.join("runs").join(run_id),
        }
    }

    fn kill(mut self) -> PathBuf {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.run_dir
    }

    fn let_go(mut self) {
        drop(self.process.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.process.wait().unwrap().success(), "{rest}");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the processes to kill are started here"
)]
fn command(program: &Path) -> Command {
    Command::new(program)
}

#[test]
#[ignore = "not a test: the process that other tests start and kill"]
fn hold_a_cluster() {
    let Ok(home) = std::env::var(HOME_OF_HELPER) else {
        return;
    };
    let mut config = LocalConfig {
        run_id: std::env::var(RUN_OF_HELPER).unwrap(),
        home: Some(home.into()),
        ..LocalConfig::default()
    };
    config.settings.insert(
        "dynamic_shared_memory_type".into(),
        std::env::var(SETTING_OF_HELPER).unwrap(),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::start(config)).unwrap();
    let mut admin = runtime.block_on(Admin::connect(cluster.options())).unwrap();
    runtime.block_on(admin.server_info()).unwrap();
    println!("\nholding {}", cluster.run_id());
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    drop(admin);
    runtime.block_on(cluster.stop()).unwrap();
}

/// A home of its own: in the common one a neighbour test might reap what this one has planted.
fn home() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = dir.path().canonicalize().unwrap().join("home");
    (dir, home)
}

#[test]
fn a_killed_run_is_reaped_and_a_living_one_is_not() {
    let (_dir, home) = home();
    let dead = Neighbour::start(&home, "dead", "posix");
    let live = Neighbour::start(&home, "live", "mmap");
    let (dead_traces, live_traces) = (Traces::at(&dead.run_dir), Traces::at(&live.run_dir));
    dead_traces.assert_present();
    live_traces.assert_present();
    assert!(dead_traces.shared_files().len() > 1, "{dead_traces:?}");

    let nothing = reap(Some(home.clone())).unwrap();
    assert!(
        nothing.removed.is_empty() && nothing.failed.is_empty(),
        "{nothing:?}"
    );
    dead.kill();
    // The server outlives the run that was killed: this is what a reaper is for.
    dead_traces.assert_present();

    let reaped = reap(Some(home.clone())).unwrap();
    assert_eq!(reaped.removed, ["dead"]);
    assert!(reaped.failed.is_empty(), "{reaped:?}");
    dead_traces.assert_gone();
    live_traces.assert_present();

    live.let_go();
    live_traces.assert_gone();
    let nothing = reap(Some(home)).unwrap();
    assert!(nothing.removed.is_empty(), "{nothing:?}");
}

/// A killed postmaster frees nothing: its segment, its file in /dev/shm and its lock file stay.
#[test]
fn what_a_killed_postmaster_leaves_is_reaped_too() {
    let (_dir, home) = home();
    let dead = Neighbour::start(&home, "dead", "posix");
    let found = Traces::at(&dead.run_dir);
    let run_dir = dead.kill();
    traces::signal(found.postmaster(), Signal::SIGKILL);
    traces::eventually("the backends to follow their postmaster", || {
        traces::processes_in(&run_dir).is_empty()
    });
    assert!(found.has_segment());
    // The segment that lists the others, and the statistics.
    assert!(found.shared_files().len() > 1, "{found:?}");
    assert!(found.shared_files().iter().all(|file| file.exists()));

    let reaped = reap(Some(home)).unwrap();
    assert_eq!(reaped.removed, ["dead"]);
    found.assert_gone();
}

/// A backend in a long query does not notice that its postmaster died.
#[tokio::test]
async fn orphans_of_a_killed_postmaster_are_ended() {
    let (_dir, home) = home();
    let config = LocalConfig {
        home: Some(home.clone()),
        ..LocalConfig::default()
    };
    let cluster = Cluster::start(config).await.unwrap();
    let found = Traces::of(&cluster);
    let run_dir = traces::run_dir(&cluster);
    // Stopped, they cannot notice it either.
    let mut orphans = Vec::new();
    // Until all are stopped: the backend of the first query may just be ending.
    traces::eventually("all children to be stopped", || {
        orphans = traces::processes_in(&run_dir);
        orphans.retain(|pid| u32::try_from(*pid).unwrap() != found.postmaster());
        orphans.iter().all(|pid| {
            let stopped = kill(Pid::from_raw(*pid), Signal::SIGSTOP).is_ok();
            stopped && traces::state_of(*pid) == Some('T')
        })
    });
    assert!(orphans.len() > 2);
    traces::signal(found.postmaster(), Signal::SIGKILL);
    traces::eventually("the postmaster to die", || !cluster.is_running());
    for orphan in orphans {
        assert!(traces::processes_in(&run_dir).contains(&orphan));
    }
    cluster.stop().await.unwrap();
    found.assert_gone();
}

#[tokio::test]
async fn a_start_reaps_before_it_starts() {
    let (_dir, home) = home();
    let dead = Neighbour::start(&home, "same-name", "mmap");
    let found = Traces::at(&dead.run_dir);
    dead.kill();
    let cluster = Cluster::start(LocalConfig {
        run_id: "same-name".into(),
        home: Some(home),
        ..LocalConfig::default()
    })
    .await
    .unwrap();
    assert!(traces::processes_in(&traces::run_dir(&cluster)).len() > 3);
    assert_ne!(cluster.postmaster_pid(), found.postmaster());
    assert!(!found.has_segment());
    cluster.stop().await.unwrap();
}

/// Run by root, the other tests show root's way. Run by anybody else, all of them show this one.
#[test]
fn an_ordinary_user_runs_a_cluster_as_itself() {
    if !Uid::effective().is_root() {
        return;
    }
    let user = User::from_name("nobody").unwrap().unwrap();
    let (dir, home) = home();
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    // The build directory may lie below a private home.
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = command(&program);
    command
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .current_dir("/")
        .env("PGDATA", "/nonexistent")
        .env("PGPORT", "1")
        .env("LC_ALL", "nowhere");
    let neighbour = Neighbour::start_with(command, &home, "plain", "mmap");
    let found = Traces::at(&neighbour.run_dir);
    found.assert_present();
    let process = format!("/proc/{}", found.postmaster());
    let owner = std::fs::metadata(process).unwrap().uid();
    assert_eq!(owner, user.uid.as_raw());

    neighbour.let_go();
    found.assert_gone();
}
