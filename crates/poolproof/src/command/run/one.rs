//! One run, from its options to its verdict on the screen.

use std::error::Error;
use std::iter;
use std::time::Duration;

use poolproof_report::TerminalStyle;
use poolproof_report::runs::Attempt;
use poolproof_run::{Finished, Interrupt, RunError, RunOptions, execute, settled};

use super::super::CommandError;
use super::copies;
use crate::args::RunArgs;
use crate::progress::Reporter;
use crate::signals::Signals;
use crate::{diagnose, exit, output};

/// Ending a server takes about 0.1 s.
const SETTLE_SILENTLY: Duration = Duration::from_secs(1);

/// What came of a run.
pub(super) struct Ended {
    pub(super) attempt: Attempt,
    pub(super) code: u8,
    /// Whether a signal came, if only when the load was over.
    pub(super) interrupted: bool,
}

/// Runs one scenario and shows its verdict; `place` is its place among others.
pub(super) async fn one(
    options: RunOptions,
    place: Option<String>,
    args: &RunArgs,
    signals: &mut Signals,
) -> Ended {
    let (scenario, seed) = (options.scenario.name.clone(), options.seed);
    let subject = options.subject.to_string();
    let mut reporter = Reporter::for_stderr(args.quiet);
    let place = place.map_or_else(String::new, |place| format!("{place} · "));
    reporter.say(&format!(
        "{place}{scenario}: {} · subject {} · seed {seed}",
        options.scenario.title, options.subject
    ));
    for note in &options.notes {
        reporter.say(&format!("  note       {note}"));
    }
    let (finished, signalled) = supervise(options, &mut reporter, signals).await;
    reporter.close();
    let given_up = settle(&mut reporter, signals).await;
    let (attempt, code) = match finished.map(|finished| told(scenario.clone(), finished)) {
        Some(Ok((finished, unreported))) => {
            let code = present(&finished, unreported, args, &mut reporter);
            let (record, folder) = (Box::new(finished.record), finished.dir);
            (Attempt::Judged { record, folder }, code)
        }
        Some(Err(error)) => {
            diagnose::show(&error);
            let reason = with_causes(&error);
            let attempt = Attempt::NotRun {
                scenario,
                subject,
                seed,
                reason,
            };
            (attempt, error.exit_code())
        }
        None => {
            let reason = "interrupted twice: stopped without a report".to_owned();
            let attempt = Attempt::NotRun {
                scenario,
                subject,
                seed,
                reason,
            };
            (attempt, exit::INTERRUPTED)
        }
    };
    Ended {
        attempt,
        code,
        interrupted: signalled || given_up,
    }
}

/// An error and its causes in one line.
fn with_causes(error: &CommandError) -> String {
    let causes = iter::successors(Some(error as &dyn Error), |error| (*error).source());
    let told: Vec<String> = causes.map(ToString::to_string).collect();
    told.join(": ")
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

/// Shows the verdict, and where the report is or why there is none, and returns the exit code: what
/// went wrong with either does not hide a verdict that is worse.
///
/// Of several seeds only those that did not pass are shown whole: the table follows.
fn present(
    finished: &Finished,
    unreported: Option<CommandError>,
    args: &RunArgs,
    reporter: &mut Reporter,
) -> u8 {
    let mut problems = Vec::new();
    let run = &finished.record.run;
    let code = exit::of(finished.record.verdict, run.cut_short);
    if args.seeds == 1 || code != exit::OK {
        problems.extend(show(args, |style| {
            poolproof_report::terminal(&finished.record, style)
        }));
    }
    if unreported.is_none() {
        let line = format!(
            "  report     {}",
            finished.dir.join("report.html").display()
        );
        match reporter {
            // Whoever wants silence still wants to know where it says why this is no pass.
            Reporter::Quiet if code != exit::OK => output::tell(&format!("{line}\n")),
            reporter => reporter.say(&line),
        }
    }
    problems.extend(unreported);
    problems.iter().fold(code, |code, problem| {
        diagnose::show(problem);
        exit::worse(code, problem.exit_code())
    })
}

/// Shows a result on standard output, or on standard error where that is taken.
pub(super) fn show(
    args: &RunArgs,
    render: impl FnOnce(TerminalStyle) -> String,
) -> Option<CommandError> {
    if copies::take_standard_output(args) {
        output::tell(&render(output::stderr_style()));
        return None;
    }
    let text = render(output::stdout_style());
    output::print(&text).err().map(CommandError::Print)
}

/// Runs to the end. The first signal asks the run to end early and report; the second drops it,
/// which still stops a private server; then there is no result. Tells also whether there was one.
async fn supervise(
    options: RunOptions,
    reporter: &mut Reporter,
    signals: &mut Signals,
) -> (Option<Result<Finished, RunError>>, bool) {
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
        finished = &mut run => return (Some(finished), false),
        () = signals.next() => trigger.trigger(),
    }
    tell("\ninterrupted: healing, stopping and reporting; once more to skip the report\n");
    tokio::select! {
        finished = run => return (Some(finished), true),
        () = signals.next() => {}
    }
    // The run is dropped by now, and with it what it had started.
    tell("stopped without a report\n");
    (None, true)
}

/// Waits for the end of a server that was half started, or half stopped, when its run was given up.
/// Tells whether a signal cut that short.
async fn settle(reporter: &mut Reporter, signals: &mut Signals) -> bool {
    if tokio::time::timeout(SETTLE_SILENTLY, settled())
        .await
        .is_ok()
    {
        return false;
    }
    reporter.say("removing what was begun; once more to leave that to the next run");
    tokio::select! {
        () = settled() => false,
        () = signals.next() => true,
    }
}
