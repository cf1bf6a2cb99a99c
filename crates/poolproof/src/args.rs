//! The arguments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use poolproof_run::{SubjectKind, parse_duration};

use crate::exit;

/// The environment variable that `env` reads, so that a password stays out of `ps`.
pub(crate) const URL_VARIABLE: &str = "POOLPROOF_DATABASE_URL";

/// The environment variable that names the image of `docker`.
pub(crate) const IMAGE_VARIABLE: &str = "POOLPROOF_POSTGRES_IMAGE";

/// Three days of the demo; what is known of each run stays in memory for the table.
const MAX_SEEDS: i64 = 10_000;

/// Evidence about a database connection pool: is it safe under faults?
///
/// Start with `poolproof demo`. It starts a private Postgres, puts a proxy that breaks things in
/// front of it, drives a pool through both, and says what held.
#[derive(Debug, Parser)]
#[command(name = "poolproof", version, max_term_width = 100, after_help = exit::HELP)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the built-in quickstart scenario: 20 seconds of load, five faults, one verdict
    ///
    /// The scenario is scenarios/quickstart.toml of the sources, built into this program.
    #[command(after_help = exit::HELP)]
    Demo(RunArgs),

    /// Run scenario files and judge what the pool did
    ///
    /// All files are read and checked before anything is started. They run one after the other, and
    /// a table of them ends the output; the exit code is the worst of them, and a violated guarantee
    /// is worse than not knowing.
    #[command(after_help = exit::HELP)]
    Run {
        /// Scenario files (TOML); `-` reads one from standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        run: RunArgs,
    },

    /// Offer the load of a scenario without its faults: one measurement
    ///
    /// The response objective and the guarantees are judged; the exit code is 1 when one of them was
    /// missed. Everything else is as for `run`.
    #[command(after_help = exit::HELP)]
    Load {
        /// A scenario file (TOML); `-` reads it from standard input
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        pool: PoolArgs,
        #[command(flatten)]
        run: RunArgs,
    },

    /// Serve the fault proxy on its own, with the HTTP API of Toxiproxy 2.12
    ///
    /// Runs until Ctrl-C or SIGTERM, then exits with 0. Toxics: latency, bandwidth, timeout,
    /// reset_peer, noop.
    Proxy(ProxyArgs),

    /// Ask a database whether it can be used: reachable, how fast, how many connections are left
    ///
    /// Connects five times and changes nothing. The exit code is 3 when it cannot be reached, or when
    /// no run can write there.
    Check {
        /// Database URL (SQLAlchemy's forms are understood), or `env` for $POOLPROOF_DATABASE_URL
        ///
        /// A URL given here is visible to other users in `ps`, its password included; `env` is
        /// not.
        #[arg(value_name = "URL", default_value = "env")]
        url: String,
    },

    /// Say what this machine can do: Postgres, Docker, privileges, places, ports
    ///
    /// Installs and starts nothing. The exit code is 3 when no private Postgres can be started.
    Doctor,

    /// Render the record of an earlier run again
    Report(ReportArgs),

    /// Print the JSON schema of result.json or of scenario files
    ///
    /// For an editor: poolproof schema scenario > scenario.schema.json, and in the first line of a
    /// scenario beside it: #:schema ./scenario.schema.json
    Schema {
        /// What the schema describes
        #[arg(value_enum, default_value_t = Schema::Result)]
        what: Schema,
    },

    /// Print a completion script for a shell
    ///
    /// For bash, for example: poolproof completions bash > ~/.local/share/bash-completion/completions/poolproof
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What stands in for the scenario's own pool settings.
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// Connections that the pool keeps, in place of the scenario's pool_size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pool_size: Option<u32>,

    /// Connections beyond these, in place of the scenario's max_overflow; -1 for no limit
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(-1..))]
    pub(crate) max_overflow: Option<i32>,
}

