//! The routes: each declared once, for axum and for the OpenAPI document alike.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, Limited};
use levee_api::explain::{Explanation, Question};
use levee_api::net::Protocol;
use levee_api::program::{Applied, Delta, Generation, Program};
use levee_api::report::{
    BackendEntry, Counters, Drain, Drop, Event, Flow, FlowFilter, Flushed, Health, Neighbour, Port, Problem, Status,
    TunnelEntry, VipEntry,
};
use levee_api::term::{Term, TermStatus};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::rights::Rights;
use super::subject::{FlowCursor, Refusal, Subject};
use super::{limits, metrics, probes};

/// What every handler has.
#[derive(Clone)]
struct App {
    subject: Arc<dyn Subject>,
    /// Places for programs that are read and applied. The order is the director's affair.
    programming: Arc<Semaphore>,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "levee-dataplane",
    description = "The control socket of levee's dataplane. Every answer that is not a success has a `Problem` as its body."
))]
struct Document;

/// All routes, and the document that says so.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status))
        .routes(routes!(health))
        .routes(routes!(program, load, amend))
        .routes(routes!(term, announce))
        .routes(routes!(counters))
        .routes(routes!(drops))
        .routes(routes!(vips))
        .routes(routes!(backends))
        .routes(routes!(drains))
        .routes(routes!(tunnels))
        .routes(routes!(flows, flush))
        .routes(routes!(neighbours))
        .routes(routes!(ports))
        .routes(routes!(events))
        .routes(routes!(explain))
        .routes(routes!(metrics))
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(openapi))
}

/// The OpenAPI document of the control socket.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    routes().to_openapi()
}

/// The service that answers requests.
pub(super) fn router(subject: Arc<dyn Subject>) -> Router {
    let app = App { subject, programming: Arc::new(Semaphore::new(limits::PROGRAM_BODIES)) };
    Router::from(routes())
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "no such path; GET /openapi.json lists them all") })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method; GET /openapi.json lists them all")
        })
        .with_state(app)
}

/// The service behind the TCP listener of metrics: three pages, and no way to anything else.
pub(super) fn metrics_router(subject: Arc<dyn Subject>) -> Router {
    let app = App { subject, programming: Arc::new(Semaphore::new(0)) };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "no such path; there are /metrics, /livez and /readyz") })
        .method_not_allowed_fallback(|| async { refuse(StatusCode::METHOD_NOT_ALLOWED, "this only tells; use GET") })
        .with_state(app)
}

// --- Reading ---------------------------------------------------------------------------------------------------------

/// The dataplane at a glance.
#[utoipa::path(get, path = "/v1/status", responses((status = OK, body = Status)))]
async fn status(State(app): State<App>) -> Json<Status> {
    Json(app.subject.status())
}

