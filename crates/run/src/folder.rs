//! Where a run leaves what it found: `<out>/<scenario>/<utc>-<subject>-s<seed>/`,
//! and `<out>/latest`.
//!
//! The folder and the history's header are written before the load, the history right after it,
//! and the rest after judging: a crash in a later step loses nothing of an earlier one.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use poolproof_oracle::{FaultEvent, OpRecord, Sample};
use poolproof_report::Record;
use poolproof_subjects::SubjectKind;
use serde::Serialize;

use crate::RunError;
use crate::evidence::SERVER_LOG;
use crate::execute::RunOptions;

/// The identifier in the first line of `history.jsonl`.
pub const HISTORY_SCHEMA: &str = "poolproof.history/v1";

/// The first line of `history.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryHeader<'a> {
    pub(crate) schema: &'static str,
    pub(crate) run: &'a str,
    pub(crate) scenario: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) seed: u64,
    pub(crate) schedule_sha256: &'a str,
}

/// One further line of `history.jsonl`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
enum HistoryLine<'a> {
    Op(&'a OpRecord),
    Fault(&'a FaultEvent),
    Sample(&'a Sample),
}

/// A file of the report that could not be written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl From<Unwritten> for RunError {
    /// Before the load, that is: nothing took place yet.
    fn from(Unwritten { path, source }: Unwritten) -> Self {
        Self::Report { path, source }
    }
}

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct RunFolder {
    root: PathBuf,
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder, so that a full or read-only disk is found before anything is started.
    pub(crate) fn create(options: &RunOptions, now: Timestamp) -> Result<Self, RunError> {
        let parent = options.out.join(&options.scenario.name);
        fs::create_dir_all(&parent).map_err(|source| report_error(&parent, source))?;
        let name = folder_name(options.subject, options.seed, now);
        let path = first_free(&parent, &name).map_err(|source| report_error(&parent, source))?;
        let folder = Self {
            root: options.out.clone(),
            path,
        };
        // A byte that can be written tells more than permissions do.
        folder.write("history.jsonl", b"\n")?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder of a run that has nothing to report.
    pub(crate) fn discard(self) -> Result<(), RunError> {
        fs::remove_dir_all(&self.path).map_err(|source| report_error(&self.path, source))?;
        let parent = self.path.parent().map(Path::to_owned).unwrap_or_default();
        match fs::remove_dir(&parent) {
            // Other runs of the scenario are still there.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other.map_err(|source| report_error(&parent, source)),
        }
    }

    pub(crate) fn begin_history(&self, header: &HistoryHeader<'_>) -> Result<(), RunError> {
        let mut line = serde_json::to_vec(header).expect("bug: the header is plain data");
        line.push(b'\n');
        Ok(self.write("history.jsonl", &line)?)
    }

    pub(crate) fn append_history(
        &self,
        ops: &[OpRecord],
        faults: &[FaultEvent],
        samples: &[Sample],
    ) -> Result<(), Unwritten> {
        let path = self.path.join("history.jsonl");
        let written = || -> io::Result<()> {
            let file = fs::OpenOptions::new().append(true).open(&path)?;
            let mut out = BufWriter::new(file);
            let lines = ops
                .iter()
                .map(HistoryLine::Op)
                .chain(faults.iter().map(HistoryLine::Fault))
                .chain(samples.iter().map(HistoryLine::Sample));
            for line in lines {
                serde_json::to_writer(&mut out, &line)?;
                out.write_all(b"\n")?;
            }
            out.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()
        };
        written().map_err(|source| Unwritten {
            path: path.clone(),
            source,
        })
    }

    /// Writes the record in all its forms and points `latest` at this folder.
    pub(crate) fn write_reports(&self, record: &Record) -> Result<(), Unwritten> {
        self.write("result.json", poolproof_report::json(record).as_bytes())?;
        self.write("report.html", poolproof_report::html(record).as_bytes())?;
        self.write("report.md", poolproof_report::markdown(record).as_bytes())?;
        self.write("junit.xml", poolproof_report::junit(record).as_bytes())?;
        self.point_latest().map_err(|source| Unwritten {
            path: self.root.join("latest"),
            source,
        })
    }

    /// Copies the log of a server that died, before the log goes with it.
    pub(crate) fn keep_server_log(&self, log: &Path) -> io::Result<()> {
        // Read and written: a copy would keep the permissions of a file that is the server's.
        fs::write(self.path.join(SERVER_LOG), fs::read(log)?)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Unwritten> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(|source| Unwritten { path, source })
    }

    /// Replaces the link in one step, so that a reader never finds it missing.
    fn point_latest(&self) -> io::Result<()> {
        let target = self.path.strip_prefix(&self.root).unwrap_or(&self.path);
        let fresh = self.root.join(format!(".latest-{}", std::process::id()));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(target, &fresh)?;
        fs::rename(&fresh, self.root.join("latest"))
    }
}

/// Names a folder so that a list of folders tells the runs apart. The colon of a planted subject
/// would be a separator in a `PATH`, and is forbidden in what a CI keeps as an artifact.
fn folder_name(subject: SubjectKind, seed: u64, now: Timestamp) -> String {
    let subject = subject.name().replace(':', "-");
    format!("{}-{subject}-s{seed}", now.strftime("%Y%m%dT%H%M%SZ"))
}

/// Makes `<parent>/<name>`, or `<name>-2` and so on where two runs share a second.
fn first_free(parent: &Path, name: &str) -> io::Result<PathBuf> {
    const TRIES: u32 = 1_000;
    for n in 1..=TRIES {
        let path = match n {
            1 => parent.join(name),
            n => parent.join(format!("{name}-{n}")),
        };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "a thousand runs share this second",
    ))
}

fn report_error(path: &Path, source: io::Error) -> RunError {
    RunError::Report {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_subject_in_letters_that_every_file_system_knows() {
        let now: Timestamp = "2026-03-02T09:14:07.9Z".parse().unwrap();
        assert_eq!(
            folder_name(SubjectKind::Poolproof, 7, now),
            "20260302T091407Z-poolproof-s7"
        );
        for kind in SubjectKind::ALL {
            let name = folder_name(kind, u64::MAX, now);
            let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
            assert!(name.chars().all(known), "{name}");
        }
        let names = SubjectKind::ALL.map(|kind| folder_name(kind, 1, now));
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn runs_of_one_second_have_folders_of_their_own() {
        let parent = tempfile::tempdir().unwrap();
        let made: Vec<PathBuf> = (0..3)
            .map(|_| first_free(parent.path(), "now-poolproof-s7").unwrap())
            .collect();
        let names = [
            "now-poolproof-s7",
            "now-poolproof-s7-2",
            "now-poolproof-s7-3",
        ];
        assert_eq!(made, names.map(|name| parent.path().join(name)));
    }
}
