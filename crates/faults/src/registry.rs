//! The registry of proxies: a handle that many can hold, and one task that does what they ask.
//!
//! Operations run one after another in that task. A caller who goes away does not stop an
//! operation half-way, and no lock is held while a proxy stops or starts.

mod actor;
mod running;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::actor::Command;
use self::running::Shared;
use crate::error::{PopulateError, ProxyError, ToxicError};
use crate::proxy::{ProxyPatch, ProxySpec, ProxyView};
use crate::tally::ProxyStats;
use crate::toxic::{ToxicPatch, ToxicSpec, ToxicView};

/// Operations that may wait for the one before them; more callers wait for a place.
const COMMANDS_MAX: usize = 64;

/// All proxies of one control plane. Clones share them.
///
/// When the last clone is dropped every listener and link is closed, without waiting;
/// [`Proxies::shutdown`] waits.
#[derive(Clone)]
pub struct Proxies {
    inner: Arc<Inner>,
}

impl Proxies {
    /// An empty registry whose toxicity and jitter are drawn from `seed`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let index = Arc::new(Index::default());
        let mut task = JoinSet::new();
        task.spawn(actor::Actor::new(seed, Arc::clone(&index)).run(queue));
        Self {
            inner: Arc::new(Inner {
                commands,
                index,
                _task: task,
            }),
        }
    }

    /// Creates a proxy and, if it is enabled, starts it.
    ///
    /// # Errors
    /// [`ProxyError::MissingField`], [`ProxyError::AlreadyExists`]; [`ProxyError::Resolve`] and
    /// [`ProxyError::Bind`], after which there is no such proxy; [`ProxyError::ShutDown`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn create(&self, spec: ProxySpec) -> Result<ProxyView, ProxyError> {
        let asked = self.ask(|reply| Command::Create { spec, reply });
        asked.await.unwrap_or(Err(ProxyError::ShutDown))
    }

    /// Creates the proxies of a list, in order.
    ///
    /// One that exists with the same `listen` and `upstream` keeps its links and toxics, and is
    /// enabled or disabled as asked; one that differs is replaced, without its toxics.
    ///
    /// # Errors
    /// [`PopulateError`], with what was done before it.
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn populate(&self, specs: Vec<ProxySpec>) -> Result<Vec<ProxyView>, PopulateError> {
        let asked = self.ask(|reply| Command::Populate { specs, reply });
        asked.await.unwrap_or(Err(PopulateError {
            done: Vec::new(),
            cause: ProxyError::ShutDown,
        }))
    }

    /// Changes a proxy. A change of an address ends its links; see [`ProxyPatch`].
    ///
    /// # Errors
    /// [`ProxyError::NotFound`], [`ProxyError::MissingField`] for an empty upstream;
    /// [`ProxyError::Resolve`]; [`ProxyError::Bind`], after which the proxy has its new addresses
    /// and is disabled; [`ProxyError::ShutDown`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn update(&self, name: &str, patch: ProxyPatch) -> Result<ProxyView, ProxyError> {
        let name = name.to_owned();
        let asked = self.ask(|reply| Command::Update { name, patch, reply });
        asked.await.unwrap_or(Err(ProxyError::ShutDown))
    }

    /// Starts a disabled proxy on the port that it had.
    ///
    /// # Errors
    /// As [`Proxies::update`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn enable(&self, name: &str) -> Result<ProxyView, ProxyError> {
        let patch = ProxyPatch {
            enabled: Some(true),
            ..ProxyPatch::default()
        };
        self.update(name, patch).await
    }

    /// Stops a proxy: its links end, and new connections are refused once this returns.
    ///
    /// # Errors
    /// As [`Proxies::update`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn disable(&self, name: &str) -> Result<ProxyView, ProxyError> {
        let patch = ProxyPatch {
            enabled: Some(false),
            ..ProxyPatch::default()
        };
        self.update(name, patch).await
    }

    /// Deletes a proxy. Its links have ended when this returns.
    ///
    /// # Errors
    /// [`ProxyError::NotFound`], [`ProxyError::ShutDown`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn delete(&self, name: &str) -> Result<(), ProxyError> {
        let name = name.to_owned();
        let asked = self.ask(|reply| Command::Delete { name, reply });
        asked.await.unwrap_or(Err(ProxyError::ShutDown))
    }

    /// Returns a proxy.
    ///
    /// # Errors
    /// [`ProxyError::NotFound`], [`ProxyError::ShutDown`].
    /// # Cancel safety
    /// Safe.
    pub async fn get(&self, name: &str) -> Result<ProxyView, ProxyError> {
        let name = name.to_owned();
        let asked = self.ask(|reply| Command::Get { name, reply });
        asked.await.unwrap_or(Err(ProxyError::ShutDown))
    }

    /// Returns all proxies by name.
    ///
    /// # Errors
    /// [`ProxyError::ShutDown`].
    /// # Cancel safety
    /// Safe.
    pub async fn list(&self) -> Result<Vec<ProxyView>, ProxyError> {
        let asked = self.ask(|reply| Command::List { reply });
        asked.await.ok_or(ProxyError::ShutDown)
    }

    /// Starts every disabled proxy and removes every toxic.
    ///
    /// # Errors
    /// [`ProxyError::Resolve`] or [`ProxyError::Bind`] of the first proxy that cannot start; those
    /// after it by name are left as they were. [`ProxyError::ShutDown`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn reset(&self) -> Result<(), ProxyError> {
        let asked = self.ask(|reply| Command::Reset { reply });
        asked.await.unwrap_or(Err(ProxyError::ShutDown))
    }

    /// Adds a toxic. It is in force for every byte that is sent to the proxy after this returns.
    ///
    /// # Errors
    /// [`ToxicError`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn add_toxic(&self, proxy: &str, spec: ToxicSpec) -> Result<ToxicView, ToxicError> {
        let proxy = proxy.to_owned();
        let asked = self.ask(|reply| Command::AddToxic { proxy, spec, reply });
        asked.await.unwrap_or(Err(ToxicError::ShutDown))
    }

    /// Changes a toxic's attributes or toxicity, also for bytes that it holds.
    ///
    /// # Errors
    /// [`ToxicError`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn update_toxic(
        &self,
        proxy: &str,
        toxic: &str,
        patch: ToxicPatch,
    ) -> Result<ToxicView, ToxicError> {
        let (proxy, toxic) = (proxy.to_owned(), toxic.to_owned());
        let asked = self.ask(|reply| Command::UpdateToxic {
            proxy,
            toxic,
            patch,
            reply,
        });
        asked.await.unwrap_or(Err(ToxicError::ShutDown))
    }

    /// Removes a toxic. What it holds is delivered at once; a `timeout` closes its links.
    ///
    /// # Errors
    /// [`ToxicError`].
    /// # Cancel safety
    /// A dropped call may still be carried out in full.
    pub async fn remove_toxic(&self, proxy: &str, toxic: &str) -> Result<(), ToxicError> {
        let (proxy, toxic) = (proxy.to_owned(), toxic.to_owned());
        let asked = self.ask(|reply| Command::RemoveToxic {
            proxy,
            toxic,
            reply,
        });
        asked.await.unwrap_or(Err(ToxicError::ShutDown))
    }

    /// Returns a proxy's toxics, those of the upstream direction first.
    ///
    /// # Errors
    /// [`ToxicError::ProxyNotFound`], [`ToxicError::ShutDown`].
    /// # Cancel safety
    /// Safe.
    pub async fn toxics(&self, proxy: &str) -> Result<Vec<ToxicView>, ToxicError> {
        let proxy = proxy.to_owned();
        let asked = self.ask(|reply| Command::Toxics { proxy, reply });
        asked.await.unwrap_or(Err(ToxicError::ShutDown))
    }

    /// Returns one toxic.
    ///
    /// # Errors
    /// [`ToxicError`].
    /// # Cancel safety
    /// Safe.
    pub async fn toxic(&self, proxy: &str, toxic: &str) -> Result<ToxicView, ToxicError> {
        let found = self.toxics(proxy).await?;
        found
            .into_iter()
            .find(|view| view.name == toxic)
            .ok_or_else(|| ToxicError::NotFound {
                proxy: proxy.to_owned(),
                toxic: toxic.to_owned(),
            })
    }

    /// Returns what a proxy has done so far.
    ///
    /// # Errors
    /// [`ProxyError::NotFound`].
    pub fn stats(&self, proxy: &str) -> Result<ProxyStats, ProxyError> {
        Ok(self.inner.index.find(proxy)?.tally.stats())
    }

    /// Orders every link of a proxy to reset both sides, and returns how many there were.
    ///
    /// It does not wait: [`ProxyStats::links_reset_total`] counts the resets that were sent.
    /// Connections accepted after this are not touched.
    ///
    /// # Errors
    /// [`ProxyError::NotFound`].
    pub fn reset_links(&self, proxy: &str) -> Result<u64, ProxyError> {
        Ok(self.inner.index.find(proxy)?.reset_links())
    }

    /// Ends every listener and link, and waits until they have. There are no proxies afterwards,
    /// and every operation of any clone fails with `ShutDown` or `NotFound`.
    ///
    /// # Cancel safety
    /// A dropped call is still carried out in full.
    pub async fn shutdown(&self) {
        // No answer means that it was shut down before, which is what the caller wants.
        self.ask(|reply| Command::ShutDown { reply }).await;
    }

    /// Puts a question to the actor; `None` when it has been shut down.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inner.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}

struct Inner {
    commands: mpsc::Sender<Command>,
    index: Arc<Index>,
    /// Aborted on drop, and with it everything that the actor owns.
    _task: JoinSet<()>,
}

/// What can be read without the actor. The lock is never held across an await.
#[derive(Debug, Default)]
struct Index {
    proxies: Mutex<BTreeMap<String, Arc<Shared>>>,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Shared>>> {
        // Every change of the map is one insert, remove or clear, so a panic leaves it whole.
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<Arc<Shared>, ProxyError> {
        self.lock()
            .get(name)
            .cloned()
            .ok_or_else(|| ProxyError::NotFound {
                name: name.to_owned(),
            })
    }
}
