//! The task that owns the proxies and carries out one operation after another.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Index;
use super::running::Proxy;
use crate::chain::ActiveToxic;
use crate::error::{PopulateError, ProxyError, ToxicError};
use crate::proxy::{ProxyPatch, ProxySpec, ProxyView};
use crate::toxic::{ToxicPatch, ToxicSpec, ToxicView};

type Reply<T> = oneshot::Sender<T>;

/// One operation, and where its answer goes. An answer that nobody waits for is dropped.
pub(super) enum Command {
    Create {
        spec: ProxySpec,
        reply: Reply<Result<ProxyView, ProxyError>>,
    },
    Populate {
        specs: Vec<ProxySpec>,
        reply: Reply<Result<Vec<ProxyView>, PopulateError>>,
    },
    Update {
        name: String,
        patch: ProxyPatch,
        reply: Reply<Result<ProxyView, ProxyError>>,
    },
    Delete {
        name: String,
        reply: Reply<Result<(), ProxyError>>,
    },
    Get {
        name: String,
        reply: Reply<Result<ProxyView, ProxyError>>,
    },
    List {
        reply: Reply<Vec<ProxyView>>,
    },
    Reset {
        reply: Reply<Result<(), ProxyError>>,
    },
    AddToxic {
        proxy: String,
        spec: ToxicSpec,
        reply: Reply<Result<ToxicView, ToxicError>>,
    },
    UpdateToxic {
        proxy: String,
        toxic: String,
        patch: ToxicPatch,
        reply: Reply<Result<ToxicView, ToxicError>>,
    },
    RemoveToxic {
        proxy: String,
        toxic: String,
        reply: Reply<Result<(), ToxicError>>,
    },
    Toxics {
        proxy: String,
        reply: Reply<Result<Vec<ToxicView>, ToxicError>>,
    },
    ShutDown {
        reply: Reply<()>,
    },
}

pub(super) struct Actor {
    seed: u64,
    index: Arc<Index>,
    proxies: BTreeMap<String, Proxy>,
    toxics_added: u64,
}

impl Actor {
    pub(super) fn new(seed: u64, index: Arc<Index>) -> Self {
        Self {
            seed,
            index,
            proxies: BTreeMap::new(),
            toxics_added: 0,
        }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.recv().await {
            if let Command::ShutDown { reply } = command {
                // Whoever still waits in the queue gets no answer, which says "shut down".
                queue.close();
                self.stop_all().await;
                answer(reply, ());
                return;
            }
            self.execute(command).await;
        }
    }

    async fn execute(&mut self, command: Command) {
        match command {
            Command::Create { spec, reply } => answer(reply, self.create(spec).await),
            Command::Populate { specs, reply } => answer(reply, self.populate(specs).await),
            Command::Update { name, patch, reply } => {
                answer(reply, self.update(name, patch).await);
            }
            Command::Delete { name, reply } => answer(reply, self.delete(name).await),
            Command::Get { name, reply } => {
                answer(reply, self.find(name).map(|proxy| proxy.view()));
            }
            Command::List { reply } => {
                answer(reply, self.proxies.values().map(Proxy::view).collect());
            }
            Command::Reset { reply } => answer(reply, self.reset().await),
            Command::AddToxic { proxy, spec, reply } => {
                answer(reply, self.add_toxic(proxy, spec));
            }
            Command::UpdateToxic {
                proxy,
                toxic,
                patch,
                reply,
            } => answer(reply, self.update_toxic(proxy, toxic, &patch)),
            Command::RemoveToxic {
                proxy,
                toxic,
                reply,
            } => answer(reply, self.remove_toxic(proxy, toxic)),
            Command::Toxics { proxy, reply } => {
                answer(reply, self.toxic_owner(proxy).map(|p| p.toxic_views()));
            }
            Command::ShutDown { .. } => panic!("bug: a shut-down is not executed among others"),
        }
    }

    async fn create(&mut self, spec: ProxySpec) -> Result<ProxyView, ProxyError> {
        validate(&spec, None)?;
        if self.proxies.contains_key(&spec.name) {
            return Err(ProxyError::AlreadyExists { name: spec.name });
        }
        self.insert(spec).await
    }

    /// Starts a proxy and puts it in the place of another of its name, if there is one.
    async fn insert(&mut self, spec: ProxySpec) -> Result<ProxyView, ProxyError> {
        let listen = spec.listen.unwrap_or_default();
        let mut proxy = Proxy::new(self.seed, spec.name, listen, spec.upstream);
        if spec.enabled {
            proxy.start().await?;
        }
        let view = proxy.view();
        let name = proxy.name.clone();
        self.index
            .lock()
            .insert(name.clone(), Arc::clone(&proxy.shared));
        self.proxies.insert(name, proxy);
        Ok(view)
    }

