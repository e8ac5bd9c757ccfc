//! YAML bytes to values, or a [`Diagnostic`](crate::diagnostic::Diagnostic) with line and column.
