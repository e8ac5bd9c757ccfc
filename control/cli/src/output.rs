//! How answers are written: tables for people, JSON and YAML for programs.
//!
//! A type becomes a row of a table by declaring its columns once ([`Row`]); to programs it is written as the daemon said it.
//! On a terminal, tables have rules and wrap to its width; elsewhere they are plain columns, so that `awk` and `grep` see
//! one line a row.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{Attribute, Cell, ContentArrangement, LineStyle, Table, presets};
use serde::Serialize;

use crate::arguments::Format;
use crate::failure::Failure;

/// One column of a table of `T`.
pub(crate) struct Column<T> {
    /// Its head, in capitals.
    pub(crate) title: &'static str,
    /// Only with `-o wide`.
    pub(crate) wide: bool,
    /// What stands in it.
    pub(crate) cell: fn(&T) -> String,
}

/// A column that is always there.
pub(crate) const fn column<T>(title: &'static str, cell: fn(&T) -> String) -> Column<T> {
    Column { title, wide: false, cell }
}

/// A column for wide screens.
pub(crate) const fn wide<T>(title: &'static str, cell: fn(&T) -> String) -> Column<T> {
    Column { title, wide: true, cell }
}

/// What can be a row of a table.
pub(crate) trait Row: Serialize + Sized + 'static {
    /// Its columns, from left to right.
    const COLUMNS: &'static [Column<Self>];
}

impl Format {
    /// Whether people are to read it.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }
}

/// Writes a list: a table, or one array.
pub(crate) fn list<T: Row>(out: &mut impl Write, format: Format, rows: &[T]) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => {
            let columns = || T::COLUMNS.iter().filter(|column| !column.wide || format == Format::Wide);
            let titles = columns().map(|column| column.title);
            let rows = rows.iter().map(|row| columns().map(|column| (column.cell)(row)).collect());
            table(out, titles, rows)
        }
        Format::Json | Format::Yaml => value(out, format, &rows),
    }
}

/// Writes rows of words under titles.
pub(crate) fn table<'t>(
    out: &mut impl Write,
    titles: impl IntoIterator<Item = &'t str>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<(), Failure> {
    let mut table = Table::new();
    let titles = titles.into_iter();
    if io::stdout().is_terminal() {
        table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(titles.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    } else {
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(titles);
    }
    for row in rows {
        // Empty words would make columns hard to tell apart, for eyes and for `awk`.
        table.add_row(row.into_iter().map(|word| if word.is_empty() { "-".to_owned() } else { word }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Writes one value for programs. What people are to read is the caller's business: tables have none for it.
pub(crate) fn value(out: &mut impl Write, format: Format, value: &impl Serialize) -> Result<(), Failure> {
    match format {
        Format::Yaml => write!(out, "{}", yaml(value)?)?,
        Format::Table | Format::Wide | Format::Json => {
            serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Writes one value of a stream for programs: a line of JSON, or a document of YAML.
pub(crate) fn item(out: &mut impl Write, format: Format, value: &impl Serialize) -> Result<(), Failure> {
    match format {
        Format::Yaml => write!(out, "---\n{}", yaml(value)?)?,
        Format::Table | Format::Wide | Format::Json => {
            serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(|error| Failure::Output(io::Error::other(error.to_string())))
}

/// A number of things, as people say it: `1 flow`, `3 flows`.
pub(crate) fn count(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Seconds, as people say it; the two largest units are enough to read.
pub(crate) fn duration(seconds: u64) -> String {
    let text = humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// What may not be there.
pub(crate) fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), T::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Thing {
        name: &'static str,
        size: u32,
    }

    impl Row for Thing {
        const COLUMNS: &'static [Column<Self>] =
            &[column("NAME", |thing| thing.name.to_owned()), wide("SIZE", |thing| thing.size.to_string())];
    }

    fn written(format: Format) -> String {
        let mut out = Vec::new();
        list(&mut out, format, &[Thing { name: "a", size: 1 }, Thing { name: "", size: 20 }]).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_list_is_a_table_or_an_array() {
        assert_eq!(written(Format::Table), "NAME\na\n-\n");
        assert_eq!(written(Format::Wide), "NAME  SIZE\na     1\n-     20\n");
        let read: serde_json::Value = serde_json::from_str(&written(Format::Json)).expect("JSON");
        assert_eq!(read, serde_json::json!([{"name": "a", "size": 1}, {"name": "", "size": 20}]));
        assert_eq!(written(Format::Yaml), "- name: a\n  size: 1\n- name: \"\"\n  size: 20\n");
    }

    #[test]
    fn numbers_and_times_are_said_as_people_say_them() {
        assert_eq!((count(1u64, "flow", "flows"), count(0u64, "flow", "flows")), ("1 flow".into(), "0 flows".into()));
        assert_eq!((duration(0), duration(90_061)), ("0s".into(), "1day 1h".into()));
    }
}