/// Whether everything is well; the status code alone says it to a probe.
#[utoipa::path(get, path = "/v1/health", responses(
    (status = OK, body = Health),
    (status = SERVICE_UNAVAILABLE, body = Health),
))]
async fn health(State(app): State<App>) -> (StatusCode, Json<Health>) {
    let health = app.subject.health();
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

/// The program that was taken last. Keys are not shown.
#[utoipa::path(get, path = "/v1/program", responses(
    (status = OK, body = Program),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
async fn program(State(app): State<App>) -> Result<Response, Refused> {
    let program = app.subject.program().await.map_err(unavailable)?;
    // Tens of MiB for a large cluster: not on the thread that serves everybody else.
    Ok(elsewhere(move || Json(program.without_keys()).into_response()).await)
}

/// What became of all frames.
#[utoipa::path(get, path = "/v1/counters", responses((status = OK, body = Counters)))]
async fn counters(State(app): State<App>) -> Json<Counters> {
    Json(app.subject.counters())
}

/// Dropped frames by reason, each with its meaning.
#[utoipa::path(get, path = "/v1/drops", responses((status = OK, body = [Drop])))]
async fn drops(State(app): State<App>) -> Json<Vec<Drop>> {
    Json(app.subject.drops())
}

/// Frontends.
#[utoipa::path(get, path = "/v1/vips", responses((status = OK, body = [VipEntry])))]
async fn vips(State(app): State<App>) -> Response {
    elsewhere(move || Json(app.subject.vips()).into_response()).await
}

/// Backends.
#[utoipa::path(get, path = "/v1/backends", responses((status = OK, body = [BackendEntry])))]
async fn backends(State(app): State<App>) -> Response {
    elsewhere(move || Json(app.subject.backends()).into_response()).await
}

/// Backends that get no new flows, how long they keep those that they have, and how many there are.
#[utoipa::path(get, path = "/v1/drains", responses(
    (status = OK, body = [Drain]),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
async fn drains(State(app): State<App>) -> Result<Json<Vec<Drain>>, Refused> {
    let mut drains = app.subject.drains();
    let mut cursor = None;
    // Once through all flows, whatever drains; and not at all where nothing does.
    while !drains.is_empty() {
        let page = app.subject.flows(FlowFilter::default(), cursor).await.map_err(unavailable)?;
        for flow in &page.flows {
            let whose = |drain: &&mut Drain| {
                let port = drain.address.port();
                drain.address.ip() == flow.backend.ip()
                    && (port == flow.backend.port() || port == 0)
                    && drain.service.name == flow.service
                    && [flow.protocol, Protocol::Any].contains(&drain.service.protocol)
            };
            if let Some(drain) = drains.iter_mut().find(whose) {
                drain.flows += 1;
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(Json(drains))
}

/// Far ends that packets are wrapped for: what the way to each should carry, and what a router has said lately that it does.
#[utoipa::path(get, path = "/v1/tunnels", responses((status = OK, body = [TunnelEntry])))]
async fn tunnels(State(app): State<App>) -> Response {
    elsewhere(move || Json(app.subject.tunnels()).into_response()).await
}

/// Neighbours that frames are sent to.
#[utoipa::path(get, path = "/v1/neighbours", responses((status = OK, body = [Neighbour])))]
async fn neighbours(State(app): State<App>) -> Json<Vec<Neighbour>> {
    Json(app.subject.neighbours())
}

/// Ports and their queues.
#[utoipa::path(get, path = "/v1/ports", responses((status = OK, body = [Port])))]
async fn ports(State(app): State<App>) -> Json<Vec<Port>> {
    Json(app.subject.ports())
}

/// Everything that is counted, for Prometheus: text exposition format 0.0.4. `docs/metrics.md` says what each family means.
#[utoipa::path(get, path = "/metrics", responses((status = OK, body = String, content_type = "text/plain")))]
async fn metrics(State(app): State<App>) -> Response {
    elsewhere(move || {
        let page = metrics::page(app.subject.as_ref());
        ([(header::CONTENT_TYPE, levee_api::metrics::CONTENT_TYPE)], page).into_response()
    })
    .await
}

/// Whether every loop of the process turns: if not, for long, a restart helps. Never depends on a control process or a cluster.
#[utoipa::path(get, path = "/livez", responses(
    (status = OK, body = String, content_type = "text/plain"),
    (status = SERVICE_UNAVAILABLE, body = String, content_type = "text/plain"),
))]
async fn livez(State(app): State<App>) -> Response {
    probes::answer(&probes::live(&app.subject.status()))
}

/// Whether it does its work: live, and a program runs. `/v1/health` says more.
#[utoipa::path(get, path = "/readyz", responses(
    (status = OK, body = String, content_type = "text/plain"),
    (status = SERVICE_UNAVAILABLE, body = String, content_type = "text/plain"),
))]
async fn readyz(State(app): State<App>) -> Response {
    probes::answer(&probes::ready(&app.subject.status()))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = OK, description = "An OpenAPI 3.1 document")))]
async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

