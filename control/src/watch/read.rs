//! Text to objects: several documents to a file, several objects to a `List`.
//!
//! Each document is read three times: for what it and its items are (`apiVersion`, `kind`, which may stand anywhere in a mapping);
//! for keys that nobody would read (see `keys`); and for the objects, each as its own kind directs. That keeps the place of every
//! mistake, which an untagged or tagged enum would lose.

use std::sync::Arc;

use levee_api::diagnostic::Diagnostic;
use levee_api::word;
use levee_api::yaml::{self, Document};
use serde::Deserialize;
use serde::de::{DeserializeSeed as _, Deserializer};

use super::keys::{Keys, Told};
use super::list::{List, One, PerKind};
use crate::model::{Kind, Object, Origin, Place, Placed, Sourced};
use crate::notice::Notice;

/// What a text holds.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Objects of the kinds that are read.
    pub objects: Vec<Sourced>,
    /// What was passed over.
    pub notices: Vec<Notice>,
    /// What is wrong: of each document every key that is misspelt or, where none is, the first mistake in its form.
    pub mistakes: Vec<Diagnostic>,
}

/// Reads the objects in a file's bytes. `file` names it.
#[must_use]
pub fn read(file: &str, bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let text = match yaml::text(file, bytes) {
        Ok(text) => text,
        Err(mistake) => {
            reading.mistakes.push(mistake);
            return reading;
        }
    };
    let name: Arc<str> = Arc::from(file);
    let documents = yaml::documents(file, text);
    if documents.is_empty() {
        // What a shell leaves for a moment of a file that it is about to write, and for good if what should write it fails.
        reading.mistakes.push(
            Diagnostic::new(file, "the file has no content")
                .help("to say that the cluster is empty, write `apiVersion: v1`, `kind: List` and `items: []`"),
        );
    }
    let mut told = Told::default();
    for document in documents {
        if let Err(mistake) = read_document(&document, &name, &mut told, &mut reading) {
            reading.mistakes.push(mistake);
        }
    }
    reading
}

/// Reads an object that an API server has sent as `kind`. What is wrong is told with the way to it: `spec.ports[0].port: …`.
pub(super) fn read_value(kind: Kind, origin: &Origin, value: serde_json::Value) -> Result<Sourced, String> {
    let whole = (kind == Kind::AddressPool).then(|| value.clone());
    let why = match read_object(kind, origin, value) {
        Ok(sourced) => return Ok(sourced),
        Err(why) => why,
    };
    // A pool whose `spec` cannot be read is there all the same: what was good last stays in force, and its status says so.
    let Some(mut whole) = whole else { return Err(why) };
    let in_force = whole.pointer("/status/inForce").cloned();
    let nothing = serde_json::json!({"addresses": []});
    let Some(spec) = whole.get_mut("spec") else { return Err(why) };
    *spec = in_force.unwrap_or(nothing);
    match read_object(kind, origin, whole) {
        Ok(Sourced { origin, object: Object::AddressPool(mut pool) }) => {
            pool.fault = Some(why);
            Ok(Sourced { origin, object: Object::AddressPool(pool) })
        }
        _ => Err(why),
    }
}

fn read_object(kind: Kind, origin: &Origin, value: serde_json::Value) -> Result<Sourced, String> {
    let mut track = serde_path_to_error::Track::new();
    let object = One(kind, &mut Objects).deserialize(serde_path_to_error::Deserializer::new(value, &mut track));
    match object {
        Ok(object) => Ok(Sourced { origin: origin.clone(), object }),
        Err(error) => Err(format!("{}: {error}", track.path()).chars().take(300).collect()),
    }
}

/// What an object says that it is. Absent in the items of a typed list (`ServiceList`), as the API server sends them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<Placed<String>>,
    kind: Option<Placed<String>>,
    items: Option<Vec<Placed<Head>>>,
}

fn read_document(
    document: &Document<'_>,
    file: &Arc<str>,
    told: &mut Told,
    reading: &mut Reading,
) -> Result<(), Diagnostic> {
    let Placed { value: head, place } = document.read::<Placed<Head>>()?;
    let origin = Origin::of(document, file);
    let (version, kind) = head.says(place, &origin)?;
    let items = head.items.as_deref().unwrap_or_default();
    let kinds = if kind.value == "List" && version.value == "v1" {
        let kinds = items.iter().map(|item| {
            let (version, kind) = item.value.says(item.place, &origin)?;
            recognise(version, kind, &origin, reading)
        });
        kinds.collect::<Result<Vec<_>, _>>()?
    } else if let Some(item) = Kind::ALL.into_iter().find(|item| kind.value.strip_suffix("List") == Some(item.name())) {
        let item_kind = Placed { value: item.name().to_owned(), place: kind.place };
        let item = recognise(version, &item_kind, &origin, reading)?;
        vec![item; items.len()]
    } else {
        if let Some(kind) = recognise(version, kind, &origin, reading)?
            && keys_are_sound(&origin, told, reading, |keys| document.read_seed(One(kind, keys)))?
        {
            let object = document.read_seed(One(kind, &mut Objects))?;
            reading.objects.push(Sourced { origin, object });
        }
        return Ok(());
    };
    if keys_are_sound(&origin, told, reading, |keys| document.read_seed(List(&kinds, keys)).map(drop))? {
        let objects = document.read_seed(List(&kinds, &mut Objects))?;
        reading.objects.extend(objects.into_iter().map(|object| Sourced { origin: origin.clone(), object }));
    }
    Ok(())
}

