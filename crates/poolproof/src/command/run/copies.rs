//! The files beside the reports that the command line asks for.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use poolproof_report::runs::{self, Attempt};

use super::super::CommandError;
use crate::args::{Format, RunArgs};
use crate::output;

/// The copies that were asked for: flag, format and file.
fn asked(args: &RunArgs) -> Vec<(&'static str, Format, &Path)> {
    let flags = [
        ("json", Format::Json, &args.json),
        ("junit", Format::Junit, &args.junit),
        ("md", Format::Md, &args.md),
    ];
    flags
        .into_iter()
        .filter_map(|(flag, format, path)| Some((flag, format, path.as_deref()?)))
        .collect()
}

/// Tells whether standard output is taken by a copy. What reads it wants nothing else.
pub(super) fn take_standard_output(args: &RunArgs) -> bool {
    asked(args)
        .iter()
        .any(|(_, _, path)| output::is_standard(path))
}

/// Finds out before anything is started whether the copies can be written.
///
/// `scenarios` are the files that the runs were read from: none of them is written over.
pub(super) fn check(args: &RunArgs, runs: usize, scenarios: &[&Path]) -> Result<(), CommandError> {
    if args.json.is_some() && runs > 1 {
        let flag = "json";
        return Err(CommandError::OneFileForMany { flag, runs });
    }
    let copies = asked(args);
    let mut standard = copies
        .iter()
        .filter(|(_, _, path)| output::is_standard(path));
    if let (Some((first, _, _)), Some((second, _, _))) = (standard.next(), standard.next()) {
        return Err(CommandError::TwoToStandardOutput { first, second });
    }
    let files: Vec<_> = copies
        .iter()
        .filter(|(_, _, path)| !output::is_standard(path))
        .collect();
    for (nth, (flag, _, path)) in files.iter().enumerate() {
        if scenarios.iter().any(|scenario| same_file(scenario, path)) {
            let path = (*path).to_owned();
            return Err(CommandError::OverScenario { flag, path });
        }
        let before = files[..nth]
            .iter()
            .find(|(_, _, other)| same_file(other, path));
        if let Some((first, _, _)) = before {
            return Err(CommandError::TwoToOneFile {
                first,
                second: flag,
                path: (*path).to_owned(),
            });
        }
    }
    for (flag, _, path) in copies {
        try_writing(path, &args.out).map_err(|source| CommandError::Copy {
            flag,
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Writes the copies, and returns what went wrong.
pub(super) fn write(attempts: &[Attempt], runs: usize, args: &RunArgs) -> Vec<CommandError> {
    let text = |format| match (format, attempts) {
        (Format::Junit, _) => Some(runs::junit(attempts)),
        (Format::Md, _) => Some(runs::markdown(attempts, runs)),
        (_, [Attempt::Judged { record, .. }]) => Some(poolproof_report::json(record)),
        // There is no record of a run that did not take place.
        _ => None,
    };
    asked(args)
        .into_iter()
        .filter_map(|(_, format, path)| {
            let source = output::write(path, &text(format)?).err()?;
            let path = path.to_owned();
            Some(CommandError::Write { path, source })
        })
        .collect()
}

/// Whether two paths lead to one file, be it there or not.
fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), Err(_)) => match (std::path::absolute(one), std::path::absolute(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        },
        _ => false,
    }
}

/// Finds out whether a file can be written, and leaves everything as it was. The run itself
/// makes the folder `made` and those above it.
fn try_writing(path: &Path, made: &Path) -> io::Result<()> {
    if output::is_standard(path) {
        return Ok(());
    }
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if there.is_file() => File::options().write(true).open(path).map(drop),
        // Opening a pipe would wait for its reader.
        Ok(_) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) => match File::create_new(path) {
            Ok(_) => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = std::path::absolute(path)?;
                let made = std::path::absolute(made)?;
                let comes = path.parent().is_some_and(|parent| made.starts_with(parent));
                if comes { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        },
    }
}
