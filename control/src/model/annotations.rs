//! The annotations that levee reads, all of them: whatever else begins with `levee.dev/` is somebody's mistake.
//!
//! In a file it is refused, where it stands; of a live cluster, whose objects are not ours to refuse for what nobody reads, it is
//! told.

use levee_api::word;

use super::Kind;

/// What all of ours begin with.
const OURS: &str = "levee.dev/";

/// How levee should reach the backends.
pub(super) const MODE: &str = "levee.dev/mode";
/// By what its servers make QUIC connection IDs.
pub(super) const QUIC: &str = "levee.dev/quic-lb";
/// How long its backends keep their flows when they get no new ones.
pub(super) const DRAIN: &str = "levee.dev/drain";
/// What becomes of TCP segments of no flow.
pub(super) const MID_STREAM: &str = "levee.dev/mid-stream";
/// Addresses that the Service should have, separated by commas: at most one of each family.
pub(super) const ADDRESSES: &str = "levee.dev/addresses";
/// The pool that they should come from.
pub(super) const POOL: &str = "levee.dev/pool";
/// Services with the same one may share an address.
pub(super) const SHARE_KEY: &str = "levee.dev/share-key";
/// Ranges of ports beside its `ports`.
pub(super) const PORT_RANGES: &str = "levee.dev/port-ranges";
/// Every port of its addresses.
pub(super) const WHOLE_ADDRESS: &str = "levee.dev/whole-address";

/// Those of a Service; other kinds have none.
const OF_A_SERVICE: [&str; 9] = [MODE, QUIC, DRAIN, MID_STREAM, ADDRESSES, POOL, SHARE_KEY, PORT_RANGES, WHOLE_ADDRESS];

/// What is wrong with an annotation's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// What.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: String,
}

/// Why an annotation on an object of a kind is one of ours that is not there.
pub(crate) fn unknown(kind: Kind, name: &str) -> Option<Unknown> {
    let rest = name.strip_prefix(OURS)?;
    let shown: String = name.chars().take(60).collect();
    let is_known = OF_A_SERVICE.contains(&name);
    match kind {
        Kind::Service if is_known => None,
        Kind::Service => Some(Unknown {
            message: format!("unknown annotation `{shown}`"),
            help: match word::likely(rest, OF_A_SERVICE.iter().filter_map(|known| known.strip_prefix(OURS))) {
                Some(meant) => format!("did you mean `{OURS}{meant}`?"),
                None => format!("expected one of `{}`", OF_A_SERVICE.join("`, `")),
            },
        }),
        Kind::EndpointSlice | Kind::Node | Kind::Pod | Kind::ServiceCidr | Kind::AddressPool if is_known => {
            Some(Unknown {
                message: format!("the annotation `{shown}` means nothing on {}", kind.name()),
                help: "put it on the Service".to_owned(),
            })
        }
        Kind::EndpointSlice | Kind::Node | Kind::Pod | Kind::ServiceCidr | Kind::AddressPool => Some(Unknown {
            message: format!("unknown annotation `{shown}`"),
            help: format!("levee reads no annotation of {}; is it meant as a label?", kind.name()),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::num::NonZeroU16;
    use std::sync::Arc;

    use super::super::external::{ClusterIp, Meta, Port, Service, ServicePort, ServiceSpec, ServiceStatus};
    use super::super::{Object, Origin, Placed, Sourced, validate};
    use super::*;

    #[test]
    fn of_a_live_cluster_it_is_told_and_nothing_is_refused() {
        let name = Placed { value: "web".to_owned(), place: None };
        let annotations = [("levee.dev/mdoe", "dsr"), ("levee.dev/mode", "dsr"), ("example.com/mdoe", "")];
        let annotations = annotations.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let cluster_ip = Placed { value: ClusterIp::Address("10.96.0.10".parse().unwrap()), place: None };
        let eighty = Port(NonZeroU16::new(80).unwrap());
        let port =
            ServicePort { name: None, protocol: None, port: Placed { value: eighty, place: None }, node_port: None };
        let object = Object::Service(Box::new(Service {
            metadata: Meta { name, annotations, ..Meta::default() },
            spec: ServiceSpec { cluster_ip: Some(cluster_ip), ports: vec![port], ..ServiceSpec::default() },
            status: ServiceStatus::default(),
        }));
        let origin = Origin::of_cluster(Arc::from("kubernetes"));
        let validation = validate(&[Sourced { origin, object }], Vec::new());
        assert!(validation.refused.is_empty(), "{:?}", validation.refused);
        // Nor as a part of a cluster: that would be told, too.
        let told: Vec<String> = validation.cluster.notices().iter().map(ToString::to_string).collect();
        let expected = "Service default/web: unknown annotation `levee.dev/mdoe`, which is passed over: did you mean `levee.dev/mode`?";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn other_kinds_have_none() {
        assert_eq!(unknown(Kind::Service, DRAIN), None);
        assert_eq!(unknown(Kind::Node, "example.com/drain"), None);
        assert_eq!(unknown(Kind::Node, DRAIN).unwrap().help, "put it on the Service");
        assert!(unknown(Kind::Node, "levee.dev/node").unwrap().help.contains("is it meant as a label?"));
    }
}
