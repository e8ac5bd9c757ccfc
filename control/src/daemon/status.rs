//! What the daemon says about itself: `GET /v1/status`, `GET /v1/health`, `GET /metrics` and two probes on its socket; the latter
//! three by TCP, too, where `metrics` is configured.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use levee_api::diagnostic::Diagnostic;
use levee_api::program::Generation;
use levee_api::report::Problem;
use serde::{Deserialize, Serialize};

use super::metrics::Metrics;
use super::standing::Standing;
use crate::allocate::Addresses;
use crate::compile::Role;
use crate::election::ElectionStatus;
use crate::notice::Notice;
use crate::publish;

pub use levee_api::report::Health;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_seconds: u64,
    /// Whose program is compiled.
    pub node: String,
    /// What that dataplane does.
    pub role: Role,
    /// Input is good, and the dataplane takes what it is told.
    pub health: Health,
    /// Where objects come from.
    pub sources: Vec<SourceStatus>,
    /// Seconds since input was accepted last; absent before the first time.
    pub compiled_seconds_ago: Option<u64>,
    /// Services compiled then, one for each port and family.
    pub services: usize,
    /// Addresses that are levee's alone.
    pub vips: usize,
    /// Backends, over all services.
    pub backends: usize,
    /// What is wrong with the input since then; empty when its newest state is in force.
    pub mistakes: Vec<Diagnostic>,
    /// What is worth telling about the input that is in force.
    pub notices: Vec<Notice>,
    /// How the dataplane stands.
    pub dataplane: Dataplane,
    /// How the candidate for assigning addresses stands; absent if this process is none.
    pub allocator: Option<publish::Report>,
    /// Who announces which address; absent where nothing is elected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<ElectionStatus>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// A path, or a kind of object in a cluster.
    pub name: String,
    /// Whether it was read completely at least once.
    pub complete: bool,
    /// Seconds for which it has not been able to say what there is: so stale is what is in force of it.
    pub failing_seconds: Option<u64>,
}

/// The dataplane, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataplane {
    /// Its control socket; `none` where there is no dataplane.
    pub socket: String,
    /// How it stands.
    pub state: DataplaneState,
    /// The generation that it runs, as far as is known.
    pub generation: Option<Generation>,
    /// Why it is refused or unreachable.
    pub message: Option<String>,
}

/// How the dataplane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataplaneState {
    /// Not asked yet.
    Unknown,
    /// It answers, and does not run what was compiled last yet; or nothing was compiled yet.
    Reached,
    /// It runs what was compiled last.
    InStep,
    /// It does not take what was compiled last.
    Refused,
    /// It cannot be reached.
    Unreachable,
}

pub(super) fn router(standing: Arc<Standing>, metrics: Arc<Metrics>) -> Router {
    let refuse =
        |status: StatusCode, error: &str| (status, Json(Problem { error: error.to_owned(), generation: None }));
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/addresses", get(addresses))
        .route("/v1/health", get(health))
        .route("/metrics", get(page).with_state((Arc::clone(&standing), metrics)))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .fallback(async move || {
            let there = "no such path; there are /v1/status, /v1/addresses, /v1/health, /metrics, /livez and /readyz";
            refuse(StatusCode::NOT_FOUND, there)
        })
        .method_not_allowed_fallback(async move || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this socket only tells; use GET")
        })
        .with_state(standing)
}

/// What is behind the TCP listener of `metrics`: three pages, and no way to anything else.
pub(super) fn metrics_router(standing: Arc<Standing>, metrics: Arc<Metrics>) -> Router {
    let refuse = |status: StatusCode, error: &str| {
        (status, Json(Problem { error: error.to_owned(), generation: None })).into_response()
    };
    Router::new()
        .route("/metrics", get(page))
        .route("/livez", get(live))
        .route("/readyz", get(ready).with_state(Arc::clone(&standing)))
        .fallback(async move || refuse(StatusCode::NOT_FOUND, "no such path; there are /metrics, /livez and /readyz"))
        .method_not_allowed_fallback(async move || refuse(StatusCode::METHOD_NOT_ALLOWED, "this only tells; use GET"))
        .with_state((standing, metrics))
}

async fn page(State((standing, metrics)): State<(Arc<Standing>, Arc<Metrics>)>) -> impl IntoResponse {
    ([(CONTENT_TYPE, levee_api::metrics::CONTENT_TYPE)], metrics.page(&standing.status(), &standing.published()))
}

/// Whether a restart would help: the loop that serves this turns, so no. Nothing outside of this process counts.
async fn live() -> &'static str {
    "ok\n"
}

/// Whether the first sync is applied: every source was read, and the dataplane runs the result.
async fn ready(State(standing): State<Arc<Standing>>) -> (StatusCode, String) {
    match standing.missing() {
        missing if missing.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n"),
    }
}

async fn addresses(State(standing): State<Arc<Standing>>) -> Result<Json<Addresses>, StatusCode> {
    standing.addresses().await.map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

async fn status(State(standing): State<Arc<Standing>>) -> Json<Status> {
    Json(standing.status())
}

async fn health(State(standing): State<Arc<Standing>>) -> (StatusCode, Json<Health>) {
    let health = standing.status().health;
    let code = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health))
}
