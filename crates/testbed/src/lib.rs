//! A Postgres to break: private local clusters, containers, existing servers, server faults.
//!
//! A [`Cluster`] is a private Postgres on loopback that lives as long as its value, a
//! [`Container`] one in a container. [`Existing`] stands for a server that is there already, and
//! [`Server`] for any of the three. [`Admin`] looks at it over a direct connection and injects
//! [`ServerFault`]s. [`reap`] removes what killed runs left.
//!
//! A [`PgBouncer`] can stand in front of a cluster.
//!
//! Nothing of a cluster or container outlives it: processes, directories and shared memory go when
//! it is stopped or dropped, and with the next run when this one is killed.
//!
//! | variable | says |
//! |---|---|
//! | `POOLPROOF_PG_BIN` | the directory of `postgres`, `initdb` and `pg_ctl`; no other is taken then |
//! | `POOLPROOF_HOME` | where templates, downloads and running clusters live; default `/var/cache/poolproof` for root, else `poolproof` in the user's cache directory |
//! | `POOLPROOF_PG_DOWNLOAD_URL` | where to download a Postgres from when there is none, with `{version}` and `{target}` |
//! | `DOCKER_HOST` | where the container engine is; default `unix:///var/run/docker.sock` |
//! | `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`, … | the way to that place |
//!
//! Not here: whether a run may aim at an existing server (the run crate decides), faults on the
//! way to the server (the faults crate).

mod account;
mod admin;
mod binaries;
mod cluster;
mod container;
mod download;
mod home;
mod install;
mod last_words;
mod lock;
mod postmaster_pid;
mod process;
mod processes;
mod random;
mod reap;
mod run_dir;
mod server;
mod settings;
mod settle;
mod shared_memory;
mod teardown;
mod template;
mod version;
mod view;
mod wait;

pub use account::{AccountError, server_user};
pub use admin::{ADMIN_APPLICATION_NAME, ADMIN_DEADLINE, Admin, AdminError, InjectError};
pub use binaries::{Binaries, FindError, PG_BIN_VARIABLE, Unusable, find_binaries};
pub use cluster::{
    Cluster, LocalConfig, PgBouncer, PgBouncerError, PoolMode, RefusedSetting, START_DEADLINE,
    StartError,
};
pub use container::{
    Container, ContainerConfig, ContainerError, DEFAULT_IMAGE, ImageName, ImageNameError,
    RUN_LABEL, RemovalError,
};
pub use download::{DOWNLOAD_URL_VARIABLE, DOWNLOAD_VERSION, DownloadError, UnpackError};
pub use home::{HOME_VARIABLE, HomeError, default_home, reachable_home};
pub use install::install_hint;
pub use process::ProcessError;
pub use reap::{ReapError, Reaped, reap};
pub use server::{Capabilities, Existing, Server};
pub use settings::{RESERVED_SETTINGS, SettingError, check_setting};
pub use settle::settled;
pub use shared_memory::SharedMemoryError;
pub use teardown::StopError;
pub use template::TemplateError;
pub use version::Version;
pub use view::{Backend, BackendTarget, ServerFault, ServerFaultEffect, ServerInfo};