/// What `demo`, `run` and `load` have in common.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The server: `local`, `docker[:IMAGE]`, a database URL, or `env` for $POOLPROOF_DATABASE_URL
    ///
    /// `local` starts a private Postgres and removes it afterwards; `docker` does so in a container,
    /// of postgres:17 unless $POOLPROOF_POSTGRES_IMAGE or IMAGE names another. A URL names a server that
    /// exists; the run works in a schema of its own and drops it. SQLAlchemy's URLs
    /// (postgresql+asyncpg://…) are understood. A URL given here is visible to other users in
    /// `ps`, its password included; `env` is not.
    #[arg(long, value_name = "WHERE", default_value = "local")]
    pub(crate) postgres: String,

    /// The pool under test
    #[arg(long, value_name = "NAME", default_value = "poolproof", value_parser = subject_parser())]
    pub(crate) subject: SubjectKind,

    /// The only source of randomness; a new one each time unless given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// How many seeds to run one after the other, the first of them --seed
    ///
    /// Ends after the first that does not pass, unless --keep-going is given, with one table of all;
    /// --junit and --md then hold all runs. The exit code is the worst: 130 is worse than 1, then
    /// come 2, 3, 5, 4 and 0.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MAX_SEEDS))]
    pub(crate) seeds: u32,

    /// Run all seeds, whatever comes of those before
    #[arg(long)]
    pub(crate) keep_going: bool,

    /// How long to offer load, such as 20s or 2m; the scenario says unless given
    ///
    /// When the faults of the scenario do not fit, their times shrink in proportion, down to 1s
    /// for all and 100ms for each that lasts; less is refused.
    #[arg(long, value_name = "D", value_parser = positive_duration)]
    pub(crate) duration: Option<Duration>,

    /// The folder for reports: each run gets DIR/SCENARIO/TIME-SUBJECT-sSEED/
    #[arg(long, value_name = "DIR", default_value = "reports", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,

    /// Write the record also to this file (`-` for standard output)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) json: Option<PathBuf>,

    /// Write the JUnit report also to this file (`-` for standard output)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,

    /// Write the Markdown report also to this file (`-` for standard output)
    ///
    /// Written anew, but added to where the file is the summary of a CI job
    /// ($GITHUB_STEP_SUMMARY).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) md: Option<PathBuf>,

    /// Show the verdict only, no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Allow a database that is not on this machine to be loaded, cut off and broken
    #[arg(long, requires = "confirm_database")]
    pub(crate) allow_remote: bool,

    /// The name of that database, to confirm that it is the one you mean
    #[arg(long, value_name = "NAME", requires = "allow_remote")]
    pub(crate) confirm_database: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// Where the HTTP API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8474")]
    pub(crate) listen: SocketAddr,

    /// The source of randomness for jitter and toxicity
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// A result.json, or the folder of a run; `-` reads from standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) file: PathBuf,

    /// What to render
    #[arg(long, value_enum, default_value_t = Format::Terminal)]
    pub(crate) format: Format,

    /// Where to write it (`-` for standard output)
    #[arg(long, value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The verdict
    Terminal,
    /// One page that works offline
    Html,
    /// Markdown, for a job summary or a comment
    Md,
    /// JUnit XML, for CI
    Junit,
    /// The record itself
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Schema {
    /// result.json, the record of a run
    Result,
    /// Scenario files
    Scenario,
}

fn subject_parser() -> impl TypedValueParser<Value = SubjectKind> {
    let values =
        SubjectKind::ALL.map(|kind| PossibleValue::new(kind.name()).help(kind.description()));
    PossibleValuesParser::new(values).map(|name| {
        name.parse()
            .expect("bug: the parser lets only known subjects pass")
    })
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_well_at_a_hundred_columns() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        insta::assert_snapshot!("help", cli.render_long_help().to_string());
        for command in cli.get_subcommands_mut() {
            let name = format!("help_{}", command.get_name());
            insta::assert_snapshot!(name, command.render_long_help().to_string());
        }
    }

    #[test]
    fn short_help_fits_without_the_details() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        let run = cli.find_subcommand_mut("run").unwrap();
        insta::assert_snapshot!("short_help_run", run.render_help().to_string());
    }
}
