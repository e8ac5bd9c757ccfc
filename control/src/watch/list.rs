//! Whatever is done with an object of a kind, done with the items of a `List`, whose kinds are known by then.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::Kind;

/// What is done with an object of a kind.
pub(super) trait PerKind {
    /// What comes of it.
    type Value;

    /// Does it.
    fn read<'de, D: Deserializer<'de>>(&mut self, kind: Kind, deserializer: D) -> Result<Self::Value, D::Error>;
}

/// An object that stands by itself.
pub(super) struct One<'r, R>(pub(super) Kind, pub(super) &'r mut R);

impl<'de, R: PerKind> DeserializeSeed<'de> for One<'_, R> {
    type Value = R::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<R::Value, D::Error> {
        self.1.read(self.0, deserializer)
    }
}

/// A `List`, by the kinds of its items; `None` is passed over.
pub(super) struct List<'k, 'r, R>(pub(super) &'k [Option<Kind>], pub(super) &'r mut R);

impl<'de, R: PerKind> DeserializeSeed<'de> for List<'_, '_, R> {
    type Value = Vec<R::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, R: PerKind> Visitor<'de> for List<'_, '_, R> {
    type Value = Vec<R::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            // `items: null` has no items to read.
            if key == "items" && !self.0.is_empty() {
                values = map.next_value_seed(Items(self.0, &mut *self.1))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}

struct Items<'k, 'r, R>(&'k [Option<Kind>], &'r mut R);

impl<'de, R: PerKind> DeserializeSeed<'de> for Items<'_, '_, R> {
    type Value = Vec<R::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, R: PerKind> Visitor<'de> for Items<'_, '_, R> {
    type Value = Vec<R::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a List")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::with_capacity(self.0.len());
        for kind in self.0 {
            match kind {
                Some(kind) => values.extend(items.next_element_seed(One(*kind, &mut *self.1))?),
                None => drop(items.next_element::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}
