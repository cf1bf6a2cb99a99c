//! Finds the processes of a cluster, so that signals go to them and to nobody else.
//!
//! Where there is a `/proc`, a process belongs to a cluster when it runs a program called
//! `postgres` or `pgbouncer`, under the server's user id, with its working directory inside the run directory:
//! all processes of a server work in its data directory. Where that may not be seen (root without
//! CAP_SYS_PTRACE, as in a container) or there is no `/proc` (macOS), the command line has to do: the
//! postmaster's names the data directory, and every other process shows the cluster's name.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::process;

/// What tells a cluster's processes from all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark<'a> {
    /// The run directory, without symbolic links.
    pub(crate) run_dir: &'a Path,
    /// `cluster_name`, which servers show in the title of each process.
    pub(crate) cluster_name: &'a str,
    /// Whom the server runs as.
    pub(crate) uid: Uid,
}

/// Process ids of a cluster's living processes, in ascending order.
pub(crate) fn of(mark: Mark<'_>) -> Vec<i32> {
    let mut pids = if Path::new("/proc/self/cwd").exists() {
        from_proc(mark)
    } else {
        from_ps(mark)
    };
    pids.sort_unstable();
    pids
}

/// Sends `signal` to a cluster's processes. One that is gone by now is none to worry about.
pub(crate) fn signal_all(mark: Mark<'_>, signal: Signal) {
    for pid in of(mark) {
        signal_one(pid, signal);
    }
}

/// Sends `signal` to a process that was just found to belong to a cluster.
pub(crate) fn signal_one(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        // Whoever waits for the end of the process reports it if it stays.
        tracing::debug!(pid, %signal, %error, "a signal did not reach its process");
    }
}

/// When a process started, in the system's own words; none when there is no such process.
pub(crate) fn start_of(pid: u32) -> Option<String> {
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The second field is the program's name in brackets and may hold anything.
        let fields = stat.rsplit_once(") ")?.1;
        return fields.split_whitespace().nth(19).map(str::to_owned);
    }
    let line = ps(&["-o", "lstart=", "-p", &pid.to_string()])?;
    (!line.trim().is_empty()).then(|| line.trim().to_owned())
}

/// Names of the files in /dev/shm that a process has mapped for Postgres.
pub(crate) fn shared_files_of(pid: i32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut names: Vec<_> = maps
        .lines()
        .filter_map(|line| line.split_once("/dev/shm/"))
        .map(|(_, name)| name.trim_end_matches(" (deleted)"))
        .filter(|name| is_shared_file(name))
        .map(str::to_owned)
        .collect();
    names.dedup();
    names
}