/// One packet's fate, as the running tables have it.
#[utoipa::path(post, path = "/v1/explain", request_body = Question, responses(
    (status = OK, body = Explanation),
    (status = UNPROCESSABLE_ENTITY, body = Problem),
))]
async fn explain(State(app): State<App>, request: Request) -> Result<Json<Explanation>, Refused> {
    let question = json::<Question>(request, limits::SMALL_BODY).await?;
    let answer = app.subject.explain(question).await;
    answer.map(Json).map_err(|error| refuse(StatusCode::UNPROCESSABLE_ENTITY, error))
}

// --- Programming -----------------------------------------------------------------------------------------------------

/// Replaces the whole program. Answers when every worker runs it; 409 if another one of its generation is programmed.
#[utoipa::path(put, path = "/v1/program", request_body = Program, responses(
    (status = OK, body = Applied),
    (status = BAD_REQUEST, body = Problem),
    (status = FORBIDDEN, body = Problem),
    (status = CONFLICT, body = Problem),
    (status = PAYLOAD_TOO_LARGE, body = Problem),
    (status = UNPROCESSABLE_ENTITY, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
async fn load(State(app): State<App>, _: Programmer, request: Request) -> Result<Json<Applied>, Refused> {
    let _turn = turn(&app).await?;
    let program = json::<Program>(request, limits::PROGRAM_BODY).await?;
    let stale = |generation| {
        format!("another program of generation {generation} is programmed; give this one a greater number")
    };
    applied(tokio::time::timeout(limits::PROGRAM_TIME, app.subject.load(program)).await, stale)
}

/// Changes the program from one generation to the next. Answers when every worker runs it; 409 says which generation is
/// programmed, if it is not the delta's base: send the whole program then.
#[utoipa::path(patch, path = "/v1/program", request_body = Delta, responses(
    (status = OK, body = Applied),
    (status = BAD_REQUEST, body = Problem),
    (status = FORBIDDEN, body = Problem),
    (status = CONFLICT, body = Problem),
    (status = PAYLOAD_TOO_LARGE, body = Problem),
    (status = UNPROCESSABLE_ENTITY, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
async fn amend(State(app): State<App>, _: Programmer, request: Request) -> Result<Json<Applied>, Refused> {
    let _turn = turn(&app).await?;
    let delta = json::<Delta>(request, limits::PROGRAM_BODY).await?;
    let stale =
        |generation| format!("the delta's base is not the programmed generation, {generation}; send the whole program");
    applied(tokio::time::timeout(limits::PROGRAM_TIME, app.subject.amend(delta)).await, stale)
}

/// Which addresses are announced, for how long, and whether this dataplane is fit to announce any.
#[utoipa::path(get, path = "/v1/term", responses((status = OK, body = TermStatus)))]
async fn term(State(app): State<App>) -> Json<TermStatus> {
    Json(app.subject.term())
}

/// Announces addresses until a time of this machine's clock, and no others. Answers when every worker knows it.
#[utoipa::path(put, path = "/v1/term", request_body = Term, responses(
    (status = OK, body = TermStatus),
    (status = BAD_REQUEST, body = Problem),
    (status = FORBIDDEN, body = Problem),
    (status = PAYLOAD_TOO_LARGE, body = Problem),
    (status = UNPROCESSABLE_ENTITY, body = Problem),
    (status = SERVICE_UNAVAILABLE, body = Problem),
))]
async fn announce(State(app): State<App>, _: Programmer, request: Request) -> Result<Json<TermStatus>, Refused> {
    // Not in line with programs: a term that waits for one that takes seconds would run out.
    let term = json::<Term>(request, limits::TERM_BODY).await?;
    match tokio::time::timeout(limits::TERM_TIME, app.subject.announce(term)).await {
        Ok(Ok(())) => Ok(Json(app.subject.term())),
        Ok(Err(Refusal::Invalid(reasons))) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, reasons.join("\n"))),
        Ok(Err(Refusal::Unavailable(reason))) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, reason)),
        Ok(Err(Refusal::Stale { .. })) | Err(_) => Err(refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not every worker knew it within {} s; see GET /v1/health", limits::TERM_TIME.as_secs()),
        )),
    }
}

