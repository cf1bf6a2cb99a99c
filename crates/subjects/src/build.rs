//! From a name and a configuration to a subject that is connected.

use std::sync::Arc;

use poolproof_load::Subject;
use poolproof_pool::ConfigError;

use crate::planted::NaiveSubject;
use crate::poolproof::PoolproofSubject;
use crate::sqlx_pool::SqlxSubject;
use crate::{SubjectConfig, SubjectKind};

/// Why a subject could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration allows no connection at all.
    #[error("build the pool: pool_size is 0; for a pool without a limit set max_overflow = -1")]
    NoConnections,
    /// The subject needs a limit.
    #[error("build the pool: it needs a limit, and max_overflow = {max_overflow} means none")]
    Unlimited {
        /// As configured.
        max_overflow: i32,
    },
    /// The pool refuses the configuration.
    #[error("build the pool")]
    Config {
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// The limit is beyond what a server takes.
    #[error("build the pool: pool_size + max_overflow may be at most {limit_max}")]
    TooMany {
        /// The largest limit.
        limit_max: u32,
    },
    /// The first connection could not be opened.
    #[error("open the pool's first connection")]
    Connect {
        /// Why not.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The first connection took longer than `pool_timeout`.
    #[error("open the pool's first connection within pool_timeout")]
    ConnectTimedOut,
}

/// Builds a subject and opens its first connection, so that a wrong password is one error here
/// and not one per op.
///
/// # Errors
/// [`BuildError`]: a configuration that the subject cannot have, or no connection within
/// `pool_timeout`.
///
/// # Cancel safety
/// Safe: what was opened is closed again.
pub async fn build(
    kind: SubjectKind,
    config: SubjectConfig,
) -> Result<Arc<dyn Subject>, BuildError> {
    match kind {
        SubjectKind::Poolproof => Ok(Arc::new(PoolproofSubject::connect(config).await?)),
        SubjectKind::Sqlx => Ok(Arc::new(SqlxSubject::connect(config).await?)),
        SubjectKind::Naive => Ok(Arc::new(NaiveSubject::connect(config, None).await?)),
        SubjectKind::Planted(bug) => Ok(Arc::new(NaiveSubject::connect(config, Some(bug)).await?)),
    }
}
