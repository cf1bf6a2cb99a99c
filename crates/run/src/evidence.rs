//! What a trial leaves behind: values only, from which everything about it is judged and reported.

use poolproof_load::{Histograms, SubjectInfo};
use poolproof_oracle::{CutShort, Ended, Judgement, Observations};
use poolproof_report::Environment;
use tokio::time::Instant;

use crate::bench::Bench;
use crate::drive::Loaded;
use crate::observe::Observed;
use crate::stage::Stage;
use crate::time::micros;
use crate::trial::Planned;

/// The log of a private server that died, beside the report.
pub(crate) const SERVER_LOG: &str = "server.log";

/// Everything that was seen of one trial.
pub struct Evidence {
    pub(crate) trial: Planned,
    pub(crate) subject: SubjectInfo,
    pub(crate) environment: Environment,
    pub(crate) loaded: Loaded,
    pub(crate) observed: Observed,
    pub(crate) ended: Ended,
    pub(crate) histograms: Histograms,
    /// What went wrong beside the ops, for the reader.
    pub(crate) notes: Vec<String>,
    /// When all had been looked at.
    pub(crate) looked_at: Instant,
}

impl Evidence {
    pub(crate) fn new(
        trial: &Planned,
        stage: &Stage<'_>,
        loaded: Loaded,
        observed: Observed,
    ) -> Self {
        let histograms = Histograms::from_records(&loaded.records, &loaded.seen.connect_us);
        Self {
            ended: ended(stage.bench, &loaded, &observed),
            subject: stage.subject.info(),
            environment: environment(stage.bench, trial),
            notes: [&loaded.notes[..], &observed.notes].concat(),
            trial: trial.clone(),
            loaded,
            observed,
            histograms,
            looked_at: Instant::now(),
        }
    }

    /// Judges the trial. The same evidence gives the same judgement.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let Self {
            loaded, observed, ..
        } = self;
        let evidence = poolproof_oracle::Evidence {
            observations: Observations {
                limits: self.trial.limits(),
                ops: &loaded.records,
                faults: &loaded.faults,
                stalls: &loaded.stalls,
                samples: &loaded.seen.samples,
                pool: Ok(observed.pool),
                server: observed.server.clone(),
                capacity: observed.capacity.clone(),
                store: observed.store.as_ref().map_err(Clone::clone),
                bank_snapshots: &loaded.seen.bank,
                bank_unseen: loaded.seen.bank_unseen.as_deref(),
            },
            ended: self.ended.clone(),
            load_end_us: micros(loaded.offered_for),
            lag_p99_us: self.histograms.lag.value_at_quantile(0.99),
            proxy: observed.proxy.clone(),
        };
        poolproof_oracle::judge(&evidence, &self.trial.objectives())
    }
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence")
            .field("trial", &self.trial.id)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

fn ended(bench: &Bench, loaded: &Loaded, observed: &Observed) -> Ended {
    let cause = || match bench.server.cause_of_death() {
        Some(cause) => {
            format!("the server died ({cause}); see {SERVER_LOG} beside the report, then run again")
        }
        None => "the server answers no more: see whether it is up and what its log says, then run \
                 again"
            .to_owned(),
    };
    match loaded.cut_short {
        Some((CutShort::Interrupted, at)) => Ended::Interrupted { at_us: micros(at) },
        Some((CutShort::ServerLost, at)) => Ended::ServerLost {
            at_us: Some(micros(at)),
            cause: cause(),
        },
        None if observed.server_lost => Ended::ServerLost {
            at_us: None,
            cause: cause(),
        },
        None => Ended::Whole,
    }
}

fn environment(bench: &Bench, trial: &Planned) -> Environment {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // An existing server keeps its own settings.
    let took = bench.server.capabilities().settings;
    let settings = took.then(|| trial.trial.scenario.postgres.settings.clone());
    Environment {
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        postgres: bench.info.version_text.clone(),
        postgres_source: bench.server.source(),
        postgres_settings: settings.unwrap_or_default(),
    }
}
