//! `levee program get`, `check` and `apply`: what the dataplane was told.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use levee_api::diagnostic::Diagnostic;
use levee_api::program::{Applied, Program as Told};
use levee_api::yaml;
use levee_dataplane::tables::master::{Master, Refusal, Setup};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::arguments::{Format, Program};
use crate::client::Client;
use crate::failure::Failure;
use crate::input;
use crate::output::{count, value};

pub(super) fn run(
    client: impl FnOnce() -> Result<Client, Failure>,
    format: Format,
    command: Program,
) -> Result<(), Failure> {
    match command {
        Program::Get => {
            let told: Told = client()?.get_in_line("/v1/program")?;
            let format = if format.is_for_people() { Format::Yaml } else { format };
            value(&mut io::stdout().lock(), format, &told)
        }
        Program::Check { file } => {
            let told = read(&file)?;
            if format.is_for_people() {
                let (name, services) = (file.display(), told.services.len());
                let services = count(services, "service", "services");
                return Ok(writeln!(
                    io::stdout(),
                    "{name}: program of generation {}, {services}: ok",
                    told.generation
                )?);
            }
            value(&mut io::stdout().lock(), format, &told)
        }
        Program::Apply { file } => {
            let mut told = read(&file)?;
            let client = client()?;
            let running: Told = client.get_in_line("/v1/program")?;
            // `program get` writes the number of what runs; what was then edited is another program, and needs its own.
            if told.generation == running.generation && told.clone().canonical() != running.canonical() {
                told.generation = told.generation.saturating_add(1);
            }
            let applied: Applied = client.put("/v1/program", &told)?;
            if format.is_for_people() {
                return Ok(writeln!(io::stdout(), "generation {} runs on every worker", applied.generation)?);
            }
            value(&mut io::stdout().lock(), format, &applied)
        }
    }
}

/// A program that a dataplane would take.
fn read(path: &Path) -> Result<Told, Failure> {
    let input = input::read(path)?;
    judge(&input.name, &input.bytes).map_err(Failure::Input)
}

/// Reads a program, and lets the dataplane's own tables judge it.
///
/// # Errors
/// The mistake in its form, or everything for which a dataplane would refuse it.
pub(super) fn judge(file: &str, bytes: &[u8]) -> Result<Told, Vec<Diagnostic>> {
    let told: Told = yaml::parse(file, bytes).map_err(|mistake| vec![mistake])?;
    match Master::new(Setup { workers: 1, ..Setup::default() }).load(told.clone()) {
        Ok(()) => Ok(told),
        Err(Refusal::Invalid(reasons)) => {
            let places = Places::of(file, bytes);
            Err(reasons.into_iter().map(|reason| places.place(file, reason)).collect())
        }
        // Only a delta can be stale.
        Err(Refusal::Stale { generation }) => {
            Err(vec![Diagnostic::new(file, format!("generation {generation} is programmed"))])
        }
    }
}

/// Where in the file things are that a refusal may name.
#[derive(Default)]
struct Places(BTreeMap<String, (usize, usize)>);

/// As much of a program's form as has names.
#[derive(Deserialize)]
struct Names {
    generation: Option<yaml::Spanned<IgnoredAny>>,
    #[serde(default)]
    vips: Vec<Address>,
    #[serde(default)]
    services: Vec<Name>,
}

#[derive(Deserialize)]
struct Address {
    address: yaml::Spanned<String>,
}

#[derive(Deserialize)]
struct Name {
    name: yaml::Spanned<String>,
}

impl Places {
    fn of(file: &str, bytes: &[u8]) -> Self {
        let documents = yaml::text(file, bytes).map(|text| yaml::documents(file, text)).unwrap_or_default();
        let Some((document, names)) = documents.first().and_then(|document| Some((document, document.read().ok()?)))
        else {
            return Places::default();
        };
        let Names { generation, vips, services } = names;
        let generation = generation.map(|generation| ("generation ".to_owned(), generation.referenced));
        let vips = vips.into_iter().map(|vip| (format!("VIP {} ", vip.address.value), vip.address.referenced));
        // Of two services of one name, the later one is where to look.
        let services =
            services.into_iter().map(|service| (format!("`{}`", service.name.value), service.name.referenced));
        let all = generation.into_iter().chain(vips).chain(services);
        Places(all.filter_map(|(word, place)| Some((word, document.line_and_column(place)?))).collect())
    }

    /// A refusal where the last thing stands that it names: of two that collide, one will do.
    fn place(&self, file: &str, reason: String) -> Diagnostic {
        let named = self.0.iter().filter_map(|(word, place)| Some((reason.rfind(word.as_str())?, place))).max();
        let diagnostic = Diagnostic::new(file, reason.clone()).help("no dataplane would take this program");
        match named {
            Some((_, (line, column))) => diagnostic.at(*line, *column),
            None => diagnostic,
        }
    }
}
