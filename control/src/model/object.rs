//! Any object that is read, and what names it.

use std::fmt;

use super::external::{AddressPool, EndpointSlice, Meta, Node, Pod, Service, ServiceCidr};
use super::{ObjectName, Origin};

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1`
    Service,
    /// `discovery.k8s.io/v1`
    EndpointSlice,
    /// `v1`
    Node,
    /// `v1`
    Pod,
    /// `networking.k8s.io/v1`
    ServiceCidr,
    /// `levee.dev/v1alpha1`
    AddressPool,
}

impl Kind {
    /// Every one.
    pub const ALL: [Kind; 6] =
        [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::Pod, Kind::ServiceCidr, Kind::AddressPool];

    /// As `kind:` says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Node => "Node",
            Kind::Pod => "Pod",
            Kind::ServiceCidr => "ServiceCIDR",
            Kind::AddressPool => "AddressPool",
        }
    }

    /// As `apiVersion:` says it, in the one version that is read.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Kind::Service | Kind::Node | Kind::Pod => "v1",
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            Kind::ServiceCidr => "networking.k8s.io/v1",
            Kind::AddressPool => "levee.dev/v1alpha1",
        }
    }

    const fn is_namespaced(self) -> bool {
        matches!(self, Kind::Service | Kind::EndpointSlice | Kind::Pod)
    }
}

/// What names an object among all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// `None` for kinds that live in no namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key that metadata gives to an object of a kind.
    #[must_use]
    pub fn of(kind: Kind, meta: &Meta) -> Self {
        Key { kind, namespace: kind.is_namespaced().then(|| namespace(meta).to_owned()), name: meta.name.value.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.name(), self.name),
            None => write!(f, "{} {}", self.kind.name(), self.name),
        }
    }
}

fn namespace(meta: &Meta) -> &str {
    meta.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

impl ObjectName {
    pub(super) fn of(meta: &Meta) -> Self {
        ObjectName { namespace: namespace(meta).to_owned(), name: meta.name.value.clone() }
    }

    pub(super) fn named(key: &Key) -> Self {
        ObjectName { namespace: key.namespace.clone().unwrap_or_default(), name: key.name.clone() }
    }
}

/// An object of any kind that is read.
#[derive(Debug, Clone)]
pub enum Object {
    /// See [`Service`].
    Service(Box<Service>),
    /// See [`EndpointSlice`].
    EndpointSlice(EndpointSlice),
    /// See [`Node`].
    Node(Node),
    /// See [`Pod`].
    Pod(Pod),
    /// See [`ServiceCidr`].
    ServiceCidr(ServiceCidr),
    /// See [`AddressPool`].
    AddressPool(Box<AddressPool>),
}

impl Object {
    /// Its metadata.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Object::Service(object) => &object.metadata,
            Object::EndpointSlice(object) => &object.metadata,
            Object::Node(object) => &object.metadata,
            Object::Pod(object) => &object.metadata,
            Object::ServiceCidr(object) => &object.metadata,
            Object::AddressPool(object) => &object.metadata,
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Object::Service(_) => Kind::Service,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::Node(_) => Kind::Node,
            Object::Pod(_) => Kind::Pod,
            Object::ServiceCidr(_) => Kind::ServiceCidr,
            Object::AddressPool(_) => Kind::AddressPool,
        }
    }
}

/// An object and where it was read.
#[derive(Debug, Clone)]
pub struct Sourced {
    /// Where.
    pub origin: Origin,
    /// What.
    pub object: Object,
}

impl Sourced {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::of(self.object.kind(), self.object.meta())
    }

    /// `FILE:LINE` of its name.
    #[must_use]
    pub fn place(&self) -> String {
        self.origin.name(self.object.meta().name.place)
    }
}
