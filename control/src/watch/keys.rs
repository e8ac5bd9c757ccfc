//! Keys of objects in files that nobody reads.
//!
//! A cluster's API server refuses a misspelt key or warns of it; a file has nobody but us, and `externalTrafficPolcy: Local` would be
//! a Service with policy Cluster. So a key that is a slip away from one that could stand there is a mistake, and any other that
//! is not known is told, once in a file: a newer Kubernetes may have it. An annotation `levee.dev/…` that levee does not know is a
//! mistake whatever it resembles.

use std::collections::BTreeSet;
use std::fmt;

use levee_api::diagnostic::Diagnostic;
use levee_api::word;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::list::PerKind;
use super::schema::Shape;
use crate::model::{Kind, Origin, Placed, annotations};
use crate::notice::Notice;

/// What is told of keys, of all the documents of a file.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeSet<(Kind, String)>);

/// Looks at the keys of a document's objects.
pub(super) struct Keys<'d> {
    pub(super) origin: &'d Origin,
    /// What was told of the same file before.
    pub(super) told: &'d mut Told,
    pub(super) mistakes: Vec<Diagnostic>,
    pub(super) notices: Vec<Notice>,
}

impl PerKind for Keys<'_> {
    type Value = ();

    fn read<'de, D: Deserializer<'de>>(&mut self, kind: Kind, deserializer: D) -> Result<(), D::Error> {
        Walk { shape: Shape::of(kind), way: &mut Vec::new(), kind, keys: self }.deserialize(deserializer)
    }
}

impl Keys<'_> {
    /// A key that is not among those that may stand here.
    fn unknown<'w>(&mut self, kind: Kind, way: &[&str], key: &Placed<String>, known: impl Iterator<Item = &'w str>) {
        let within = match way {
            [] => kind.name().to_owned(),
            way => format!("`{}` of {}", way.join("."), kind.name()),
        };
        let Placed { value: found, place } = key;
        if let Some(meant) = word::slip(found, known) {
            let message = format!("unknown key `{found}` in {within}");
            self.mistakes.push(self.origin.diagnostic(*place, message).help(format!("did you mean `{meant}`?")));
            return;
        }
        let shown: String = found.chars().take(60).collect();
        if self.told.0.insert((kind, format!("{within} {shown}"))) {
            self.notices.push(Notice::new(
                self.origin.name(*place),
                format!("the key `{shown}` in {within} is not known, and passed over: is it in the right place?"),
            ));
        }
    }

    fn annotation(&mut self, kind: Kind, name: &Placed<String>) {
        if let Some(annotations::Unknown { message, help }) = annotations::unknown(kind, &name.value) {
            self.mistakes.push(self.origin.diagnostic(name.place, message).help(help));
        }
    }
}

/// One value, and the shape that it should have. What has another is for the reader of the object to refuse.
struct Walk<'w, 'd> {
    shape: &'static Shape,
    /// The keys that lead here.
    way: &'w mut Vec<&'static str>,
    kind: Kind,
    keys: &'w mut Keys<'d>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.shape {
            Shape::Any => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            Shape::List(_) | Shape::Keys(_) | Shape::Annotations => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Placed<String>>()? {
            let known = match self.shape {
                Shape::Keys(known) => known,
                Shape::Annotations => {
                    self.keys.annotation(self.kind, &key);
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Shape::Any | Shape::List(_) => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if let Some((name, shape)) = known.get_key_value(key.value.as_str()) {
                self.way.push(name);
                map.next_value_seed(Walk { shape, way: self.way, kind: self.kind, keys: self.keys })?;
                self.way.pop();
            } else {
                self.keys.unknown(self.kind, self.way, &key, known.keys().copied());
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let any = &Shape::Any;
        let shape = if let Shape::List(item) = self.shape { item } else { any };
        while items.next_element_seed(Walk { shape, way: self.way, kind: self.kind, keys: self.keys })?.is_some() {}
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }
}
