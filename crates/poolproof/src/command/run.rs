//! `poolproof demo`, `poolproof run` and `poolproof load`.

mod copies;
mod one;
mod replay;

use std::env::VarError;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use poolproof_report::runs::{self, Attempt};
use poolproof_run::{
    ImageName, MAX_OPS, PostgresChoice, RemoteConsent, RunOptions, Scenario, check_blast_radius,
};

pub(super) use self::replay::duration_word;

use self::one::{one, show};
use self::replay::{load_command, replay_command, shell_word};
use super::{CommandError, check};
use crate::args::{IMAGE_VARIABLE, PoolArgs, RunArgs};
use crate::signals::Signals;
use crate::{diagnose, exit, output};

/// The longest scenario that is read.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

pub(super) async fn demo(args: RunArgs) -> Result<u8, CommandError> {
    let asked = Asked {
        file: None,
        scenario: Scenario::quickstart(),
        replay: "demo".to_owned(),
    };
    all(vec![asked], args).await
}

pub(super) async fn files(files: &[PathBuf], args: RunArgs) -> Result<u8, CommandError> {
    let mut asked = Vec::new();
    let mut unread = exit::OK;
    for file in files {
        match read(file) {
            Ok(scenario) => asked.push(Asked {
                file: Some(file.clone()),
                scenario,
                replay: format!("run {}", shell_word(&file.display().to_string())),
            }),
            Err(error) => {
                diagnose::show(&error);
                unread = exit::worse(unread, error.exit_code());
            }
        }
    }
    if unread != exit::OK {
        return Ok(unread);
    }
    all(asked, args).await
}

pub(super) async fn load(file: &Path, pool: &PoolArgs, args: RunArgs) -> Result<u8, CommandError> {
    let asked = Asked {
        file: Some(file.to_owned()),
        scenario: without_faults(read(file)?, pool),
        replay: load_command(file, pool),
    };
    all(vec![asked], args).await
}

/// Returns the scenario as a plain measurement of its load, on another pool where one is asked for.
fn without_faults(scenario: Scenario, pool: &PoolArgs) -> Scenario {
    let mut scenario = scenario.without_faults();
    if let Some(pool_size) = pool.pool_size {
        scenario.pool.pool_size = pool_size;
    }
    if let Some(max_overflow) = pool.max_overflow {
        scenario.pool.max_overflow = max_overflow;
    }
    scenario
}

/// A scenario to run, and how the command line named it.
struct Asked {
    /// Where it stands.
    file: Option<PathBuf>,
    scenario: Scenario,
    replay: String,
}

fn read(file: &Path) -> Result<Scenario, CommandError> {
    if file.to_string_lossy().contains("://") {
        // Its password must not be repeated in a message about a missing file.
        return Err(CommandError::UrlAsFile);
    }
    let text = scenario_text(file)?;
    let name = if output::is_standard(file) {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    Scenario::parse(&name, &text).map_err(CommandError::Scenario)
}

/// Reads a scenario, or refuses it before more of it is read than a scenario can have.
fn scenario_text(file: &Path) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let most = SCENARIO_BYTES_MAX + 1;
    let read = if output::is_standard(file) {
        io::stdin().take(most).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|opened| opened.take(most).read_to_end(&mut bytes))
    };
    let unread = |source| CommandError::Read {
        path: file.to_owned(),
        source,
    };
    read.map_err(unread)?;
    if bytes.len() as u64 == most {
        return Err(CommandError::TooLong {
            path: file.to_owned(),
            most: SCENARIO_BYTES_MAX,
        });
    }
    String::from_utf8(bytes)
        .map_err(|error| unread(io::Error::new(io::ErrorKind::InvalidData, error)))
}

async fn all(asked: Vec<Asked>, args: RunArgs) -> Result<u8, CommandError> {
    let seeds = seeds(&args);
    let runs = asked.len() * seeds.len();
    let files = asked.iter().filter_map(|asked| asked.file.as_deref());
    copies::check(&args, runs, &files.collect::<Vec<_>>())?;
    let postgres = postgres(&args)?;
    let consent = RemoteConsent {
        allow_remote: args.allow_remote,
        confirm_database: args.confirm_database.clone(),
    };
    if let PostgresChoice::Url(url) = &postgres {
        check_blast_radius(url, &consent).map_err(|source| CommandError::Run {
            scenario: names(&asked),
            source: Box::new(source),
        })?;
    }
    let mut rounds = vec![Vec::new(); seeds.len()];
    for Asked {
        scenario, replay, ..
    } in asked
    {
        let (scenario, mut notes) = fit(scenario, &args)?;
        notes.extend(scenario.remarks.clone());
        notes.extend(ignored_parameters(&postgres));
        for (round, seed) in rounds.iter_mut().zip(&seeds) {
            round.push(RunOptions {
                scenario: scenario.clone(),
                postgres: postgres.clone(),
                subject: args.subject,
                seed: *seed,
                out: args.out.clone(),
                remote: consent.clone(),
                replay: replay_command(&replay, *seed, &args, &postgres),
                notes: notes.clone(),
                exit_code: exit::of,
            });
        }
    }
    let (attempts, code) = run_rounds(rounds, &args).await?;
    Ok(conclude(&attempts, runs, code, &args))
}

