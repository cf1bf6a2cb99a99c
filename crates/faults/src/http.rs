//! Toxiproxy's HTTP API: which request asks what of [`Proxies`], and how it is answered.
//!
//! A `stream` is accepted in any case, as in the original, and told in lower case.
//!
//! Not here: `/metrics`, which the original has only behind flags and answers 404 otherwise.

mod body;
mod reply;
mod server;

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::USER_AGENT;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

pub use server::{ServeError, serve};

use self::body::{BodyError, Fields};
use self::reply::Failure;
use crate::proxy::ProxySpec;
use crate::registry::Proxies;
use crate::toxic::Toxic;

/// The version of Toxiproxy whose API this is, as `/version` tells it.
pub const VERSION: &str = "2.12.0";

/// How long a request may take before it is answered with 503, as in Toxiproxy.
const REQUEST_MAX: Duration = Duration::from_secs(25);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-toxiproxy-request-id");

fn router(proxies: Proxies) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/reset", post(reset))
        .route("/populate", post(populate))
        .route("/proxies", get(list).post(create))
        .route(
            "/proxies/{proxy}",
            get(show).post(update).patch(update).delete(delete),
        )
        .route("/proxies/{proxy}/toxics", get(toxics).post(add_toxic))
        .route(
            "/proxies/{proxy}/toxics/{toxic}",
            get(show_toxic)
                .post(update_toxic)
                .patch(update_toxic)
                .delete(remove_toxic),
        )
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED)
        .route_layer(middleware::from_fn(around))
        .fallback(async || reply::plain(StatusCode::NOT_FOUND, "404 page not found\n"))
        .with_state(proxies)
}

/// What surrounds every routed request: the request id, the refusal of browsers, the time limit.
async fn around(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD {
        return reply::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let id = reply::next_request_id();
    let agent = request.headers().get(USER_AGENT);
    let mut response = if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/")) {
        reply::plain(StatusCode::FORBIDDEN, "User agent not allowed\n")
    } else {
        match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
            Ok(response) => response,
            Err(_) => reply::empty(StatusCode::SERVICE_UNAVAILABLE),
        }
    };
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn version() -> Response {
    let text = format!("{{\"version\": \"{VERSION}\"}}\n");
    let content_type = HeaderValue::from_static("application/json;charset=utf-8");
    reply::with_type(StatusCode::OK, content_type, text)
}

async fn reset(State(proxies): State<Proxies>) -> Result<Response, Failure> {
    proxies.reset().await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn populate(State(proxies): State<Proxies>, body: Bytes) -> Response {
    let outcome = match body::proxy_list(&body) {
        Ok(specs) => proxies.populate(specs).await.map_err(|error| {
            let failure = Failure::from(error.cause);
            (failure, error.done)
        }),
        Err(error) => Err((Failure::from(error), Vec::new())),
    };
    reply::populated(outcome)
}

async fn list(State(proxies): State<Proxies>) -> Result<Response, Failure> {
    let views = proxies.list().await?;
    Ok(reply::json(StatusCode::OK, &reply::by_name(&views)))
}

async fn create(State(proxies): State<Proxies>, body: Bytes) -> Result<Response, Failure> {
    let spec: ProxySpec = body::proxy_spec(&Fields::read(&body)?)?;
    let view = proxies.create(spec).await?;
    Ok(reply::json(StatusCode::CREATED, &view))
}

async fn show(
    State(proxies): State<Proxies>,
    Path(proxy): Path<String>,
) -> Result<Response, Failure> {
    let view = proxies.get(&proxy).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

async fn update(
    State(proxies): State<Proxies>,
    Path(proxy): Path<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    // A proxy that does not exist is told before a body that cannot be read, as in Toxiproxy.
    proxies.get(&proxy).await?;
    let patch = body::proxy_patch(&Fields::read(&body)?)?;
    let view = proxies.update(&proxy, patch).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

async fn delete(
    State(proxies): State<Proxies>,
    Path(proxy): Path<String>,
) -> Result<Response, Failure> {
    proxies.delete(&proxy).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn toxics(
    State(proxies): State<Proxies>,
    Path(proxy): Path<String>,
) -> Result<Response, Failure> {
    let views = proxies.toxics(&proxy).await?;
    Ok(reply::json(StatusCode::OK, &views))
}

async fn add_toxic(
    State(proxies): State<Proxies>,
    Path(proxy): Path<String>,
    body: Bytes,
) -> Result<Response, Failure> {
    proxies.get(&proxy).await?;
    let spec = body::toxic_spec(&Fields::read(&body)?)?;
    let view = proxies.add_toxic(&proxy, spec).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

async fn show_toxic(
    State(proxies): State<Proxies>,
    Path((proxy, toxic)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let view = proxies.toxic(&proxy, &toxic).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

async fn update_toxic(
    State(proxies): State<Proxies>,
    Path((proxy, toxic)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Failure> {
    let current: Toxic = proxies.toxic(&proxy, &toxic).await?.toxic;
    let patch = body::toxic_patch(&Fields::read(&body)?, &current)?;
    let view = proxies.update_toxic(&proxy, &toxic, patch).await?;
    Ok(reply::json(StatusCode::OK, &view))
}

async fn remove_toxic(
    State(proxies): State<Proxies>,
    Path((proxy, toxic)): Path<(String, String)>,
) -> Result<Response, Failure> {
    proxies.remove_toxic(&proxy, &toxic).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests;
