//! Starts processes, always with a scrubbed environment and, when told, as another user.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::account::Account;
use crate::wait;

/// What the dynamic loader may need for a Postgres built by hand; nothing else is passed on, so
/// that no `PG*` or `LC_*` variable of the user reaches a server or `initdb`.
const PASSED_ON: [&str; 2] = ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];
/// How long a program that was just written may be busy.
const BUSY_WITHIN: Duration = Duration::from_secs(5);
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Why a process did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, or its output could not be kept.
    #[error("run it")]
    Io(#[source] io::Error),
    /// There is no place for its input and output; no other program would do better.
    #[error("make a temporary file in {} (TMPDIR)", dir.display())]
    Scratch {
        /// The directory for temporary files.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("see it end within {0:?}")]
    Deadline(Duration),
}

/// How a process ended, and what it printed on both outputs.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Prepares a command that runs as `account` (as we ourselves when none) in the directory `cwd`.
///
/// It is a process group of its own: a Ctrl-C on the terminal is ours to handle, not its.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that starts processes"
)]
pub(crate) fn command(program: &Path, account: Option<&Account>, cwd: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .current_dir(cwd)
        .process_group(0);
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(account) = account {
        // The standard library drops our supplementary groups along with the user id.
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
}

/// Runs `command` to its end, `within` at most, and gives it `input` to read.
pub(crate) fn run(
    mut command: Command,
    input: &str,
    within: Duration,
) -> Result<Finished, ProcessError> {
    // Files instead of pipes: nobody has to read them while the process writes.
    let mut stdin = scratch()?;
    let no_room = |source| no_scratch(std::env::temp_dir(), source);
    io::Write::write_all(&mut stdin, input.as_bytes()).map_err(no_room)?;
    stdin.rewind().map_err(ProcessError::Io)?;
    let mut output = scratch()?;
    let copy = |file: &File| file.try_clone().map_err(ProcessError::Io);
    command
        .stdin(stdin)
        .stdout(copy(&output)?)
        .stderr(copy(&output)?);

    let mut child = spawn(&mut command).map_err(ProcessError::Io)?;
    let status = end_of(&mut child, within)?;
    let mut text = Vec::new();
    output
        .seek(SeekFrom::Start(0))
        .and_then(|_| output.read_to_end(&mut text))
        .map_err(ProcessError::Io)?;
    Ok(Finished {
        status,
        output: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Starts a process.
///
/// A program that was just written may still be open for writing in a child that another thread
/// forked in between, until that child executes its own program: a matter of moments.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut started = None;
    wait::until(BUSY_WITHIN, || {
        let child = command.spawn();
        let busy =
            matches!(&child, Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy);
        started = Some(child);
        !busy
    });
    started.expect("bug: nothing was tried")
}

fn scratch() -> Result<File, ProcessError> {
    let dir = std::env::temp_dir();
    tempfile::tempfile_in(&dir).map_err(|source| no_scratch(dir, source))
}

fn no_scratch(dir: PathBuf, source: io::Error) -> ProcessError {
    ProcessError::Scratch { dir, source }
}

fn end_of(child: &mut Child, within: Duration) -> Result<ExitStatus, ProcessError> {
    let mut end = None;
    wait::until(within, || {
        end = child.try_wait().transpose();
        end.is_some()
    });
    if let Some(status) = end {
        return status.map_err(ProcessError::Io);
    }
    child.kill().map_err(ProcessError::Io)?;
    child.wait().map_err(ProcessError::Io)?;
    Err(ProcessError::Deadline(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_gets_its_input_and_gives_its_output() {
        let done = run(
            command(Path::new("/bin/cat"), None, Path::new("/")),
            "hello",
            Duration::from_secs(20),
        )
        .unwrap();
        assert_eq!(
            (done.status.success(), done.output.as_str()),
            (true, "hello")
        );
    }

    #[test]
    fn a_program_that_is_still_being_written_is_waited_for() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::copy("/bin/true", &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let writer = std::fs::OpenOptions::new()
            .write(true)
            .open(&program)
            .unwrap();
        let closer = std::thread::spawn(move || {
            wait::until(Duration::from_millis(100), || false);
            drop(writer);
        });
        let started = command(&program, None, Path::new("/"));
        let done = run(started, "", Duration::from_secs(20)).unwrap();
        assert!(done.status.success());
        closer.join().unwrap();
    }

    #[test]
    fn nothing_of_our_environment_is_passed_on() {
        let done = run(
            command(Path::new("/usr/bin/env"), None, Path::new("/")),
            "",
            Duration::from_secs(20),
        )
        .unwrap();
        let mut names: Vec<_> = done
            .output
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name)
            .filter(|name| !PASSED_ON.contains(name))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH", "TZ"]);
        // The test would prove nothing with an empty environment of its own.
        assert!(std::env::vars_os().count() > 3);
    }

    #[test]
    fn a_process_that_does_not_end_is_killed_at_its_deadline() {
        let mut sleep = command(Path::new("/bin/sleep"), None, Path::new("/"));
        sleep.arg("1000");
        let end = run(sleep, "", Duration::from_millis(50));
        assert!(matches!(end, Err(ProcessError::Deadline(_))), "{end:?}");
    }
}
