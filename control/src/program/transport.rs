//! What is said to a dataplane, and what may come back.

use std::future::Future;

use levee_api::program::{Delta, Generation, Program};

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `GET /v1/status`: who are you, and which generation do you run?
    Status,
    /// `PUT /v1/program`: run this.
    Full(Program),
    /// `PATCH /v1/program`: change this.
    Delta(Delta),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The answer to [`Request::Status`].
    Status {
        /// The generation that every worker runs; 0 before the first program.
        generation: Generation,
        /// The dataplane's process: another number is another dataplane, whatever its generation.
        pid: u32,
    },
    /// 200: every worker runs it.
    Applied {
        /// The generation that it runs.
        generation: Generation,
    },
    /// 409: the generation does not fit. It may say which it runs.
    Conflict {
        /// The generation that it runs.
        generation: Option<Generation>,
    },
    /// Another refusal, for its content: to say the same again is no use.
    Refused(String),
    /// Nobody there, no answer in time, or an answer that makes no sense: it may or may not have been taken.
    Unreachable(String),
}

/// Carries requests to one dataplane, one at a time.
pub trait Transport {
    /// Carries one. Ends in bounded time, whatever the other side does.
    fn carry(&self, request: Request) -> impl Future<Output = Outcome> + 'static;

    /// Bytes of programs that were given to the dataplane so far, as they went over the wire.
    fn sent(&self) -> Sent {
        Sent::default()
    }
}

/// Bytes of programs that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Of whole ones.
    pub full: u64,
    /// Of changes.
    pub delta: u64,
}
