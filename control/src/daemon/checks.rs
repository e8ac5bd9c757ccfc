//! `healthCheckNodePort` (rule 39): each Service of type LoadBalancer with policy Local tells balancers outside of the cluster, on a
//! port of its own, whether this node has an endpoint for them.
//!
//! As kube-proxy does: 200 if the Service has a ready endpoint here and the dataplane is healthy, 503 otherwise; the number of
//! endpoints in the header `X-Load-Balancing-Endpoint-Weight`; a body in JSON; whatever path is asked for. The dataplane's health is
//! its own word at that moment. A port that cannot be had is told of and tried again: nothing else depends on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinHandle;

use super::socket;
use crate::compile::HealthChecks as Wanted;
use crate::model::ObjectName;
use crate::notice::Notice;
use crate::program;

/// Pause before a port that somebody else has is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How many endpoints there are, for balancers that give shares.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// A Service's port on one of the node's addresses.
type Place = (ObjectName, SocketAddr);

/// What an answer is made of.
struct Subject {
    name: ObjectName,
    local: AtomicUsize,
    dataplane: PathBuf,
}

/// A place that is answered on, or tried for; until it is dropped.
struct Answering {
    subject: Arc<Subject>,
    task: JoinHandle<()>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// See the [module](self).
pub(super) struct HealthChecks {
    dataplane: PathBuf,
    answering: BTreeMap<Place, Answering>,
    problems: Arc<Mutex<BTreeMap<Place, Notice>>>,
}

/// Each change is one call, so a panic elsewhere leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HealthChecks {
    /// None yet; the dataplane that is asked for its health listens at this path.
    pub(super) fn new(dataplane: PathBuf) -> Self {
        HealthChecks { dataplane, answering: BTreeMap::new(), problems: Arc::default() }
    }

    /// Answers for these, and for no others. Must be called within the runtime.
    pub(super) fn want(&mut self, wanted: &Wanted) {
        let is_wanted = |(name, at): &Place| wanted.get(name).is_some_and(|checks| checks.contains_key(at));
        self.answering.retain(|place, _| is_wanted(place));
        lock(&self.problems).retain(|place, _| is_wanted(place));
        for (name, checks) in wanted {
            for (at, local) in checks {
                let answering = self.answering.entry((name.clone(), *at));
                let answering = answering.or_insert_with(|| {
                    let subject = Arc::new(Subject {
                        name: name.clone(),
                        local: AtomicUsize::new(0),
                        dataplane: self.dataplane.clone(),
                    });
                    let task = answer_at(*at, Arc::clone(&subject), Arc::clone(&self.problems));
                    Answering { subject, task: tokio::spawn(task) }
                });
                answering.subject.local.store(*local, Ordering::Relaxed);
            }
        }
    }

    /// Ports that cannot be had, and why.
    pub(super) fn problems(&self) -> Vec<Notice> {
        lock(&self.problems).values().cloned().collect()
    }
}

/// Has the port as soon as it can be had, and answers on it.
async fn answer_at(at: SocketAddr, subject: Arc<Subject>, problems: Arc<Mutex<BTreeMap<Place, Notice>>>) {
    let place = (subject.name.clone(), at);
    let router = Router::new().fallback(answer).with_state(subject);
    loop {
        match socket::serve_tcp(at, router.clone()) {
            Ok(serving) => {
                lock(&problems).remove(&place);
                serving.await;
                return;
            }
            Err(error) => {
                let message = format!("`healthCheckNodePort` cannot be answered on {at}: {error}; it is tried again");
                let notice = Notice::new(format!("Service {}", place.0), message);
                if lock(&problems).insert(place.clone(), notice.clone()).is_none() {
                    tracing::warn!("notice: {notice}");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn answer(State(subject): State<Arc<Subject>>) -> Response {
    let local = subject.local.load(Ordering::Relaxed);
    let healthy = program::is_healthy(&subject.dataplane).await;
    let status = if local > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (WEIGHT, HeaderValue::from(local)),
    ];
    (status, headers, body(&subject.name, local, healthy)).into_response()
}

/// To the byte what kube-proxy writes (`pkg/proxy/healthcheck/service_health.go`). Names have no character that JSON escapes.
fn body(name: &ObjectName, local: usize, healthy: bool) -> String {
    format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\
         \"serviceProxyHealthy\": {healthy}\n}}",
        name.namespace, name.name
    )
}
