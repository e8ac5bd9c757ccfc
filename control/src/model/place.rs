//! Where a value was written, so that a mistake found later can still be told with its line.

use std::num::NonZeroU32;
use std::sync::Arc;

use levee_api::diagnostic::Diagnostic;
use levee_api::yaml::{Document, Spanned};
use serde::{Deserialize, Deserializer};

/// The document that an object was read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file, or the name of whatever else it came from.
    pub file: Arc<str>,
    /// Lines of the file before the document's first.
    pub lines_before: usize,
    /// Whether it is a live cluster's, where many people write: what is wrong there is left out by itself.
    pub live: bool,
}

impl Origin {
    /// Of a document.
    #[must_use]
    pub fn of(document: &Document<'_>, file: &Arc<str>) -> Self {
        Origin { file: Arc::clone(file), lines_before: document.lines_before(), live: false }
    }

    /// Of whatever a cluster's API server says; `name` is what people call the server.
    #[must_use]
    pub fn of_cluster(name: Arc<str>) -> Self {
        Origin { file: name, lines_before: 0, live: true }
    }

    /// Something wrong at a place in the document.
    #[must_use]
    pub fn diagnostic(&self, place: Option<Place>, message: impl Into<String>) -> Diagnostic {
        let diagnostic = Diagnostic::new(&*self.file, message);
        match place {
            Some(Place { line, column }) => {
                diagnostic.at(self.lines_before.saturating_add(line.get() as usize), column.get() as usize)
            }
            None => diagnostic,
        }
    }

    /// `FILE:LINE`, to name a second object within a message about the first.
    #[must_use]
    pub fn name(&self, place: Option<Place>) -> String {
        match place {
            Some(place) => format!("{}:{}", self.file, self.lines_before.saturating_add(place.line.get() as usize)),
            None => self.file.to_string(),
        }
    }
}

/// Line and column within a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    line: NonZeroU32,
    column: NonZeroU32,
}

/// A value and where it stands in its document. Read from anything but YAML text, it has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Option<Place>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let number = |number: u64| u32::try_from(number).ok().and_then(NonZeroU32::new);
        let place = number(spanned.referenced.line())
            .zip(number(spanned.referenced.column()))
            .map(|(line, column)| Place { line, column });
        Ok(Placed { value: spanned.value, place })
    }
}
