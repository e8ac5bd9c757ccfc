//! The keys that an object of each kind may have, all the way down.
//!
//! For Kubernetes' kinds they are those of its own API types, as `k8s-openapi` has them of the newest version that it knows: each type
//! says in its `Deserialize` which fields it has, so it is asked to read from a source that has every one of them, once, and that
//! writes down what it is asked for. Nothing is listed by hand, and nothing falls behind when that crate is updated.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::model::Kind;

/// What may stand at a place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Shape {
    /// Anything: a scalar, or a mapping whose keys are the user's.
    #[default]
    Any,
    /// A list of these.
    List(Box<Shape>),
    /// A mapping with these keys.
    Keys(BTreeMap<&'static str, Shape>),
    /// `metadata.annotations`: anybody's keys, and ours among them.
    Annotations,
}

/// Of each kind, in the order of [`Kind::ALL`].
static SHAPES: LazyLock<[(Kind, Shape); 6]> = LazyLock::new(|| Kind::ALL.map(|kind| (kind, of_kind(kind))));

impl Shape {
    /// Of an object of a kind.
    pub(super) fn of(kind: Kind) -> &'static Shape {
        static ANY: Shape = Shape::Any;
        SHAPES.iter().find(|(other, _)| *other == kind).map_or(&ANY, |(_, shape)| shape)
    }
}

fn of_kind(kind: Kind) -> Shape {
    let mut shape = match kind {
        Kind::Service => traced::<Service>(kind),
        Kind::EndpointSlice => traced::<EndpointSlice>(kind),
        Kind::Node => traced::<Node>(kind),
        Kind::Pod => traced::<Pod>(kind),
        Kind::ServiceCidr => traced::<ServiceCIDR>(kind),
        // Its own type refuses whatever it does not know; its metadata is like all others'.
        Kind::AddressPool => {
            let keys = match traced::<Service>(Kind::Service) {
                Shape::Keys(keys) => keys,
                _ => BTreeMap::new(),
            };
            let any = ["apiVersion", "kind", "spec", "status"].map(|key| (key, Shape::Any));
            Shape::Keys(keys.into_iter().filter(|(key, _)| *key == "metadata").chain(any).collect())
        }
    };
    if let Shape::Keys(keys) = &mut shape
        && let Some(Shape::Keys(meta)) = keys.get_mut("metadata")
    {
        meta.insert("annotations", Shape::Annotations);
    }
    shape
}

/// The shape of a type. One that does not let itself be traced is not checked; a test holds that there is none.
fn traced<T: DeserializeOwned>(kind: Kind) -> Shape {
    let mut shape = Shape::Any;
    let tracer = Tracer { shape: &mut shape, kind, text: TEXT };
    if T::deserialize(tracer).is_ok() { shape } else { Shape::Any }
}

/// A text that any field takes for its own: those that are no plain texts are times.
const TEXT: &str = "2026-01-01T00:00:00Z";

/// A source that has whatever it is asked for, and writes down what that was.
struct Tracer<'s> {
    shape: &'s mut Shape,
    kind: Kind,
    /// What it has where a text is wanted.
    text: &'static str,
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i32(0)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut item = Shape::Any;
        let value = visitor.visit_seq(OneItem { item: Some(&mut item), kind: self.kind })?;
        *self.shape = Shape::List(Box::new(item));
        Ok(value)
    }

    /// Labels, annotations, capacities: keys that the user or a machine chooses.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { names: &[], keys: &mut BTreeMap::new(), kind: self.kind })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut keys = BTreeMap::new();
        let value = visitor.visit_map(Fields { names: fields, keys: &mut keys, kind: self.kind })?;
        *self.shape = Shape::Keys(keys);
        Ok(value)
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

/// Every field of a type, one after the other.
struct Fields<'s> {
    names: &'static [&'static str],
    keys: &'s mut BTreeMap<&'static str, Shape>,
    kind: Kind,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.first() else { return Ok(None) };
        let name: StrDeserializer<'_, Error> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, rest)) = self.names.split_first() else { return seed.deserialize(().into_deserializer()) };
        self.names = rest;
        // An object reads no other kind than its own.
        let text = match *name {
            "apiVersion" => self.kind.api_version(),
            "kind" => self.kind.name(),
            _ => TEXT,
        };
        let shape = self.keys.entry(name).or_default();
        seed.deserialize(Tracer { shape, kind: self.kind, text })
    }
}

/// A list with one item, so that what an item is comes out.
struct OneItem<'s> {
    item: Option<&'s mut Shape>,
    kind: Kind,
}

impl<'de> SeqAccess<'de> for OneItem<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(shape) = self.item.take() else { return Ok(None) };
        seed.deserialize(Tracer { shape, kind: self.kind, text: TEXT }).map(Some)
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    /// The keys at a place; lists are gone through.
    fn keys(kind: Kind, way: &[&str]) -> Vec<&'static str> {
        let mut shape = Shape::of(kind);
        for key in way.iter().map(Some).chain([None]) {
            while let Shape::List(item) = shape {
                shape = item;
            }
            let Shape::Keys(keys) = shape else { panic!("{kind:?} {way:?}: {shape:?} has no keys") };
            let Some(key) = key else { return keys.keys().copied().collect() };
            shape = keys.get(*key).unwrap_or_else(|| panic!("{kind:?} has no {key}"));
        }
        Vec::new()
    }

    #[test]
    fn every_kind_is_known_to_its_depth() {
        for kind in Kind::ALL {
            assert!(keys(kind, &[]).contains(&"metadata"), "{kind:?}");
            assert!(keys(kind, &["metadata"]).contains(&"resourceVersion"), "{kind:?}");
            assert!(keys(kind, &["metadata", "ownerReferences"]).contains(&"controller"), "{kind:?}");
        }
        assert!(keys(Kind::Service, &["spec"]).contains(&"trafficDistribution"));
        assert_eq!(
            keys(Kind::Service, &["spec", "ports"]),
            ["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"]
        );
        assert_eq!(keys(Kind::Service, &["spec", "sessionAffinityConfig", "clientIP"]), ["timeoutSeconds"]);
        assert!(keys(Kind::Service, &["status", "loadBalancer", "ingress"]).contains(&"ipMode"));
        assert_eq!(keys(Kind::EndpointSlice, &["endpoints", "conditions"]), ["ready", "serving", "terminating"]);
        assert_eq!(keys(Kind::EndpointSlice, &["endpoints", "hints", "forZones"]), ["name"]);
        assert!(keys(Kind::Node, &["spec"]).contains(&"podCIDRs"));
        assert!(keys(Kind::Node, &["status", "nodeInfo"]).contains(&"kernelVersion"));
        assert!(keys(Kind::Pod, &["spec", "containers", "livenessProbe", "httpGet"]).contains(&"path"));
        assert_eq!(keys(Kind::ServiceCidr, &["spec"]), ["cidrs"]);
    }
}
