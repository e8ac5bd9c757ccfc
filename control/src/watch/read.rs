//! Text to objects: several documents to a file, several objects to a `List`.
//!
//! Each document is read twice: once for what it and its items are (`apiVersion`, `kind`, which may stand anywhere in a
//! mapping), once for the objects, each as its own kind directs. That keeps the place of every mistake, which an untagged
//! or tagged enum would lose.

use std::fmt;
use std::sync::Arc;

use levee_api::diagnostic::Diagnostic;
use levee_api::yaml::{self, Document};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::{Kind, Object, Origin, Place, Placed, Sourced};
use crate::notice::Notice;

/// What a text holds.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Objects of the kinds that are read.
    pub objects: Vec<Sourced>,
    /// What was passed over.
    pub notices: Vec<Notice>,
    /// What is wrong: at most one mistake for each document.
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
    for document in documents {
        if let Err(mistake) = read_document(&document, &name, &mut reading) {
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
    let object = ObjectSeed(kind).deserialize(serde_path_to_error::Deserializer::new(value, &mut track));
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

fn read_document(document: &Document<'_>, file: &Arc<str>, reading: &mut Reading) -> Result<(), Diagnostic> {
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
        if let Some(kind) = recognise(version, kind, &origin, reading)? {
            let object = document.read_seed(ObjectSeed(kind))?;
            reading.objects.push(Sourced { origin, object });
        }
        return Ok(());
    };
    let objects = document.read_seed(ListSeed { kinds: &kinds })?;
    reading.objects.extend(objects.into_iter().map(|object| Sourced { origin: origin.clone(), object }));
    Ok(())
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
    reading.notices.push(Notice::new(
        origin.name(kind.place),
        format!("`{}` of `{}` is not read; passed over", shown(&kind.value), shown(&version.value)),
    ));
    Ok(None)
}

/// Reads an object as its kind.
struct ObjectSeed(Kind);

impl<'de> DeserializeSeed<'de> for ObjectSeed {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        Ok(match self.0 {
            Kind::Service => Object::Service(Box::new(Deserialize::deserialize(deserializer)?)),
            Kind::EndpointSlice => Object::EndpointSlice(Deserialize::deserialize(deserializer)?),
            Kind::Node => Object::Node(Deserialize::deserialize(deserializer)?),
            Kind::Pod => Object::Pod(Deserialize::deserialize(deserializer)?),
            Kind::ServiceCidr => Object::ServiceCidr(Deserialize::deserialize(deserializer)?),
            Kind::AddressPool => Object::AddressPool(Box::new(Deserialize::deserialize(deserializer)?)),
        })
    }
}

/// Reads a `List` whose items' kinds are known; `None` is passed over.
struct ListSeed<'k> {
    kinds: &'k [Option<Kind>],
}

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = Vec<Object>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Object>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Object>, A::Error> {
        let mut objects = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            // `items: null` has no items to read.
            if key == "items" && !self.kinds.is_empty() {
                objects = map.next_value_seed(ItemsSeed { kinds: self.kinds })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(objects)
    }
}

struct ItemsSeed<'k> {
    kinds: &'k [Option<Kind>],
}

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<Object>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Object>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a List")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Object>, A::Error> {
        let mut objects = Vec::with_capacity(self.kinds.len());
        for kind in self.kinds {
            match kind {
                Some(kind) => objects.extend(items.next_element_seed(ObjectSeed(*kind))?),
                None => drop(items.next_element::<IgnoredAny>()?),
            }
        }
        Ok(objects)
    }
}
