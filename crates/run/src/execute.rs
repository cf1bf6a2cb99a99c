//! One run from its options to its record: set up, load and break, heal, wait, judge, write.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use poolproof_load::{LoadSpec, Schedule, Workload};
use poolproof_pool::DatabaseUrl;
use poolproof_report::Record;
use poolproof_subjects::SubjectKind;
use poolproof_testbed::ImageName;
use tokio::time::Instant;

use crate::RunError;
use crate::assemble::assemble;
use crate::blast::RemoteConsent;
use crate::drive::drive;
use crate::error::chain;
use crate::interrupt::Interrupt;
use crate::observe::observe;
use crate::output::{HISTORY_SCHEMA, HistoryHeader, RunFolder, Unwritten};
use crate::progress::ProgressSink;
use crate::scenario::Scenario;
use crate::stage::{Stage, phase};

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
}

/// What came of a run.
#[derive(Debug)]
pub struct Finished {
    /// Everything that is known.
    pub record: Record,
    /// The folder with the reports.
    pub dir: PathBuf,
    /// The exit code: see [`Record::exit_code`].
    pub exit_code: u8,
}

/// Runs a scenario and judges it.
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
    let run = Run::plan(options, interrupt)?;
    // On the heap: the whole run is one future.
    match Box::pin(run.perform(progress)).await {
        Ok(judged) => {
            let reported = run.folder.write_reports(&judged.record);
            let finished = Finished {
                exit_code: judged.record.exit_code(),
                record: judged.record,
                dir: run.folder.path().to_owned(),
            };
            match judged.history.and(reported) {
                Ok(()) => Ok(finished),
                Err(Unwritten { path, source }) => Err(RunError::Unreported {
                    path,
                    source,
                    finished: Some(Box::new(finished)),
                }),
            }
        }
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

/// One run: what was asked, and what follows from it before anything is started.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) options: RunOptions,
    pub(crate) interrupt: Interrupt,
    pub(crate) spec: LoadSpec,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) schedule_sha256: String,
    pub(crate) began: Instant,
    folder: RunFolder,
}

/// A run that was judged.
struct Judged {
    record: Record,
    /// Whether the history could be written: a full disk is no reason to give no verdict.
    history: Result<(), Unwritten>,
}

impl Run {
    pub(crate) fn plan(options: RunOptions, interrupt: Interrupt) -> Result<Self, RunError> {
        let began = Instant::now();
        let spec = options.scenario.load.clone();
        let pool = &options.scenario.pool;
        let fit = options
            .subject
            .check_size(pool.pool_size, pool.max_overflow);
        fit.map_err(|source| RunError::Unfit {
            subject: options.subject.to_string(),
            source,
        })?;
        let schedule = Schedule::generate(&spec, options.seed)?;
        let now = Timestamp::now();
        let folder = RunFolder::create(&options, now)?;
        Ok(Self {
            id: run_id(now),
            interrupt,
            spec,
            schedule_sha256: schedule.sha256(),
            schedule: Arc::new(schedule),
            began,
            folder,
            options,
        })
    }

    /// Sets the stage, judges on it, and takes it down whatever came of it.
    async fn perform(&self, progress: &mut ProgressSink<'_>) -> Result<Judged, RunError> {
        let mut stage = Stage::set_up(self, progress).await?;
        let judged = self.judge(&mut stage, progress).await;
        // On the heap: it drops the schema over a connection that may have to be opened again.
        let taken_down = Box::pin(async {
            let problems = stage.teardown().await;
            let detail = if problems.is_empty() {
                "nothing left".to_owned()
            } else {
                problems.join("; ")
            };
            Ok((problems, detail))
        });
        let what = "close, stop and remove everything";
        let problems = phase(progress, "stop", what, taken_down).await?;
        let mut judged = judged?;
        judged.record.run.notes.extend(problems);
        Ok(judged)
    }

    async fn judge(
        &self,
        stage: &mut Stage,
        progress: &mut ProgressSink<'_>,
    ) -> Result<Judged, RunError> {
        self.folder.begin_history(&HistoryHeader {
            schema: HISTORY_SCHEMA,
            run: &self.id,
            scenario: &self.options.scenario.name,
            subject: &self.options.subject.to_string(),
            seed: self.options.seed,
            schedule_sha256: &self.schedule_sha256,
        })?;
        let loaded = stage.keeping(async |stage| drive(self, stage, progress).await);
        let loaded = Box::pin(loaded).await;
        let history =
            self.folder
                .append_history(&loaded.records, &loaded.faults, &loaded.seen.samples);
        let observed = phase(
            progress,
            "judge",
            "look at pool, server and tables",
            async {
                let observed = observe(self, stage, &loaded).await;
                let detail = observed.describe();
                Ok((observed, detail))
            },
        )
        .await?;
        let mut record = assemble(self, stage, &loaded, observed);
        record.run.notes.extend(self.keep_server_log(stage));
        Ok(Judged { record, history })
    }

    /// Keeps the log of a private server that died, and returns what went wrong with that.
    fn keep_server_log(&self, stage: &Stage) -> Option<String> {
        stage.server.cause_of_death()?;
        let kept = self.folder.keep_server_log(&stage.server.log_file()?);
        kept.err()
            .map(|error| format!("the server's log could not be kept: {error}"))
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        self.spec
            .workloads
            .iter()
            .map(|weighted| weighted.workload)
            .collect()
    }
}

/// Returns an id that no other run on this server shares: time and process, in hexadecimal.
fn run_id(now: Timestamp) -> String {
    let micros = now.as_microsecond().unsigned_abs() & 0xff_ffff_ffff;
    format!("{micros:010x}{:06x}", std::process::id() & 0xff_ffff)
}
