//! Several runs at once: where they stop, what they leave, and the one exit code.

use std::fs;
use std::io::Read;
use std::path::Path;

use nix::sys::signal::Signal;

use super::{CALM, left_behind, poolproof, run, scenario, send, started, told, wait_for};

/// Nothing listens there.
const CLOSED: &str = "postgres://app@127.0.0.1:1/db";

/// A scenario, and the arguments that run it with its reports and copies in `dir`.
fn arguments(dir: &Path, more: &[&str]) -> Vec<String> {
    let calm = scenario(dir, "calm.toml", CALM);
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let own = [
        "run",
        &calm,
        "--out",
        &path("out"),
        "--junit",
        &path("j.xml"),
        "--md",
        &path("r.md"),
    ];
    own.iter()
        .chain(more)
        .map(|word| (*word).to_owned())
        .collect()
}

fn run_in(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let arguments = arguments(dir, more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&arguments)
}

/// The suites of the JUnit document.
fn suites(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("j.xml")).unwrap();
    let suites = text.lines().filter(|line| line.contains("<testsuite "));
    suites.map(str::to_owned).collect()
}

fn folders(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("out/calm")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn seeds_that_pass_end_with_one_table_and_one_file_of_each_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run_in(dir.path(), &["--seed", "5", "--seeds", "2"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.starts_with("2 runs: 2 PASS\n"), "{stdout}");
    assert_eq!(
        stdout.matches("✓ PASS").count(),
        2,
        "only the table: {stdout}"
    );
    assert!(stderr.contains("seed 2 of 2 · calm"), "{stderr}");
    let folders = folders(dir.path());
    for (folder, seed) in folders.iter().zip([5, 6]) {
        assert!(
            folder.ends_with(&format!("Z-poolproof-s{seed}")),
            "{folder}"
        );
        assert!(stdout.contains(folder), "{stdout}");
        let report = dir.path().join("out/calm").join(folder).join("report.html");
        assert!(report.is_file(), "{folder}");
    }
    let suites = suites(dir.path());
    assert_eq!(suites.len(), 2);
    assert!(
        suites[0].contains("poolproof.calm.poolproof.seed-5"),
        "{suites:?}"
    );
    assert!(
        suites[1].contains("poolproof.calm.poolproof.seed-6"),
        "{suites:?}"
    );
    let md = fs::read_to_string(dir.path().join("r.md")).unwrap();
    assert!(md.starts_with("## ✓ 2 runs passed\n"), "{md}");
}

#[test]
fn seeds_end_at_the_first_that_fails_unless_told_to_keep_going() {
    for (going, ran) in [(&[][..], 1), (&["--keep-going"], 2)] {
        let dir = tempfile::tempdir().unwrap();
        let common = ["--seed", "5", "--seeds", "2", "--subject", "planted:leak"];
        let (code, stdout, stderr) = run_in(dir.path(), &[&common, going].concat());
        assert_eq!(code, 1, "{stdout}{stderr}");
        assert!(
            stdout.contains("--seed 5 --subject planted:leak\n"),
            "{stdout}"
        );
        assert!(stdout.contains("✗ FAIL  calm  planted:leak"), "{stdout}");
        assert!(
            stdout.contains(" of 2 runs: 1 FAIL\n") == (ran == 1),
            "{stdout}"
        );
        assert!(
            stdout.contains("2 runs: 2 FAIL\n") == (ran == 2),
            "{stdout}"
        );
        assert_eq!(
            stderr.contains("--keep-going runs them all"),
            ran == 1,
            "{stderr}"
        );
        assert_eq!(suites(dir.path()).len(), ran);
        let folders = folders(dir.path());
        assert_eq!(folders.len(), ran);
        assert!(folders[0].contains("-planted-leak-s5"), "{folders:?}");
    }
}

/// Goal: what could not be run is in the table and in the file, and no file of an earlier run stays.
#[test]
fn a_missing_server_ends_the_seeds_with_3_and_a_red_file() {
    let dir = tempfile::tempdir().unwrap();
    let closed = ["--postgres", CLOSED, "--seeds", "3", "--seed", "1"];
    for (going, ran) in [(&[][..], 1), (&["--keep-going"], 3)] {
        fs::write(dir.path().join("j.xml"), "<testsuite name='stale'/>").unwrap();
        let (code, stdout, stderr) = run_in(dir.path(), &[&closed, going].concat());
        assert_eq!(code, 3, "{stdout}{stderr}");
        assert_eq!(stdout.matches("! NOT RUN").count(), ran, "{stdout}");
        let suites = suites(dir.path());
        assert_eq!(suites.len(), ran);
        assert!(
            suites.iter().all(|suite| suite.contains("errors=\"1\"")),
            "{suites:?}"
        );
    }
    // One run alone leaves no stale file either.
    let (code, _, _) = run_in(dir.path(), &["--postgres", CLOSED]);
    assert_eq!(code, 3);
    assert_eq!(suites(dir.path()).len(), 1);
    assert!(!dir.path().join("out/calm").exists());
}

#[test]
fn several_files_end_with_one_table_too() {
    let dir = tempfile::tempdir().unwrap();
    let other = CALM.replace("'calm'", "'other'");
    let other = scenario(dir.path(), "other.toml", &other);
    let (code, stdout, stderr) = run_in(dir.path(), &["--postgres", CLOSED, "--seed", "4", &other]);
    assert_eq!(code, 3, "{stdout}{stderr}");
    assert!(stdout.starts_with("2 runs: 2 NOT RUN\n"), "{stdout}");
    for name in ["   calm 4  ! NOT RUN", "  other 4  ! NOT RUN"] {
        assert!(stdout.contains(name), "{stdout}");
    }
    assert_eq!(suites(dir.path()).len(), 2);
}

#[test]
fn an_interrupt_in_the_middle_of_a_seed_ends_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let junit = dir.path().join("j.xml");
    let (child, mut progress) = started(
        dir.path(),
        &[
            "--seeds",
            "3",
            "--keep-going",
            "--junit",
            junit.to_str().unwrap(),
        ],
    );
    send(&child, Signal::SIGINT);
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    let (code, stdout, _) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 130, "{stdout}{rest}");
    assert!(stdout.contains("1 of 3 runs: 1 INTERRUPTED\n"), "{stdout}");
    assert_eq!(suites(dir.path()).len(), 1);
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
}

