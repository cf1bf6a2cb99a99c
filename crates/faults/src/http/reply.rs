//! Answers: JSON, Toxiproxy's error texts, and its content types.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::BodyError;
use crate::error::{ProxyError, ToxicError};
use crate::proxy::ProxyView;

/// An error as Toxiproxy words it.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    error: String,
    status: u16,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            status: status.as_u16(),
        }
    }

    fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).expect("bug: a failure without a status")
    }
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "proxy not found"),
            ProxyError::AlreadyExists { .. } => {
                Self::new(StatusCode::CONFLICT, "proxy already exists")
            }
            ProxyError::MissingField { field, position } => {
                let mut text = format!("missing required field: {field}");
                if let Some(position) = position {
                    text = format!("{text} at proxy {position}");
                }
                Self::new(StatusCode::BAD_REQUEST, text)
            }
            ProxyError::Resolve { listen, source } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("listen tcp: address {listen}: {}", os_text(&source)),
            ),
            ProxyError::Bind { listen, source } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("listen tcp {listen}: bind: {}", os_text(&source)),
            ),
            ProxyError::ShutDown => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "shut down"),
        }
    }
}

impl From<ToxicError> for Failure {
    fn from(error: ToxicError) -> Self {
        match error {
            ToxicError::ProxyNotFound { .. } => Self::new(StatusCode::NOT_FOUND, "proxy not found"),
            ToxicError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "toxic not found"),
            ToxicError::AlreadyExists { .. } => {
                Self::new(StatusCode::CONFLICT, "toxic already exists")
            }
            ToxicError::ToxicityNotFinite => Self::new(
                StatusCode::BAD_REQUEST,
                "bad request body: toxicity is not finite",
            ),
            ToxicError::ShutDown => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "shut down"),
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        let text = match error {
            BodyError::Stream(_) => {
                "stream was invalid, can be either upstream or downstream".to_owned()
            }
            BodyError::ToxicType(_) => "invalid toxic type".to_owned(),
            BodyError::Empty
            | BodyError::Truncated
            | BodyError::Syntax(_)
            | BodyError::Shape { .. }
            | BodyError::Field { .. } => format!("bad request body: {error}"),
        };
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // JSON that calls itself text is how Go's `http.Error` sends it; clients rely on it.
        plain(self.code(), encode(&self) + "\n")
    }
}

/// What `/populate` answers, failed or not.
#[derive(Serialize)]
struct Populated<'a> {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    proxies: Option<&'a [ProxyView]>,
}

pub(super) fn populated(outcome: Result<Vec<ProxyView>, (Failure, Vec<ProxyView>)>) -> Response {
    let (status, failure, done) = match outcome {
        Ok(done) => (StatusCode::CREATED, None, done),
        Err((failure, done)) => (failure.code(), Some(failure), done),
    };
    let body = Populated {
        failure,
        // An empty list of Go's is `null`.
        proxies: (!done.is_empty()).then_some(&done),
    };
    json(status, &body)
}

/// Proxies as `/proxies` lists them: an object with their names as keys.
pub(super) fn by_name(views: &[ProxyView]) -> BTreeMap<&str, &ProxyView> {
    views
        .iter()
        .map(|view| (view.name.as_str(), view))
        .collect()
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    with_type(status, content_type, encode(value))
}

/// A text as Go's `http.Error` sends it.
pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    let mut response = with_type(status, content_type, text.into());
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(super) fn with_type(status: StatusCode, content_type: HeaderValue, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Returns an id that no other request of this process has; 20 characters like the original's.
pub(super) fn next_request_id() -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::from_str(&format!("{id:020x}")).expect("bug: hexadecimal digits are a header")
}

fn encode(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("bug: an answer has only texts as keys")
}

/// The operating system's words for an error, as Go prints them: lower case and without a number.
fn os_text(error: &io::Error) -> String {
    let cause = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let text = match cause.find(" (os error ") {
        Some(end) => &cause[..end],
        None => &cause,
    };
    text.to_lowercase()
}