/// Runs one round for each seed, until one does not pass or all are done; returns what came of each
/// run, and the worst exit code.
async fn run_rounds(
    rounds: Vec<Vec<RunOptions>>,
    args: &RunArgs,
) -> Result<(Vec<Attempt>, u8), CommandError> {
    let mut signals = Signals::listen().map_err(CommandError::Signals)?;
    let (seeds, runs) = (rounds.len(), rounds.iter().map(Vec::len).sum());
    let mut attempts = Vec::new();
    let mut worst = exit::OK;
    for (nth, round) in (1..).zip(rounds) {
        for options in round {
            let place = (seeds > 1).then(|| format!("seed {nth} of {seeds}"));
            let ended = one(options, place, args, &mut signals).await;
            worst = exit::worse(worst, ended.code);
            attempts.push(if runs > 1 {
                lean(ended.attempt)
            } else {
                ended.attempt
            });
            if ended.interrupted && attempts.len() < runs {
                return Ok((attempts, exit::INTERRUPTED));
            }
        }
        if worst != exit::OK && !args.keep_going {
            break;
        }
    }
    Ok((attempts, worst))
}

/// Drops what neither table nor copy shows: there may be thousands of runs.
fn lean(mut attempt: Attempt) -> Attempt {
    if let Attempt::Judged { record, .. } = &mut attempt {
        record.timeline = Vec::new();
    }
    attempt
}

/// Shows the table of several runs, writes the copies, and returns the exit code.
fn conclude(attempts: &[Attempt], runs: usize, code: u8, args: &RunArgs) -> u8 {
    let mut problems = Vec::new();
    if runs > 1 {
        problems.extend(show(args, |style| runs::terminal(attempts, runs, style)));
    }
    problems.extend(copies::write(attempts, runs, args));
    if attempts.len() < runs && code != exit::INTERRUPTED && !args.quiet {
        output::tell("stopped at the first seed that did not pass; --keep-going runs them all\n");
    }
    problems.iter().fold(code, |code, problem| {
        diagnose::show(problem);
        exit::worse(code, problem.exit_code())
    })
}

/// The seeds of the runs, the first one given or new.
fn seeds(args: &RunArgs) -> Vec<u64> {
    let first = args.seed.unwrap_or_else(fresh_seed);
    (0..args.seeds)
        .map(|n| first.wrapping_add(n.into()))
        .collect()
}

fn postgres(args: &RunArgs) -> Result<PostgresChoice, CommandError> {
    if args.postgres == "local" {
        return Ok(PostgresChoice::Local);
    }
    match args.postgres.split_once(':') {
        None if args.postgres == "docker" => image_from_env(),
        Some(("docker", image)) => image_named(image),
        _ => check::database_url(&args.postgres).map(|url| PostgresChoice::Url(Box::new(url))),
    }
}

fn image_from_env() -> Result<PostgresChoice, CommandError> {
    match std::env::var(IMAGE_VARIABLE) {
        Ok(image) if !image.trim().is_empty() => image_named(&image),
        Err(VarError::NotUnicode(_)) => image_named(""),
        _ => Ok(PostgresChoice::Container(ImageName::default())),
    }
}

fn image_named(text: &str) -> Result<PostgresChoice, CommandError> {
    let image = text.parse().map_err(CommandError::Image)?;
    Ok(PostgresChoice::Container(image))
}

/// Returns the scenario with the duration that was asked for, and what that changed.
fn fit(scenario: Scenario, args: &RunArgs) -> Result<(Scenario, Vec<String>), CommandError> {
    let Some(duration) = args.duration else {
        return Ok((scenario, Vec::new()));
    };
    let (scenario, note) = scenario
        .scaled_to(duration)
        .map_err(CommandError::TooShort)?;
    let ops = scenario.expected_ops();
    if ops < 1.0 {
        return Err(CommandError::NoOps { duration });
    }
    if ops > f64::from(MAX_OPS) {
        return Err(CommandError::TooManyOps { ops, most: MAX_OPS });
    }
    Ok((scenario, note.into_iter().collect()))
}

/// Returns a note on what the URL says in vain.
fn ignored_parameters(postgres: &PostgresChoice) -> Option<String> {
    let PostgresChoice::Url(url) = postgres else {
        return None;
    };
    let ignored = url.ignored().join(", ");
    (!ignored.is_empty()).then(|| format!("ignored parameters of the database URL: {ignored}"))
}

fn names(asked: &[Asked]) -> String {
    let names: Vec<_> = asked.iter().map(|a| a.scenario.name.as_str()).collect();
    names.join(", ")
}

/// Six digits of the clock: short enough to read out, different from run to run.
fn fresh_seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(since.subsec_nanos()) / 1_000 % 1_000_000
}
