//! One run from its options to its reports: a bench for one trial, its judgement, a folder.

use std::path::PathBuf;

use jiff::Timestamp;
use poolproof_oracle::{CutShort, Verdict};
use poolproof_report::Record;
use poolproof_subjects::SubjectKind;
use poolproof_testbed::ImageName;
use poolproof_url::DatabaseUrl;
use tokio::time::Instant;

use crate::RunError;
use crate::bench::{Bench, ServerChoice};
use crate::blast::RemoteConsent;
use crate::error::chain;
use crate::folder::{HISTORY_SCHEMA, HistoryHeader, RunFolder, Unwritten};
use crate::interrupt::Interrupt;
use crate::progress::ProgressSink;
use crate::record::Asked;
use crate::scenario::Scenario;
use crate::trial::{Planned, Trial};

/// Which server a run is aimed at.
#[derive(Debug, Clone)]
pub enum PostgresChoice {
    /// A private cluster, started for the run and removed after it.
    Local,
    /// A private server in a container of this image, made for the run and removed after it.
    Container(ImageName),
    /// A server that exists; see [`crate::check_blast_radius`].
    Url(Box<DatabaseUrl>),
}

/// What to run, on what, and where to leave the reports.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The scenario.
    pub scenario: Scenario,
    /// The server.
    pub postgres: PostgresChoice,
    /// The pool under test.
    pub subject: SubjectKind,
    /// The only source of randomness.
    pub seed: u64,
    /// The folder that holds all reports.
    pub out: PathBuf,
    /// What the user said about a server that is not loopback.
    pub remote: RemoteConsent,
    /// The command that replays the run, without a password.
    pub replay: String,
    /// Remarks for the report that were made before the run, such as a scaled schedule.
    pub notes: Vec<String>,
    /// Which code the program will end with for what the run came to: the report names it.
    pub exit_code: fn(Verdict, Option<CutShort>) -> u8,
}

/// What came of a run.
#[derive(Debug)]
pub struct Finished {
    /// Everything that is known.
    pub record: Record,
    /// The folder with the reports.
    pub dir: PathBuf,
}

/// Runs a scenario, judges it and reports.
///
/// Everything that it starts is stopped and removed before it returns. An interrupt during the
/// load still yields a record, marked partial. One during the set-up returns at once, and leaves
/// the removal of a server half started to a thread, which [`crate::settled`] waits for.
///
/// # Errors
/// [`RunError`] when there is nothing to judge: the set-up failed or was refused.
/// [`RunError::Unreported`] when the report could not be written; it holds what is known.
///
/// # Cancel safety
/// Not safe: use `interrupt`. Dropping the future stops a private server, but leaves a schema in an
/// existing database for the next run to remove.
pub async fn execute(
    options: RunOptions,
    progress: &mut ProgressSink<'_>,
    interrupt: Interrupt,
) -> Result<Finished, RunError> {
    let began = Instant::now();
    let trial = Trial {
        scenario: options.scenario.clone(),
        subject: options.subject,
        seed: options.seed,
    };
    let trial = trial.plan()?;
    let folder = RunFolder::create(&options, Timestamp::now())?;
    let asked = Asked {
        replay: options.replay.clone(),
        notes: options.notes.clone(),
        began,
        exit_code: options.exit_code,
    };
    let run = Run {
        options,
        trial,
        asked,
        folder,
    };
    // On the heap: the whole run is one future.
    match Box::pin(run.perform(progress, &interrupt)).await {
        Ok((record, history)) => run.report(record, history),
        // What was written before the disk was full stays.
        Err(error @ (RunError::Report { .. } | RunError::Unreported { .. })) => Err(error),
        Err(error) => {
            if let Err(left) = run.folder.discard() {
                // The error that ended the run is what the user has to know.
                tracing::warn!(error = %chain(&left), "an empty report folder stays behind");
            }
            Err(error)
        }
    }
}

/// One run, and where it reports.
struct Run {
    options: RunOptions,
    trial: Planned,
    asked: Asked,
    folder: RunFolder,
}

/// Whether the history could be written: a full disk is no reason to give no verdict.
type History = Result<(), Unwritten>;

impl Run {
    /// Brings up the bench, does the trial, and takes the bench down whatever came of it.
    async fn perform(
        &self,
        progress: &mut ProgressSink<'_>,
        interrupt: &Interrupt,
    ) -> Result<(Record, History), RunError> {
        let Self { options, trial, .. } = self;
        let choice = ServerChoice {
            postgres: &options.postgres,
            remote: &options.remote,
            scenario: &options.scenario,
            id: trial.id(),
        };
        let bench = Bench::start(choice, progress, interrupt).await?;
        let measured = self.measure(&bench, progress, interrupt).await;
        let problems = bench.stop(progress).await;
        let (mut record, history) = measured?;
        record.run.notes.extend(problems);
        Ok((record, history))
    }

    async fn measure(
        &self,
        bench: &Bench,
        progress: &mut ProgressSink<'_>,
        interrupt: &Interrupt,
    ) -> Result<(Record, History), RunError> {
        let (trial, options) = (&self.trial, &self.options);
        self.folder.begin_history(&HistoryHeader {
            schema: HISTORY_SCHEMA,
            run: trial.id(),
            scenario: &options.scenario.name,
            subject: &options.subject.to_string(),
            seed: options.seed,
            schedule_sha256: &trial.schedule_sha256,
        })?;
        let mut evidence = bench.run(trial, progress, interrupt).await?;
        let loaded = &evidence.loaded;
        let samples = &loaded.seen.samples;
        let history = self
            .folder
            .append_history(&loaded.records, &loaded.faults, samples);
        evidence.notes.extend(self.keep_server_log(bench));
        let record = evidence.record(evidence.judge(), &self.asked);
        Ok((record, history))
    }

    /// Keeps the log of a private server that died, and returns what went wrong with that.
    fn keep_server_log(&self, bench: &Bench) -> Option<String> {
        let kept = self.folder.keep_server_log(&bench.log_of_death()?);
        kept.err()
            .map(|error| format!("the server's log could not be kept: {error}"))
    }

    fn report(&self, record: Record, history: History) -> Result<Finished, RunError> {
        let reported = self.folder.write_reports(&record);
        let finished = Finished {
            record,
            dir: self.folder.path().to_owned(),
        };
        match history.and(reported) {
            Ok(()) => Ok(finished),
            Err(Unwritten { path, source }) => Err(RunError::Unreported {
                path,
                source,
                finished: Some(Box::new(finished)),
            }),
        }
    }
}
