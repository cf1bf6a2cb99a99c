//! Why a command could not do its work, what to do about it, and the exit code that says so.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use poolproof_run::{
    CheckError, DEFAULT_IMAGE, ImageNameError, ProxyServerError, RunError, ScenarioError, TooShort,
    UrlError, write_advice,
};
use thiserror::Error;

use super::run::duration_word;
use crate::args::{IMAGE_VARIABLE, URL_VARIABLE};
use crate::exit;

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    #[error("{} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} of --{flag} cannot be written", path.display())]
    Copy {
        flag: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is longer than a scenario can be", path.display())]
    TooLong { path: PathBuf, most: u64 },
    #[error("standard output cannot be written")]
    Print(#[source] io::Error),
    #[error("a database URL stands in the place of a scenario file")]
    UrlAsFile,
    #[error("the scenario cannot be run")]
    Scenario(ScenarioError),
    #[error("--{flag} names one file for one record, and there are {runs} runs")]
    OneFileForMany { flag: &'static str, runs: usize },
    #[error("{} and {} cannot both go to standard output", first, second)]
    TwoToStandardOutput {
        first: &'static str,
        second: &'static str,
    },
    #[error("--{flag} would write over the scenario {}", path.display())]
    OverScenario { flag: &'static str, path: PathBuf },
    #[error("--{first} and --{second} would both write to {}", path.display())]
    TwoToOneFile {
        first: &'static str,
        second: &'static str,
        path: PathBuf,
    },
    #[error("the database URL cannot be used")]
    Url(#[source] UrlError),
    #[error("the image of --postgres docker has no name that can be used")]
    Image(#[source] ImageNameError),
    #[error("{URL_VARIABLE} is not set")]
    NoUrl,
    #[error("{URL_VARIABLE} is set, but empty")]
    EmptyUrl,
    #[error("{URL_VARIABLE} is not valid text")]
    UrlNotText,
    #[error("{ops:.0} operations are more than a run can judge")]
    TooManyOps { ops: f64, most: u32 },
    #[error("no operation would arrive within {}", duration_word(*duration))]
    NoOps { duration: Duration },
    #[error(transparent)]
    TooShort(TooShort),
    #[error("the scenario {scenario} was not run")]
    Run {
        scenario: String,
        #[source]
        source: Box<RunError>,
    },
    #[error("the scenario {scenario} was run, but its report could not be written")]
    Unreported {
        scenario: String,
        #[source]
        source: Box<RunError>,
    },
    #[error(transparent)]
    Check(CheckError),
    #[error("{} holds no record of a run", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: poolproof_report::ReadError,
    },
    #[error("the fault proxy cannot be served at {listen}")]
    Proxy {
        listen: SocketAddr,
        #[source]
        source: ProxyServerError,
    },
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("PGOPTIONS is set, and the program cannot begin again without it")]
    Environment(#[source] io::Error),
    #[error("the program cannot start its threads")]
    Runtime(#[source] io::Error),
}

impl CommandError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Read { .. }
            | Self::Copy { .. }
            | Self::TooLong { .. }
            | Self::UrlAsFile
            | Self::Scenario(_)
            | Self::OneFileForMany { .. }
            | Self::TwoToStandardOutput { .. }
            | Self::OverScenario { .. }
            | Self::TwoToOneFile { .. }
            | Self::Url(_)
            | Self::Image(_)
            | Self::NoUrl
            | Self::EmptyUrl
            | Self::UrlNotText
            | Self::TooManyOps { .. }
            | Self::NoOps { .. }
            | Self::TooShort(_)
            | Self::Record { .. } => exit::USAGE,
            Self::Write { .. }
            | Self::Print(_)
            | Self::Check(_)
            | Self::Proxy { .. }
            | Self::Signals(_)
            | Self::Environment(_)
            | Self::Runtime(_) => exit::ENVIRONMENT,
            Self::Run { source, .. } | Self::Unreported { source, .. } => exit::of_error(source),
        }
    }

    /// Returns what to do about it.
    pub(crate) fn help(&self) -> Option<String> {
        let text = match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "there is no such file: check the name and the folder you are in".to_owned()
            }
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
                io::ErrorKind::IsADirectory => {
                    "a folder stands there: name a file in it".to_owned()
                }
                io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
                _ => return None,
            },
            Self::UrlAsFile => "name the database with --postgres, and a scenario file".to_owned(),
            Self::Copy { source, .. } => write_advice(
                source.kind(),
                "name a file in a folder that exists and that you may write to; nothing was started",
            ),
            Self::TooLong { most, .. } => format!(
                "{most} bytes are the most, a hundred times what scenarios have: is it another file?"
            ),
            Self::Write { source, .. } => write_advice(source.kind(), "name another file"),
            Self::OneFileForMany { .. } => {
                "take result.json from each run's folder; --junit and --md hold all runs".to_owned()
            }
            Self::OverScenario { .. } | Self::TwoToOneFile { .. } => {
                "name another file; nothing was started".to_owned()
            }
            Self::TwoToStandardOutput { .. } => "write one of them to a file".to_owned(),
            // The others say themselves what to write instead.
            Self::Url(UrlError::NoScheme | UrlError::Scheme { .. }) => {
                "such as postgres://user:password@127.0.0.1:5432/database".to_owned()
            }
            Self::Image(_) => format!(
                "write --postgres docker:{DEFAULT_IMAGE}, or --postgres docker for what \
                 {IMAGE_VARIABLE} says, {DEFAULT_IMAGE} if it is not set"
            ),
            Self::NoUrl | Self::EmptyUrl => format!(
                "set it, for example {URL_VARIABLE}=postgres://user:password@127.0.0.1:5432/db, \
                 or name a URL"
            ),
            Self::TooManyOps { most, .. } => {
                format!("rate × duration may be up to {most}: choose a shorter --duration")
            }
            Self::NoOps { .. } => "the scenario's rate says how many arrive in a second: choose a \
                                   longer --duration"
                .to_owned(),
            Self::TooShort(TooShort { least, .. }) => format!(
                "squeezed into that, too little of them or of the recovery could be seen: the least is \
                 --duration {}",
                duration_word(*least)
            ),
            Self::Run { source, .. } | Self::Unreported { source, .. } => return source.help(),
            Self::Check(source) => source.help(),
            Self::Record { .. } => {
                "name a result.json that poolproof wrote, or the folder it is in".to_owned()
            }
            Self::Proxy { source, .. } => return source.help(),
            Self::Environment(_) => "unset PGOPTIONS".to_owned(),
            Self::Print(_)
            | Self::Url(_)
            | Self::Scenario(_)
            | Self::UrlNotText
            | Self::Signals(_)
            | Self::Runtime(_) => return None,
        };
        Some(text)
    }
}
