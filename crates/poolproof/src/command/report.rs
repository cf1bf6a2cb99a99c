//! `poolproof report`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use poolproof_report::{Color, Record};

use super::CommandError;
use crate::args::{Format, ReportArgs};
use crate::{exit, output};

pub(super) fn render(args: &ReportArgs) -> Result<u8, CommandError> {
    let path = record_file(&args.file);
    let text = read(&path)?;
    let record =
        poolproof_report::parse(&text).map_err(|source| CommandError::Record { path, source })?;
    write(&record, args.format, &args.out)?;
    Ok(exit::OK)
}

/// Reads a file, or standard input for `-`.
fn read(path: &Path) -> Result<String, CommandError> {
    let text = if output::is_standard(path) {
        io::read_to_string(io::stdin())
    } else {
        fs::read_to_string(path)
    };
    text.map_err(|source| CommandError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Renders a record and writes it to a file, or to standard output for `-`.
fn write(record: &Record, format: Format, path: &Path) -> Result<(), CommandError> {
    let text = match format {
        Format::Terminal => {
            let mut style = output::stdout_style();
            if !output::is_standard(path) {
                style.color = Color::Never;
            }
            poolproof_report::terminal(record, style)
        }
        Format::Html => poolproof_report::html(record),
        Format::Md => poolproof_report::markdown(record),
        Format::Junit => poolproof_report::junit(record),
        Format::Json => poolproof_report::json(record),
    };
    output::write(path, &text).map_err(|source| CommandError::Write {
        path: path.to_owned(),
        source,
    })
}

/// A run's folder stands for the record in it.
fn record_file(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join("result.json")
    } else {
        path.to_owned()
    }
}
