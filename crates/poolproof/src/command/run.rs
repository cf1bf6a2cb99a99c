//! `poolproof demo` and `poolproof run`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use poolproof_run::{
    Finished, Interrupt, MAX_OPS, PostgresChoice, RemoteConsent, RunError, RunOptions, Scenario,
    check_blast_radius, execute, settled,
};

use super::{CommandError, check, report};
use crate::args::{Format, RunArgs};
use crate::progress::Reporter;
use crate::signals::Signals;
use crate::{diagnose, exit, output};

/// Ending a server takes about 0.1 s.
const SETTLE_SILENTLY: Duration = Duration::from_secs(1);

/// The longest scenario that is read.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

pub(super) async fn demo(args: RunArgs) -> Result<u8, CommandError> {
    let asked = Asked {
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

/// A scenario to run, and how the command line named it.
struct Asked {
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
    check_copies(&args, asked.len())?;
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
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let mut runs = Vec::new();
    for Asked { scenario, replay } in asked {
        let replay = replay_command(&replay, seed, &args, &postgres);
        let (scenario, mut notes) = fit(scenario, &args)?;
        notes.extend(scenario.remarks.clone());
        notes.extend(ignored_parameters(&postgres));
        runs.push(RunOptions {
            scenario,
            postgres: postgres.clone(),
            subject: args.subject,
            seed,
            out: args.out.clone(),
            remote: consent.clone(),
            replay,
            notes,
        });
    }
    let many = runs.len() > 1;
    let mut signals = Signals::listen().map_err(CommandError::Signals)?;
    let mut worst = exit::OK;
    for options in runs {
        let code = match one(options, &args, &mut signals).await {
            Ok(code) => code,
            Err(error) if many => {
                diagnose::show(&error);
                error.exit_code()
            }
            Err(error) => return Err(error),
        };
        worst = exit::worse(worst, code);
        if code == exit::INTERRUPTED {
            break;
        }
    }
    Ok(worst)
}

/// Runs one scenario, shows its verdict and writes the copies that were asked for.
async fn one(
    options: RunOptions,
    args: &RunArgs,
    signals: &mut Signals,
) -> Result<u8, CommandError> {
    let scenario = options.scenario.name.clone();
    let mut reporter = Reporter::for_stderr(args.quiet);
    reporter.say(&format!(
        "{scenario}: {} · subject {} · seed {}",
        options.scenario.title, options.subject, options.seed
    ));
    for note in &options.notes {
        reporter.say(&format!("  note       {note}"));
    }
    let finished = supervise(options, &mut reporter, signals).await;
    reporter.close();
    settle(&mut reporter, signals).await;
    let Some(finished) = finished else {
        return Ok(exit::INTERRUPTED);
    };
    let (finished, unreported) = told(scenario, finished)?;
    let mut code = present(&finished, args);
    if let Some(error) = unreported {
        diagnose::show(&error);
        code = exit::worse(code, error.exit_code());
    } else {
        let page = finished.dir.join("report.html");
        reporter.say(&format!("  report     {}", page.display()));
    }
    Ok(code)
}

/// Parts what is known of a run from what went wrong with reporting it.
fn told(
    scenario: String,
    finished: Result<Finished, RunError>,
) -> Result<(Finished, Option<CommandError>), CommandError> {
    let mut error = match finished {
        Ok(finished) => return Ok((finished, None)),
        Err(RunError::Scenario(problems)) => return Err(CommandError::Scenario(problems)),
        Err(error) => error,
    };
    let known = error.take_finished();
    let took_place = matches!(error, RunError::Unreported { .. });
    let source = Box::new(error);
    let error = if took_place {
        CommandError::Unreported { scenario, source }
    } else {
        CommandError::Run { scenario, source }
    };
    match known {
        Some(finished) => Ok((finished, Some(error))),
        None => Err(error),
    }
}

/// Shows the verdict, writes the copies, and returns the exit code: what went wrong with either
/// is told, but does not hide a verdict that is worse.
fn present(finished: &Finished, args: &RunArgs) -> u8 {
    let copies = copies(args);
    let verdict = poolproof_report::terminal(&finished.record, output::stdout_style());
    let mut problems = Vec::new();
    if copies.iter().any(|(_, _, path)| output::is_standard(path)) {
        // Standard output is taken: what reads it wants nothing but the record.
        output::tell(&verdict);
    } else {
        problems.extend(output::print(&verdict).err().map(CommandError::Print));
    }
    for (_, format, path) in copies {
        problems.extend(report::write(&finished.record, format, path).err());
    }
    problems.iter().fold(finished.exit_code, |code, problem| {
        diagnose::show(problem);
        exit::worse(code, problem.exit_code())
    })
}

/// Runs to the end. The first signal asks the run to end early and report; the second drops it,
/// which still stops a private server; then there is no result.
async fn supervise(
    options: RunOptions,
    reporter: &mut Reporter,
    signals: &mut Signals,
) -> Option<Result<Finished, RunError>> {
    let (trigger, interrupt) = Interrupt::new();
    let quiet = matches!(reporter, Reporter::Quiet);
    let tell = |text| {
        if !quiet {
            output::tell(text);
        }
    };
    let mut sink = |news| reporter.on(&news);
    let mut run = Box::pin(execute(options, &mut sink, interrupt));
    tokio::select! {
        finished = &mut run => return Some(finished),
        () = signals.next() => trigger.trigger(),
    }
    tell("\ninterrupted: healing, stopping and reporting; once more to skip the report\n");
    tokio::select! {
        finished = run => return Some(finished),
        () = signals.next() => {}
    }
    // The run is dropped by now, and with it what it had started.
    tell("stopped without a report\n");
    None
}

/// Waits for the end of a server that was half started, or half stopped, when its run was given up.
async fn settle(reporter: &mut Reporter, signals: &mut Signals) {
    if tokio::time::timeout(SETTLE_SILENTLY, settled())
        .await
        .is_ok()
    {
        return;
    }
    reporter.say("removing what was begun; once more to leave that to the next run");
    tokio::select! {
        () = settled() => {}
        () = signals.next() => {}
    }
}

fn postgres(args: &RunArgs) -> Result<PostgresChoice, CommandError> {
    if args.postgres == "local" {
        return Ok(PostgresChoice::Local);
    }
    check::database_url(&args.postgres).map(|url| PostgresChoice::Url(Box::new(url)))
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

/// The copies that were asked for: flag, format and file.
fn copies(args: &RunArgs) -> Vec<(&'static str, Format, &Path)> {
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

fn check_copies(args: &RunArgs, runs: usize) -> Result<(), CommandError> {
    let copies = copies(args);
    if let Some((flag, _, _)) = copies.first()
        && runs > 1
    {
        return Err(CommandError::OneFileForMany { flag, runs });
    }
    let mut standard = copies
        .iter()
        .filter(|(_, _, path)| output::is_standard(path));
    if let (Some((first, _, _)), Some((second, _, _))) = (standard.next(), standard.next()) {
        return Err(CommandError::TwoToStandardOutput { first, second });
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

/// Returns the command that does the same run again, without a password.
fn replay_command(what: &str, seed: u64, args: &RunArgs, postgres: &PostgresChoice) -> String {
    let mut words = vec!["poolproof".to_owned(), what.to_owned()];
    words.push(format!("--seed {seed}"));
    if args.subject.name() != "poolproof" {
        words.push(format!("--subject {}", args.subject));
    }
    if let Some(duration) = args.duration {
        words.push(format!("--duration {}", duration_word(duration)));
    }
    if let PostgresChoice::Url(_) = postgres {
        // A URL may hold a password in more than one place, so a replay reads it from outside.
        words.push("--postgres env".to_owned());
    }
    if let Some(name) = &args.confirm_database {
        words.push(format!(
            "--allow-remote --confirm-database {}",
            shell_word(name)
        ));
    }
    words.join(" ")
}

/// Writes a duration as the command line reads it.
pub(super) fn duration_word(duration: Duration) -> String {
    let micros = duration.as_micros();
    match (micros % 1_000_000, micros % 1_000) {
        (0, _) => format!("{}s", micros / 1_000_000),
        (_, 0) => format!("{}ms", micros / 1_000),
        _ => format!("{micros}us"),
    }
}

/// Quotes a word for a POSIX shell where it needs that.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Six digits of the clock: short enough to read out, different from run to run.
fn fresh_seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(since.subsec_nanos()) / 1_000 % 1_000_000
}
