//! What a supervisor asks, answered with a status code and the reasons in words: whether to end this process (`/livez`), and whether
//! it does its work (`/readyz`).
//!
//! Both are on the control socket, and by TCP where `metrics` is configured, since that is how a kubelet probes. Neither ever depends
//! on a control process or a cluster being there: a dataplane without them goes on forwarding, and ending it would help nobody.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use levee_api::report::Status;

/// What a restart would mend: a worker that does not turn. A link that is down is not of that kind.
#[must_use]
pub fn live(status: &Status) -> Vec<String> {
    let stuck = status.workers.iter().filter(|worker| !worker.alive);
    stuck.map(|worker| format!("worker {} on core {} does not turn", worker.worker, worker.core)).collect()
}

/// What is missing until the first program runs. That sockets are bound goes without saying: nothing answers before.
#[must_use]
pub fn ready(status: &Status) -> Vec<String> {
    let mut missing = live(status);
    if status.generation == 0 {
        missing.push("nothing was programmed yet".to_owned());
    }
    missing
}

/// `ok`, or why not.
pub(super) fn answer(problems: &[String]) -> Response {
    let (code, text) = match problems {
        [] => (StatusCode::OK, "ok".to_owned()),
        problems => (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n")),
    };
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text + "\n").into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use levee_api::report::{Health, WorkerStatus};

    use super::*;

    fn status(generation: u64, alive: [bool; 2]) -> Status {
        let worker = |(worker, alive)| WorkerStatus {
            worker,
            core: worker + 2,
            scheduling: None,
            generation,
            alive,
            flows: 0,
            flow_capacity: 0,
            received: 0,
            forwarded: 0,
            dropped: 0,
            handed_over: 0,
            taken_over: 0,
        };
        Status {
            version: String::new(),
            pid: 1,
            uptime_seconds: 0,
            generation,
            // A link that is down.
            health: Health { healthy: false, problems: vec!["eth0 is down".to_owned()] },
            workers: alive.into_iter().enumerate().map(worker).collect(),
            services: 0,
            vips: 0,
            backends: 0,
            flows: 0,
            flow_capacity: 0,
        }
    }

    #[test]
    fn a_stuck_worker_is_for_a_restart_and_a_missing_program_is_not() {
        for (generation, alive, is_live, is_ready) in [
            (0, [true, true], true, false),
            (7, [true, true], true, true),
            (7, [true, false], false, false),
            (0, [false, false], false, false),
        ] {
            let status = status(generation, alive);
            assert_eq!(
                (live(&status).is_empty(), ready(&status).is_empty()),
                (is_live, is_ready),
                "{generation} {alive:?}"
            );
        }
        assert_eq!(live(&status(7, [true, false])), ["worker 1 on core 3 does not turn"]);
    }
}
