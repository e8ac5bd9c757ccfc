//! Terms for the dataplane: `PUT /v1/term` on its socket, beside the programs, so that none waits for one that takes long.

use std::path::Path;
use std::time::Duration;

use hyper::{Method, StatusCode};
use levee_api::report::Problem;
use levee_api::term::{Term, TermStatus};

use crate::program::exchange;

/// Gives a term. Says what keeps the dataplane from serving, or why there is no answer.
pub(super) async fn give(socket: &Path, term: &Term, patience: Duration) -> Result<TermStatus, String> {
    let body = serde_json::to_vec(term).map_err(|error| error.to_string())?;
    let answer = tokio::time::timeout(patience, exchange(socket, Method::PUT, "/v1/term", body)).await;
    let (status, body) = answer.map_err(|_| format!("no answer within {} ms", patience.as_millis()))??;
    if status != StatusCode::OK {
        let problem = serde_json::from_slice::<Problem>(&body).map(|problem| problem.error).unwrap_or_default();
        return Err(format!("the dataplane does not take a term: {status} {problem}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("an answer that makes no sense: {error}"))
}