async fn turn(app: &App) -> Result<tokio::sync::OwnedSemaphorePermit, Refused> {
    let waiting = Arc::clone(&app.programming).acquire_owned();
    match tokio::time::timeout(limits::PROGRAM_TIME, waiting).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "too many programs are being sent and applied; try again")),
    }
}

fn applied(
    outcome: Result<Result<Applied, Refusal>, tokio::time::error::Elapsed>,
    stale: impl FnOnce(Generation) -> String,
) -> Result<Json<Applied>, Refused> {
    match outcome {
        Ok(Ok(applied)) => Ok(Json(applied)),
        Ok(Err(Refusal::Stale { generation })) => {
            Err(Refused(StatusCode::CONFLICT, Problem { error: stale(generation), generation: Some(generation) }))
        }
        Ok(Err(Refusal::Invalid(reasons))) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, reasons.join("\n"))),
        Ok(Err(Refusal::Unavailable(reason))) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, reason)),
        Err(_) => Err(refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not every worker ran it within {} s; see GET /v1/health", limits::PROGRAM_TIME.as_secs()),
        )),
    }
}

// --- Flows and events ------------------------------------------------------------------------------------------------

/// The query of `/v1/flows`: [`FlowFilter`] as words of a query string.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct FlowQuery {
    /// Client address.
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
    /// Frontend address.
    #[param(value_type = Option<String>)]
    frontend: Option<IpAddr>,
    /// Frontend or backend port.
    port: Option<u16>,
    /// Backend address.
    #[param(value_type = Option<String>)]
    backend: Option<IpAddr>,
    /// `tcp`, `udp` or `sctp`.
    protocol: Option<Protocol>,
    /// Service name.
    service: Option<String>,
}

impl From<FlowQuery> for FlowFilter {
    fn from(query: FlowQuery) -> Self {
        let FlowQuery { client, frontend, port, backend, protocol, service } = query;
        FlowFilter { client, frontend, port, backend, protocol, service }
    }
}

/// Tracked flows, one JSON object a line. The table moves on while it is read, so a long answer is no snapshot.
#[utoipa::path(get, path = "/v1/flows", params(FlowQuery), responses(
    (status = OK, body = Flow, content_type = "application/x-ndjson"),
    (status = BAD_REQUEST, body = Problem),
))]
async fn flows(State(app): State<App>, query: Result<Query<FlowQuery>, QueryRejection>) -> Result<Response, Refused> {
    let filter = FlowFilter::from(query.map_err(bad_query)?.0);
    let first = app.subject.flows(filter.clone(), None).await.map_err(unavailable)?;
    // What is still to be asked for: the first page is there, so that an error can still be a status code.
    let state = (app, filter, Some(first), None::<FlowCursor>);
    let lines = stream::unfold(Some(state), |state| async move {
        let (app, filter, page, cursor) = state?;
        let page = match page {
            Some(page) => page,
            None => app.subject.flows(filter.clone(), Some(cursor?)).await.ok()?,
        };
        let lines: Vec<u8> = page.flows.iter().flat_map(line).collect();
        let next = page.next.map(|cursor| (app, filter, None, Some(cursor)));
        Some((Ok::<_, Infallible>(Bytes::from(lines)), next))
    });
    Ok(ndjson(Body::from_stream(lines.filter(|line| {
        let full = !matches!(line, Ok(bytes) if bytes.is_empty());
        async move { full }
    }))))
}

/// Forgets flows. Their next packets are balanced anew.
#[utoipa::path(delete, path = "/v1/flows", params(FlowQuery), responses(
    (status = OK, body = Flushed),
    (status = BAD_REQUEST, body = Problem),
    (status = FORBIDDEN, body = Problem),
))]
async fn flush(
    State(app): State<App>,
    _: Programmer,
    query: Result<Query<FlowQuery>, QueryRejection>,
) -> Result<Json<Flushed>, Refused> {
    let filter = query.map_err(bad_query)?.0.into();
    app.subject.flush(filter).await.map(Json).map_err(unavailable)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    /// Go on with new events until the client hangs up.
    #[serde(default)]
    follow: bool,
}