/// Goal: a signal that comes when a run is as good as over is not lost on those that follow.
#[test]
fn an_interrupt_between_two_seeds_ends_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let (child, mut progress) = started(dir.path(), &["--seeds", "3", "--duration", "1s"]);
    wait_for(&mut progress, "look");
    send(&child, Signal::SIGINT);
    let mut rest = String::new();
    progress.read_to_string(&mut rest).unwrap();
    let (code, stdout, _) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 130, "{stdout}{rest}");
    assert!(stdout.contains(" of 3 runs: 1 "), "{stdout}");
    assert!(!rest.contains("seed 3 of 3"), "{rest}");
    assert_eq!(left_behind(dir.path()), Vec::<String>::new());
}

/// Goal: two steps of one CI job keep both summaries, and no other file grows. Method: the variable
/// names the file by another path than the argument.
#[test]
fn markdown_is_added_to_the_summary_of_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (summary, link) = (path("summary.md"), path("link.md"));
    fs::write(&summary, "written by another step").unwrap();
    std::os::unix::fs::symlink(&summary, &link).unwrap();
    let calm = scenario(dir.path(), "calm.toml", CALM);
    let in_job = |arguments: &[&str]| {
        let mut command = poolproof(arguments);
        let (code, _, stderr) = told(command.env("GITHUB_STEP_SUMMARY", &link).output().unwrap());
        assert_eq!(code, 0, "{stderr}");
    };
    let out = path("out");
    in_job(&["run", &calm, "--quiet", "--out", &out, "--md", &summary]);
    let latest = path("out/latest");
    let again = ["report", &latest, "--format", "md", "--out"];
    in_job(&[&again[..], &[&summary]].concat());
    let text = fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("written by another step\n\n## "), "{text}");
    // A heading after a blank line is one, whatever stands before it.
    assert_eq!(
        text.matches("</details>\n\n\n## ✓ PASS · calm\n").count(),
        1,
        "{text}"
    );

    let other = path("other.md");
    for _ in 0..2 {
        in_job(&[&again[..], &[&other]].concat());
    }
    let text = fs::read_to_string(&other).unwrap();
    assert_eq!(text.matches("## ✓ PASS · calm\n").count(), 1, "{text}");
}
