//! What a run needs is not there: exit code 3, the cause, and the remedy.

use std::fs;

use crate::place::Place;
use crate::program::Program;
use crate::traces::assert_nothing_left;

#[test]
fn a_wrong_place_for_postgres_is_named() {
    let place = Place::without_home();
    let empty = place.root().join("empty");
    fs::create_dir(&empty).unwrap();
    for (bin, cause) in [
        ("/nonexistent/bin", "it has no postgres"),
        (empty.to_str().unwrap(), "it has no postgres"),
    ] {
        let mut command = place.program(&place.arguments(&[]));
        command.env("POOLPROOF_PG_BIN", bin);
        let ended = Program::start(command).end().expect(3);
        ended.says(&[
            "the local Postgres did not start",
            bin,
            cause,
            "correct or unset POOLPROOF_PG_BIN",
        ]);
        assert_nothing_left(&place);
        assert!(!place.out.join("latest").exists(), "{ended}");
    }
}

/// Method: the places where Postgres may be are hidden behind empty mounts, and the place to
/// download from is a closed port.
#[test]
fn without_any_postgres_it_says_what_to_install() {
    let place = Place::without_home();
    if !place.may_mount() {
        return;
    }
    let hide = "for place in /usr/lib/postgresql /usr/pgsql-* /home/linuxbrew; do \
                    test ! -d $place || mount -t tmpfs none $place; \
                done; \
                PATH=/nonexistent; exec \"$@\"";
    let mut command = place.program_with_mounts(hide, &place.arguments(&[]));
    let url = "http://127.0.0.1:1/{version}-{target}.tar.gz";
    command.env("POOLPROOF_PG_DOWNLOAD_URL", url);
    let ended = Program::start(command).end().expect(3);
    ended.says(&[
        "the local Postgres did not start",
        "find a Postgres server on this machine",
        "http://127.0.0.1:1/",
        "install",
        "POOLPROOF_PG_BIN",
    ]);
    assert_nothing_left(&place);
}

#[test]
fn a_full_disk_for_reports_is_found_before_anything_starts() {
    let place = Place::without_home();
    if !place.may_mount() {
        return;
    }
    let full = r#"
        mkdir "$OUT"; mount -t tmpfs -o size=64k none "$OUT"
        dd if=/dev/zero of="$OUT/filler" bs=4k 2>&- || true
        exec "$@""#;
    let command = place.program_with_mounts(full, &place.arguments(&[]));
    let ended = Program::start(command).end().expect(3);
    ended.says(&[
        "the report could not be written",
        place.out.to_str().unwrap(),
        "No space left on device",
        "free some space, or choose another folder with --out",
    ]);
    assert!(!place.home.exists(), "{ended}");
    assert_nothing_left(&place);
}

#[test]
fn a_disk_that_fills_up_with_the_report_leaves_what_was_written() {
    let place = Place::new();
    if !place.may_mount() {
        return;
    }
    let small = r#"
        mkdir "$OUT"; mount -t tmpfs -o size=32k none "$OUT"
        "$@" && code=0 || code=$?
        head -c 60 "$OUT"/brief/*/history.jsonl
        exit $code"#;
    let command = place.program_with_mounts(small, &place.arguments(&[]));
    let ended = Program::start(command).end().expect(3);
    ended.says(&[
        "the scenario brief was run, but its report could not be written",
        place.out.to_str().unwrap(),
        "No space left on device",
        "free some space, or choose another folder with --out",
        "nothing left",
    ]);
    assert!(ended.stdout.contains("poolproof.history/v1"), "{ended}");
    assert_nothing_left(&place);
}

#[test]
fn a_disk_too_small_for_the_template_is_named() {
    let place = Place::without_home();
    if !place.may_mount() {
        return;
    }
    let small = r#"
        mkdir "$POOLPROOF_HOME"; mount -t tmpfs -o size=8m,mode=755 none "$POOLPROOF_HOME"
        "$@" && code=0 || code=$?
        ls -A "$POOLPROOF_HOME"/templates "$POOLPROOF_HOME"/runs
        exit $code"#;
    too_small(&place, small);
}

#[test]
fn a_disk_too_small_for_the_cluster_is_named() {
    let place = Place::new();
    if !place.may_mount() {
        return;
    }
    let small = r#"
        mkdir "$POOLPROOF_HOME"/runs
        mount -t tmpfs -o size=8m,mode=755 none "$POOLPROOF_HOME"/runs
        "$@" && code=0 || code=$?
        ls -A "$POOLPROOF_HOME"/runs
        exit $code"#;
    too_small(&place, small);
}

fn too_small(place: &Place, script: &str) {
    let command = place.program_with_mounts(script, &place.arguments(&[]));
    let ended = Program::start(command).end().expect(3);
    ended.says(&[
        "the local Postgres did not start",
        "no space left in",
        place.home.to_str().unwrap(),
        "set POOLPROOF_HOME to a directory on another disk",
    ]);
    // Locks may stay; a data directory, whole or half, may not.
    let left = ended
        .stdout
        .lines()
        .filter(|name| !name.is_empty() && !name.ends_with(".lock") && !name.ends_with(':'));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<&str>::new());
    assert_nothing_left(place);
}