/// Looks at the keys of all objects of a document. Whether none is wrong.
fn keys_are_sound(
    origin: &Origin,
    told: &mut Told,
    reading: &mut Reading,
    read: impl FnOnce(&mut Keys<'_>) -> Result<(), Diagnostic>,
) -> Result<bool, Diagnostic> {
    let mut keys = Keys { origin, told, mistakes: Vec::new(), notices: Vec::new() };
    read(&mut keys)?;
    let Keys { mistakes, notices, .. } = keys;
    let sound = mistakes.is_empty();
    reading.mistakes.extend(mistakes);
    reading.notices.extend(notices);
    Ok(sound)
}

impl Head {
    /// Its `apiVersion` and `kind`, which an object that stands by itself must have.
    fn says(&self, place: Option<Place>, origin: &Origin) -> Result<(&Placed<String>, &Placed<String>), Diagnostic> {
        self.api_version.as_ref().zip(self.kind.as_ref()).ok_or_else(|| {
            let missing = if self.kind.is_none() { "kind" } else { "apiVersion" };
            origin
                .diagnostic(place, format!("the key `{missing}` is missing, so this is no Kubernetes object"))
                .help("expected `apiVersion: v1` and `kind: Service`, for instance")
        })
    }
}

/// The kind, if it is one that is read. Another version of one of our kinds, or another kind of our own group, is a
/// mistake: passing over it would look like success.
fn recognise(
    version: &Placed<String>,
    kind: &Placed<String>,
    origin: &Origin,
    reading: &mut Reading,
) -> Result<Option<Kind>, Diagnostic> {
    let group = version.value.split_once('/').map_or("", |(group, _)| group);
    if let Some(ours) = Kind::ALL.into_iter().find(|ours| ours.name() == kind.value) {
        if ours.api_version() == version.value {
            return Ok(Some(ours));
        }
        // A third party may have a kind of the same name (Knative has a Service); Kubernetes and levee have one.
        if group.is_empty() || group.ends_with("k8s.io") || group.ends_with("levee.dev") {
            return Err(origin
                .diagnostic(
                    version.place,
                    format!("{} of `{}`, expected `{}`", kind.value, version.value, ours.api_version()),
                )
                .help("convert it (`kubectl get -o yaml` gives the current version), or update levee"));
        }
    }
    if group.ends_with("levee.dev") {
        return Err(origin.diagnostic(
            kind.place,
            format!("`{}` is no kind of `{}`; expected `{}`", kind.value, version.value, Kind::AddressPool.name()),
        ));
    }
    let shown = |text: &str| text.chars().take(60).collect::<String>();
    let meant = |found: &Placed<String>, what: &str, meant: &str| {
        let message = format!("{what} `{}` is not known", shown(&found.value));
        origin.diagnostic(found.place, message).help(format!("did you mean `{meant}`?"))
    };
    let of_this_version = || Kind::ALL.into_iter().filter(|ours| ours.api_version() == version.value);
    let lists = if version.value == "v1" { &["List"][..] } else { &[] };
    let item = kind.value.strip_suffix("List").filter(|item| !item.is_empty());
    if let Some(name) = word::slip(&kind.value, of_this_version().map(Kind::name).chain(lists.iter().copied())) {
        return Err(meant(kind, "kind", name));
    }
    if let Some(name) = item.and_then(|item| word::slip(item, of_this_version().map(Kind::name))) {
        return Err(meant(kind, "kind", &format!("{name}List")));
    }
    let same_kind = Kind::ALL.into_iter().filter(|ours| ours.name() == kind.value);
    if let Some(ours) = word::slip(&version.value, same_kind.map(Kind::api_version)) {
        return Err(meant(version, &format!("`apiVersion` of a {}:", kind.value), ours));
    }
    reading.notices.push(Notice::new(
        origin.name(kind.place),
        format!("`{}` of `{}` is not read; passed over", shown(&kind.value), shown(&version.value)),
    ));
    Ok(None)
}

/// Reads an object as its kind.
struct Objects;

impl PerKind for Objects {
    type Value = Object;

    fn read<'de, D: Deserializer<'de>>(&mut self, kind: Kind, deserializer: D) -> Result<Object, D::Error> {
        Ok(match kind {
            Kind::Service => Object::Service(Box::new(Deserialize::deserialize(deserializer)?)),
            Kind::EndpointSlice => Object::EndpointSlice(Deserialize::deserialize(deserializer)?),
            Kind::Node => Object::Node(Deserialize::deserialize(deserializer)?),
            Kind::Pod => Object::Pod(Deserialize::deserialize(deserializer)?),
            Kind::ServiceCidr => Object::ServiceCidr(Deserialize::deserialize(deserializer)?),
            Kind::AddressPool => Object::AddressPool(Box::new(Deserialize::deserialize(deserializer)?)),
        })
    }
}