/// What happened, one JSON object a line, oldest first.
#[utoipa::path(get, path = "/v1/events", params(EventQuery), responses(
    (status = OK, body = Event, content_type = "application/x-ndjson"),
    (status = BAD_REQUEST, body = Problem),
))]
async fn events(State(app): State<App>, query: Result<Query<EventQuery>, QueryRejection>) -> Result<Response, Refused> {
    let follow = query.map_err(bad_query)?.0.follow;
    let (remembered, receiver) = app.subject.events().follow();
    let past = Bytes::from(remembered.iter().flat_map(line).collect::<Vec<u8>>());
    if !follow {
        return Ok(ndjson(Body::from(past)));
    }
    let future = stream::unfold(receiver, |mut receiver| async move {
        loop {
            match receiver.recv().await {
                Ok(event) => return Some((Ok::<_, Infallible>(Bytes::from(line(&event))), receiver)),
                // The client reads more slowly than events come: it misses some, which is better than a growing queue.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Ok(ndjson(Body::from_stream(stream::once(async move { Ok(past) }).chain(future))))
}

// --- Tools -----------------------------------------------------------------------------------------------------------

/// Holding one proves that the peer may program. Taken from the head of the request, so a peer that may not is refused before its body is read.
struct Programmer;

impl<S: Send + Sync> FromRequestParts<S> for Programmer {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match parts.extensions.get::<Rights>() {
            Some(Rights::Program) => Ok(Programmer),
            Some(Rights::Read) | None => Err(refuse(
                StatusCode::FORBIDDEN,
                "this user may read, not program; run as root, or add its uid to `program_uids` in the dataplane's configuration",
            )),
        }
    }
}

/// The body of a request as a value; cut off at `limit` bytes and after [`limits::BODY_TIME`].
async fn json<T: DeserializeOwned + Send + 'static>(request: Request, limit: usize) -> Result<T, Refused> {
    let too_large = || {
        refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes; nothing of it was kept"))
    };
    // Told at once where the client says so itself, before it sends.
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), limit).collect();
    let body = match tokio::time::timeout(limits::BODY_TIME, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
        Ok(Err(error)) => return Err(refuse(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
        Err(_) => {
            let seconds = limits::BODY_TIME.as_secs();
            return Err(refuse(StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {seconds} s")));
        }
    };
    // A small one, one changed service for instance, is read sooner than another thread would wake up.
    let parsed = if body.len() <= limits::SMALL_BODY {
        Ok(serde_json::from_slice(&body))
    } else {
        tokio::task::spawn_blocking(move || serde_json::from_slice(&body)).await
    };
    match parsed {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let expected = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
            Err(refuse(
                StatusCode::BAD_REQUEST,
                format!("the body is not a {expected}: {error}; GET /openapi.json describes it"),
            ))
        }
        Err(_) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "reading the body failed; report this")),
    }
}

/// Runs what takes long on a thread of its own.
async fn elsewhere(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "making the answer failed; report this").into_response(),
    }
}

/// An answer that is not a success.
struct Refused(StatusCode, Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

fn refuse(status: StatusCode, error: impl Into<String>) -> Refused {
    Refused(status, Problem { error: error.into(), generation: None })
}

fn bad_query(rejection: QueryRejection) -> Refused {
    refuse(StatusCode::BAD_REQUEST, format!("{}; GET /openapi.json lists the parameters", rejection.body_text()))
}

fn unavailable(error: String) -> Refused {
    refuse(StatusCode::SERVICE_UNAVAILABLE, error)
}

/// A value as a line of NDJSON. Our own types always can be written; a line that could not would be left out.
fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    if !line.is_empty() {
        line.push(b'\n');
    }
    line
}

fn ndjson(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
