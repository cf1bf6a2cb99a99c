//! Where one test works: nothing of it is shared with another but the template of the cluster.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::Program;

/// Runs at a time: two cores are two runs' worth at this load.
const TURNS: u32 = 2;

static TAKEN: Mutex<u32> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

/// Three seconds of light load with a fault of each sort. Its server uses what a server can leave
/// behind: a file in /dev/shm beside the shared memory segment that each has.
const BRIEF: &str = r#"
name = "brief"
title = "A little load with two faults"

[pool]
pool_size = 3
max_overflow = 3
pool_timeout = "2s"

[postgres]
settings = { dynamic_shared_memory_type = "posix" }

[load]
rate = 60
duration = "3s"
deadline = "4s"
endings = { commit = 80, rollback = 10, panic = 3, cancel = 7 }

[[load.workload]]
kind = "bank"
[[load.workload]]
kind = "write-set"

[[fault]]
name = "slow network"
kind = "latency"
at = "500ms"
for = "700ms"
latency = "30ms"

[[fault]]
name = "silence"
kind = "silence"
at = "1800ms"
for = "400ms"
"#;

/// One of [`TURNS`].
struct Turn;

impl Turn {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap();
        let mut taken = GIVEN_BACK
            .wait_while(taken, |taken| *taken >= TURNS)
            .unwrap();
        *taken += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap() -= 1;
        GIVEN_BACK.notify_one();
    }
}

/// A directory with a home, a folder for reports and a scenario in it.
pub(crate) struct Place {
    root: TempDir,
    pub(crate) home: PathBuf,
    pub(crate) out: PathBuf,
    scenario: PathBuf,
    _turn: Turn,
}

impl Place {
    /// Waits for a turn and makes the directory. The home is there, and starts warm: the template
    /// is that of the machine's own home.
    pub(crate) fn new() -> Self {
        let place = Self::without_home();
        make_warm_home(&place.home);
        place
    }

    /// The same before the first use of the program.
    pub(crate) fn without_home() -> Self {
        let turn = Turn::take();
        let root = open_directory();
        let at = root.path().canonicalize().unwrap();
        let scenario = at.join("brief.toml");
        fs::write(&scenario, BRIEF).unwrap();
        Self {
            home: at.join("home"),
            out: at.join("out"),
            scenario,
            root,
            _turn: turn,
        }
    }

    /// Changes one passage of the scenario.
    pub(crate) fn with(self, passage: &str, other: &str) -> Self {
        assert_eq!(BRIEF.matches(passage).count(), 1, "{passage}");
        fs::write(&self.scenario, BRIEF.replace(passage, other)).unwrap();
        self
    }

    /// Has another scenario.
    pub(crate) fn with_scenario(self, text: &str) -> Self {
        fs::write(&self.scenario, text).unwrap();
        self
    }

    /// Makes the one fault of the scenario a long one in a long run, so that there is a middle of
    /// it to do something in.
    pub(crate) fn with_long_fault(self, kind: &str) -> Self {
        let head = BRIEF.split("[[fault]]").next().unwrap();
        let latency = if kind == "latency" {
            "latency = '30ms'"
        } else {
            ""
        };
        let long = head.replace("duration = \"3s\"", "duration = \"60s\"");
        let fault = format!(
            "[[fault]]\nname = 'the fault'\nkind = '{kind}'\nat = '300ms'\nfor = '55s'\n{latency}\n"
        );
        fs::write(&self.scenario, long + &fault).unwrap();
        self
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns the program with `arguments`, to be run in this place.
    #[expect(
        clippy::disallowed_methods,
        reason = "the program under test is a process"
    )]
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        self.settle(Command::new(env!("CARGO_BIN_EXE_poolproof")), arguments)
    }

    /// Returns a shell that runs `script` with mounts of its own, which go when it ends. In the
    /// script `"$@"` is the program with `arguments`.
    #[expect(
        clippy::disallowed_methods,
        reason = "mounts that only the program sees are made by a process around it"
    )]
    pub(crate) fn program_with_mounts(&self, script: &str, arguments: &[&str]) -> Command {
        let mut shell = Command::new("unshare");
        shell
            .args(["--mount", "sh", "-ec", script, "sh"])
            .arg(env!("CARGO_BIN_EXE_poolproof"));
        self.settle(shell, arguments)
    }

    /// Tells whether this user may have mounts of its own; if not, says what is not tested.
    pub(crate) fn may_mount(&self) -> bool {
        let mut shell = self.program_with_mounts("mount -t tmpfs none /mnt", &[]);
        let may = shell.output().is_ok_and(|done| done.status.success());
        if !may {
            println!("not tested: a small disk, because this user may not mount one");
        }
        may
    }

    fn settle(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .current_dir(self.root.path())
            .env("POOLPROOF_HOME", &self.home)
            .env("OUT", &self.out)
            .env_remove("POOLPROOF_DATABASE_URL")
            .env_remove("POOLPROOF_PG_BIN")
            .stdin(Stdio::null());
        command
    }

    /// Starts a run of the scenario.
    pub(crate) fn start(&self, options: &[&str]) -> Program {
        Program::start(self.program(&self.arguments(options)))
    }

    /// Returns the arguments of a run of the scenario.
    pub(crate) fn arguments<'a>(&'a self, options: &[&'a str]) -> Vec<&'a str> {
        let words = [
            "run",
            self.scenario.to_str().unwrap(),
            "--out",
            self.out.to_str().unwrap(),
            "--seed",
            "7",
        ];
        words.iter().chain(options).copied().collect()
    }

    /// Returns the record of the latest run.
    pub(crate) fn record(&self) -> Value {
        let text = fs::read_to_string(self.out.join("latest/result.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Checks that the latest run has a whole report that says that it is partial; returns why.
    pub(crate) fn partial_report(&self) -> String {
        for name in ["history.jsonl", "report.html", "report.md", "junit.xml"] {
            let text = fs::read_to_string(self.out.join("latest").join(name)).unwrap();
            assert_ne!(text, "", "{name}");
        }
        let record = self.record();
        let partial = record["run"]["partial"].as_str();
        partial
            .expect("the record says that it is partial")
            .to_owned()
    }
}

/// Makes a home whose template is that of the machine's own home.
pub(crate) fn make_warm_home(home: &Path) {
    let warm = poolproof_testbed::default_home().unwrap().join("templates");
    fs::create_dir_all(&warm).unwrap();
    fs::create_dir(home).unwrap();
    fs::set_permissions(home, Permissions::from_mode(0o755)).unwrap();
    symlink(warm, home.join("templates")).unwrap();
}

/// Makes a directory that the server's user can enter.
pub(crate) fn open_directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

impl Drop for Place {
    /// A test that failed half-way must not leave a server either.
    fn drop(&mut self) {
        if std::thread::panicking() && self.home.exists() {
            let reaped = poolproof_testbed::reap(Some(self.home.clone()));
            println!("cleaned up after a failed test: {reaped:?}");
        }
    }
}
