//! What is worth telling about an object that is not wrong: ignored parts, fallbacks, features that are not there.
//!
//! A [`Diagnostic`](levee_api::diagnostic::Diagnostic) refuses input; a notice accompanies accepted input. Both end up in
//! the log, in the status and on the screen of `levee check`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that the owner of an object should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Notice {
    /// `Service default/web`, or a file where there is no object.
    pub object: String,
    /// What levee does, and why.
    pub message: String,
}

impl Notice {
    /// About an object, by the name that people know it by.
    #[must_use]
    pub fn new(object: impl Into<String>, message: impl Into<String>) -> Self {
        Notice { object: object.into(), message: message.into() }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}
