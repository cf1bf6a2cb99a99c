//! Why an operation on proxies or toxics failed: one enum per kind of thing operated on.

use std::io;

use crate::proxy::ProxyView;

/// Why an operation on a proxy failed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// There is no proxy of this name.
    #[error("find proxy {name:?}")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// The name is taken.
    #[error("create proxy {name:?} because the name is taken")]
    AlreadyExists {
        /// The name asked for.
        name: String,
    },
    /// A field that a proxy needs is missing or empty.
    #[error("use a proxy without {field:?}")]
    MissingField {
        /// `name` or `upstream`.
        field: &'static str,
        /// Which proxy of a list it is, from 1; `None` outside of lists.
        position: Option<usize>,
    },
    /// The listen address is not one.
    #[error("resolve listen address {listen:?}")]
    Resolve {
        /// The address asked for.
        listen: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The listen address cannot be bound.
    #[error("listen on {listen}")]
    Bind {
        /// The resolved address.
        listen: String,
        /// Why it cannot be bound.
        #[source]
        source: io::Error,
    },
    /// The registry was shut down.
    #[error("use proxies that were shut down")]
    ShutDown,
}

/// Why a list of proxies was not created in full.
#[derive(Debug, thiserror::Error)]
#[error("create all proxies of the list, {} done", done.len())]
pub struct PopulateError {
    /// The proxies that were created or found before the failing one; they stay.
    pub done: Vec<ProxyView>,
    /// What failed. Nothing was created when it is [`ProxyError::MissingField`].
    #[source]
    pub cause: ProxyError,
}

/// Why an operation on a toxic failed.
#[derive(Debug, thiserror::Error)]
pub enum ToxicError {
    /// There is no proxy of this name.
    #[error("find proxy {proxy:?}")]
    ProxyNotFound {
        /// The name asked for.
        proxy: String,
    },
    /// The proxy has no toxic of this name.
    #[error("find toxic {toxic:?} of proxy {proxy:?}")]
    NotFound {
        /// The proxy.
        proxy: String,
        /// The name asked for.
        toxic: String,
    },
    /// The proxy has a toxic of this name.
    #[error("add toxic {toxic:?} to proxy {proxy:?} because the name is taken")]
    AlreadyExists {
        /// The proxy.
        proxy: String,
        /// The name asked for.
        toxic: String,
    },
    /// The toxicity is infinite or not a number.
    #[error("use a toxicity that is not a finite number")]
    ToxicityNotFinite,
    /// The registry was shut down.
    #[error("use proxies that were shut down")]
    ShutDown,
}