    async fn populate(&mut self, specs: Vec<ProxySpec>) -> Result<Vec<ProxyView>, PopulateError> {
        let mut done = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            if let Err(cause) = validate(spec, Some(index + 1)) {
                return Err(PopulateError { done, cause });
            }
        }
        for spec in specs {
            match self.populate_one(spec).await {
                Ok(view) => done.push(view),
                Err(cause) => return Err(PopulateError { done, cause }),
            }
        }
        Ok(done)
    }

    async fn populate_one(&mut self, spec: ProxySpec) -> Result<ProxyView, ProxyError> {
        let Some(existing) = self.proxies.get_mut(&spec.name) else {
            return self.insert(spec).await;
        };
        let listen = spec.listen.clone().unwrap_or_default();
        if existing.differs(&listen, &spec.upstream).await? {
            existing.stop().await;
            return self.insert(spec).await;
        }
        existing.apply(listen, spec.upstream, spec.enabled).await?;
        Ok(existing.view())
    }

    async fn update(&mut self, name: String, patch: ProxyPatch) -> Result<ProxyView, ProxyError> {
        let proxy = self.find(name)?;
        let listen = patch.listen.unwrap_or_else(|| proxy.listen.clone());
        let upstream = patch.upstream.unwrap_or_else(|| proxy.upstream.clone());
        if upstream.is_empty() {
            return Err(ProxyError::MissingField {
                field: "upstream",
                position: None,
            });
        }
        let enabled = patch.enabled.unwrap_or_else(|| proxy.is_enabled());
        proxy.apply(listen, upstream, enabled).await?;
        Ok(proxy.view())
    }

    async fn delete(&mut self, name: String) -> Result<(), ProxyError> {
        let Some(mut proxy) = self.proxies.remove(&name) else {
            return Err(ProxyError::NotFound { name });
        };
        self.index.lock().remove(&name);
        proxy.stop().await;
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), ProxyError> {
        for proxy in self.proxies.values_mut() {
            if !proxy.is_enabled() {
                proxy.start().await?;
            }
            proxy.toxics.clear();
            proxy.publish_toxics();
        }
        Ok(())
    }

    async fn stop_all(&mut self) {
        self.index.lock().clear();
        for proxy in self.proxies.values_mut() {
            proxy.stop().await;
        }
        self.proxies.clear();
    }

    fn add_toxic(&mut self, proxy: String, spec: ToxicSpec) -> Result<ToxicView, ToxicError> {
        check_toxicity(spec.toxicity)?;
        self.toxics_added += 1;
        let id = self.toxics_added;
        let owner = self.toxic_owner(proxy)?;
        let default_name = || format!("{}_{}", spec.toxic.kind(), spec.stream);
        let view = ToxicView {
            name: spec
                .name
                .filter(|n| !n.is_empty())
                .unwrap_or_else(default_name),
            toxic: spec.toxic,
            stream: spec.stream,
            toxicity: spec.toxicity,
        };
        if owner
            .toxics
            .iter()
            .any(|known| known.view.name == view.name)
        {
            return Err(ToxicError::AlreadyExists {
                proxy: owner.name.clone(),
                toxic: view.name,
            });
        }
        owner.toxics.push(ActiveToxic {
            id,
            view: view.clone(),
        });
        owner.publish_toxics();
        Ok(view)
    }

    fn update_toxic(
        &mut self,
        proxy: String,
        toxic: String,
        patch: &ToxicPatch,
    ) -> Result<ToxicView, ToxicError> {
        if let Some(toxicity) = patch.toxicity {
            check_toxicity(toxicity)?;
        }
        let owner = self.toxic_owner(proxy)?;
        let position = position(owner, toxic)?;
        let view = &mut owner.toxics[position].view;
        view.toxic.set_attributes(&patch.attributes);
        view.toxicity = patch.toxicity.unwrap_or(view.toxicity);
        let view = view.clone();
        owner.publish_toxics();
        Ok(view)
    }

    fn remove_toxic(&mut self, proxy: String, toxic: String) -> Result<(), ToxicError> {
        let owner = self.toxic_owner(proxy)?;
        let position = position(owner, toxic)?;
        owner.toxics.remove(position);
        owner.publish_toxics();
        Ok(())
    }

    fn find(&mut self, name: String) -> Result<&mut Proxy, ProxyError> {
        match self.proxies.get_mut(&name) {
            Some(proxy) => Ok(proxy),
            None => Err(ProxyError::NotFound { name }),
        }
    }

    fn toxic_owner(&mut self, proxy: String) -> Result<&mut Proxy, ToxicError> {
        match self.proxies.get_mut(&proxy) {
            Some(owner) => Ok(owner),
            None => Err(ToxicError::ProxyNotFound { proxy }),
        }
    }
}

fn answer<T>(reply: Reply<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::trace!("the caller of an operation went away before its end");
    }
}

fn validate(spec: &ProxySpec, position: Option<usize>) -> Result<(), ProxyError> {
    for (field, value) in [("name", &spec.name), ("upstream", &spec.upstream)] {
        if value.is_empty() {
            return Err(ProxyError::MissingField { field, position });
        }
    }
    Ok(())
}

fn check_toxicity(toxicity: f64) -> Result<(), ToxicError> {
    if toxicity.is_finite() {
        Ok(())
    } else {
        Err(ToxicError::ToxicityNotFinite)
    }
}

fn position(proxy: &Proxy, toxic: String) -> Result<usize, ToxicError> {
    let found = proxy
        .toxics
        .iter()
        .position(|known| known.view.name == toxic);
    found.ok_or_else(|| ToxicError::NotFound {
        proxy: proxy.name.clone(),
        toxic,
    })
}
