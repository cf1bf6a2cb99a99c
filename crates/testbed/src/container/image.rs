//! Which image, and how a server in it is started: as with the official image of Postgres.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use testcontainers::bollard::models::PortBinding;
use testcontainers::core::{ContainerPort, ImageExt, WaitFor};
use testcontainers::{ContainerRequest, Image};

use super::labels::Labels;
use crate::settings::{SettingError, check_setting};
use crate::template::{DATABASE, SUPERUSER};

/// The image that is used when none is named.
pub const DEFAULT_IMAGE: &str = "postgres:17";

/// Where servers in a container listen.
pub(super) const PORT: u16 = 5432;

/// The name of an image: `name`, `name:tag`, `registry:port/name:tag` or `name@sha256:digest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    name: String,
    tag: String,
}

/// Why a text names no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an image has a name such as {DEFAULT_IMAGE}")]
pub struct ImageNameError;

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The colon of a registry's port stands before a slash.
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        let strange = |text: &str| text.is_empty() || text.contains(char::is_whitespace);
        if strange(name) || strange(tag) {
            return Err(ImageNameError);
        }
        Ok(Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

impl Default for ImageName {
    fn default() -> Self {
        DEFAULT_IMAGE
            .parse()
            .expect("bug: the default image has a strange name")
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// A Postgres as the official image starts it.
#[derive(Debug)]
pub(super) struct Postgres(ImageName);

impl Image for Postgres {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn tag(&self) -> &str {
        &self.0.tag
    }

    /// None: what an image prints differs, and the answer to a query does not.
    fn ready_conditions(&self) -> Vec<WaitFor> {
        Vec::new()
    }

    fn expose_ports(&self) -> &[ContainerPort] {
        &[ContainerPort::Tcp(PORT)]
    }
}

/// What a container is asked for.
pub(super) struct Order<'a> {
    pub(super) image: &'a ImageName,
    pub(super) settings: &'a BTreeMap<String, String>,
    pub(super) cluster_name: &'a str,
    pub(super) password: &'a str,
    pub(super) labels: &'a Labels,
    /// Whether the engine is on this machine, so that its ports need not be open to others.
    pub(super) engine_is_here: bool,
}

impl Order<'_> {
    pub(super) fn request(&self) -> Result<ContainerRequest<Postgres>, SettingError> {
        let request = Postgres(self.image.clone())
            .with_cmd(arguments(self.settings, self.cluster_name)?)
            .with_env_var("POSTGRES_USER", SUPERUSER)
            .with_env_var("POSTGRES_PASSWORD", self.password)
            .with_env_var("POSTGRES_DB", DATABASE)
            .with_labels(self.labels.all());
        if !self.engine_is_here {
            return Ok(request);
        }
        Ok(request.with_host_config_modifier(|host| {
            host.publish_all_ports = Some(false);
            let loopback = PortBinding {
                host_ip: Some("127.0.0.1".into()),
                host_port: Some(String::new()),
            };
            let ports = host.port_bindings.get_or_insert_default();
            ports.insert(format!("{PORT}/tcp"), Some(vec![loopback]));
        }))
    }
}

/// The server's arguments; later ones win over earlier ones.
fn arguments(
    settings: &BTreeMap<String, String>,
    cluster_name: &str,
) -> Result<Vec<String>, SettingError> {
    let mut arguments = Vec::new();
    let mut put = |name: &str, value: &str| {
        arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
    };
    put("max_connections", "100");
    for (name, value) in settings {
        check_setting(name, value)?;
        put(name, value);
    }
    // By it the server is known again: another one may answer at its address.
    put("cluster_name", cluster_name);
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_as_everywhere() {
        for (text, name, tag) in [
            ("postgres", "postgres", "latest"),
            ("postgres:17", "postgres", "17"),
            ("reg:5000/a/pg", "reg:5000/a/pg", "latest"),
            ("reg:5000/a/pg:15", "reg:5000/a/pg", "15"),
            ("pg@sha256:00ff", "pg@sha256", "00ff"),
        ] {
            let image: ImageName = text.parse().unwrap();
            assert_eq!((image.name.as_str(), image.tag.as_str()), (name, tag));
        }
        for text in ["", ":17", "pg:", "a b"] {
            assert_eq!(text.parse::<ImageName>(), Err(ImageNameError), "{text}");
        }
        assert_eq!(ImageName::default().to_string(), DEFAULT_IMAGE);
    }

    #[test]
    fn settings_become_arguments_and_reserved_ones_are_refused() {
        let chosen = |name: &str| BTreeMap::from([(name.to_owned(), "7 MB".to_owned())]);
        assert_eq!(
            arguments(&chosen("work_mem"), "c").unwrap(),
            [
                "-c",
                "max_connections=100",
                "-c",
                "work_mem=7 MB",
                "-c",
                "cluster_name=c"
            ]
        );
        let refused = arguments(&chosen("port"), "c").unwrap_err();
        assert_eq!(
            refused,
            SettingError::Reserved {
                name: "port".into()
            }
        );
    }
}
