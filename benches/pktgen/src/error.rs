//! What may go wrong.

/// Why there is no generator, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for makes no sense.
    #[error("{what}: {why}")]
    Invalid {
        /// The part of the configuration.
        what: &'static str,
        /// What was expected.
        why: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] af_xdp::Error),
    /// The system refused something else.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Its thread is gone.
    #[error("the generator's thread has panicked")]
    Gone,
}

impl Error {
    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Error {
        Error::Invalid { what, why: why.into() }
    }

    pub(crate) fn system(doing: impl Into<String>, source: impl Into<std::io::Error>) -> Error {
        Error::System { doing: doing.into(), source: source.into() }
    }
}
