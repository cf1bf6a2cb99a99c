//! What a killed run leaves is removed by the next; nobody else's container is touched.
//!
//! The runs to kill are this test binary again, told to hold a container.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use poolproof_testbed::{Container, RUN_LABEL, reap};

use crate::engine::{command, config, containers_of, docker, home, is_there};

const HOME_OF_HELPER: &str = "POOLPROOF_TEST_HELPER_HOME";
const RUN_OF_HELPER: &str = "POOLPROOF_TEST_HELPER_RUN";

/// Another process that holds a container until its standard input ends.
struct Neighbour(Child);

impl Neighbour {
    fn start(home: &Path, run_id: &str) -> Self {
        let mut process = command(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "reaper::hold_a_container",
                "--ignored",
                "--nocapture",
            ])
            .env(HOME_OF_HELPER, home)
            .env(RUN_OF_HELPER, run_id)
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
            assert!(read > 0, "the helper did not start its container");
        }
        // Kept open: the helper prints once more when it ends.
        process.stdout = Some(output.into_inner());
        Self(process)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn let_go(mut self) {
        drop(self.0.stdin.take());
        let mut rest = String::new();
        let mut output = self.0.stdout.take().unwrap();
        output.read_to_string(&mut rest).unwrap();
        assert!(self.0.wait().unwrap().success(), "{rest}");
    }
}

#[test]
#[ignore = "not a test: the process that other tests start and kill"]
fn hold_a_container() {
    let Some(home) = std::env::var_os(HOME_OF_HELPER) else {
        return;
    };
    let mut config = config(&[]);
    config.run_id = std::env::var(RUN_OF_HELPER).unwrap();
    config.home = Some(home.into());
    let run_id = config.run_id.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let container = runtime.block_on(Container::start(config)).unwrap();
    println!("\nholding {run_id}");
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    runtime.block_on(container.stop()).unwrap();
}

#[test]
fn a_killed_runs_container_is_reaped_and_no_other() {
    if !is_there() {
        return;
    }
    let (_dir, home) = home();
    // Names of other runs of this test must not be found.
    let unique = config(&[]).run_id;
    let name = |what: &str| format!("{what}-{unique}");
    let (dead, live) = (name("dead"), name("live"));
    let (killed, neighbour) = (
        Neighbour::start(&home, &dead),
        Neighbour::start(&home, &live),
    );
    // Somebody else's, with the very name of the dead run.
    let label = format!("{RUN_LABEL}={dead}");
    let image = config(&[]).image.to_string();
    let password = "POSTGRES_PASSWORD=x";
    let foreign = docker(&["create", "--label", &label, "--env", password, &image]);

    let nothing = reap(Some(home.clone())).unwrap();
    assert!(nothing.removed.is_empty() && nothing.failed.is_empty());
    killed.kill();
    // The container outlives the run that was killed: this is what a reaper is for.
    assert_eq!(containers_of(&dead).len(), 2);

    let reaped = reap(Some(home.clone())).unwrap();
    assert_eq!(reaped.removed, [dead.as_str()]);
    assert!(reaped.failed.is_empty(), "{reaped:?}");
    assert_eq!(containers_of(&dead), [foreign.as_str()]);
    assert_eq!(containers_of(&live).len(), 1);
    docker(&["rm", "--force", "--volumes", &foreign]);

    neighbour.let_go();
    assert!(containers_of(&live).is_empty());
    let nothing = reap(Some(home)).unwrap();
    assert!(nothing.removed.is_empty(), "{nothing:?}");
}