/// Whether Postgres gives a file in /dev/shm such a name.
pub(crate) fn is_shared_file(name: &str) -> bool {
    name.strip_prefix("PostgreSQL.")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

pub(crate) fn from_proc(mark: Mark<'_>) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_of(*pid, mark).unwrap_or(false))
        .collect()
}

/// None when the process ended meanwhile.
fn is_of(pid: i32, mark: Mark<'_>) -> Option<bool> {
    let dir = Path::new("/proc").join(pid.to_string());
    if fs::metadata(&dir).ok()?.uid() != mark.uid.as_raw() {
        return Some(false);
    }
    match fs::read_link(dir.join("cwd")) {
        Ok(cwd) if cwd.starts_with(mark.run_dir) => {}
        Ok(_) => return Some(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let line = fs::read(dir.join("cmdline")).ok()?;
            return Some(shows(&String::from_utf8_lossy(&line), '\0', mark));
        }
        Err(_) => return None,
    }
    let program = fs::read_link(dir.join("exe")).ok()?;
    let name = program
        .file_name()?
        .to_str()?
        .trim_end_matches(" (deleted)");
    Some(matches!(name, "postgres" | "initdb" | "pgbouncer"))
}

pub(crate) fn from_ps(mark: Mark<'_>) -> Vec<i32> {
    // Two `w`: whole lines, however long.
    let listing = ps(&["-axww", "-o", "pid=,uid=,command="]).unwrap_or_default();
    listing
        .lines()
        .filter_map(|line| parse_ps(line, mark))
        .collect()
}

fn ps(arguments: &[&str]) -> Option<String> {
    let mut command = process::command(Path::new("/bin/ps"), None, Path::new("/"));
    command.args(arguments);
    let done = process::run(command, "", Duration::from_secs(20)).ok()?;
    done.status.success().then_some(done.output)
}

fn parse_ps(line: &str, mark: Mark<'_>) -> Option<i32> {
    let (pid, rest) = line.trim_start().split_once(char::is_whitespace)?;
    let (uid, command) = rest.trim_start().split_once(char::is_whitespace)?;
    if uid.parse::<u32>().ok()? != mark.uid.as_raw() {
        return None;
    }
    shows(command.trim_start(), ' ', mark).then(|| pid.parse().ok())?
}

/// Whether a command line, its words parted by `between`, is that of a process of the cluster.
fn shows(command: &str, between: char, mark: Mark<'_>) -> bool {
    let titled = command
        .strip_prefix("postgres: ")
        .and_then(|title| title.strip_prefix(mark.cluster_name))
        .is_some_and(|rest| rest.starts_with(": "));
    let data = mark.run_dir.join("data");
    let mut words = command.split(between);
    let program = words.next().and_then(|word| word.rsplit_once('/'));
    let is_server = program.is_some_and(|(_, name)| matches!(name, "postgres" | "initdb"));
    titled || (is_server && words.any(|word| Path::new(word) == data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ps_listing_tells_our_processes_from_others() {
        let mark = Mark {
            run_dir: Path::new("/cache/runs/r1"),
            cluster_name: "poolproof-r1",
            uid: Uid::from_raw(101),
        };
        let cases = [
            (
                "  41 101 /usr/bin/postgres -D /cache/runs/r1/data -p 1",
                Some(41),
            ),
            (" 42   101 postgres: poolproof-r1: checkpointer ", Some(42)),
            (
                "43 101 postgres: poolproof-r1: joe poolproof 127.0.0.1(1) idle",
                Some(43),
            ),
            ("44 102 postgres: poolproof-r1: checkpointer", None),
            ("45 101 postgres: poolproof-r11: checkpointer", None),
            ("46 101 /usr/bin/postgres -D /cache/runs/r11/data", None),
            ("47 101 vi /cache/runs/r1/data/postgresql.conf", None),
            ("48 101 postgres: checkpointer", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(parse_ps(line, mark), expected, "{line}");
        }
    }

    #[test]
    fn a_command_line_of_the_kernel_tells_our_processes_from_others() {
        let mark = Mark {
            run_dir: Path::new("/my cache/runs/r1"),
            cluster_name: "poolproof-r1",
            uid: Uid::from_raw(101),
        };
        for (line, expected) in [
            (
                "/usr/bin/postgres\0-D\0/my cache/runs/r1/data\0-p\x005432\0",
                true,
            ),
            ("/usr/bin/initdb\0--pgdata\0/my cache/runs/r1/data\0", true),
            ("postgres: poolproof-r1: checkpointer \0\0\0", true),
            ("postgres: poolproof-r11: checkpointer \0\0\0", false),
            ("/usr/bin/postgres\0-D\0/my cache/runs/r11/data\0", false),
            ("/usr/bin/vi\0/my cache/runs/r1/data\0", false),
            ("", false),
        ] {
            assert_eq!(shows(line, '\0', mark), expected, "{line:?}");
        }
    }

    #[test]
    fn only_names_that_postgres_gives_are_its_shared_files() {
        for (name, expected) in [
            ("PostgreSQL.1804289383", true),
            ("PostgreSQL.", false),
            ("PostgreSQL.1/../x", false),
            ("pulse-shm-1", false),
        ] {
            assert_eq!(is_shared_file(name), expected, "{name}");
        }
    }

    #[test]
    fn the_start_of_a_process_is_known_and_stays_the_same() {
        let own = start_of(std::process::id());
        assert_ne!(own, None);
        assert_eq!(own, start_of(std::process::id()));
        assert_eq!(start_of(u32::MAX), None);
    }
}
