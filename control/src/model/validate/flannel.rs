//! What flannel says of a Node: where its VXLAN endpoint is (`flannel.alpha.coreos.com/…`, written by flanneld of that Node).
//!
//! | annotation | example |
//! |---|---|
//! | `backend-type` | `vxlan` |
//! | `public-ip`, `public-ipv6` | `192.0.2.1` |
//! | `backend-data`, `backend-v6-data` | `{"VNI":1,"VtepMAC":"8e:3f:2a:91:c0:5d"}` |
//!
//! Annotations are anybody's to write, and other backends of flannel write other data under the same names. What is not understood is
//! told as such, once a packet would have been sent by it (`compile`): a Node is none the worse for it.

use std::collections::BTreeMap;

use levee_api::net::{Family, Mac};
use serde::Deserialize;

use super::unfit;
use crate::model::external::Meta;
use crate::model::{Overlay, Vtep};

const PREFIX: &str = "flannel.alpha.coreos.com/";
/// Both are shorter than 60 bytes as flanneld writes them.
const MOST: usize = 512;

/// `backend-data` of the backend `vxlan`.
#[derive(Deserialize)]
struct Data {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: Mac,
}

/// The endpoints of a Node, by family; or what is wrong with what is said of one.
pub(super) fn overlay(meta: &Meta) -> BTreeMap<Family, Overlay> {
    let said = |name: &str| meta.annotations.get(&format!("{PREFIX}{name}")).map(String::as_str);
    let Some(kind) = said("backend-type") else { return BTreeMap::new() };
    let families = [(Family::Ipv4, "public-ip", "backend-data"), (Family::Ipv6, "public-ipv6", "backend-v6-data")];
    let read = families.into_iter().filter_map(|(family, address, data)| {
        // With several stacks, flanneld writes `null` for the ones that it does not have.
        let (address, data) = (said(address)?, said(data).filter(|data| *data != "null")?);
        Some((family, endpoint(kind, family, address, data).map_err(|why| format!("`{PREFIX}…`: {why}"))))
    });
    read.collect()
}

fn endpoint(kind: &str, family: Family, address: &str, data: &str) -> Result<Vtep, String> {
    let shown = |text: &str| text.chars().take(40).collect::<String>();
    if kind != "vxlan" {
        return Err(format!("its backend is `{}`; packets can be wrapped for `vxlan`", shown(kind)));
    }
    let ip = address.parse().ok().filter(|ip| Family::of(*ip) == family && unfit(*ip).is_none());
    let ip = ip.ok_or_else(|| format!("`{}` is no {family} address of a station", shown(address)))?;
    if data.len() > MOST {
        return Err(format!("its data has {} bytes, and no more than {MOST} are read", data.len()));
    }
    let Data { vni, mac } =
        serde_json::from_str(data).map_err(|error| format!("`{}` is not what VXLAN has: {error}", shown(data)))?;
    if !mac.is_station() {
        return Err(format!("`{mac}` is no MAC of a station"));
    }
    if vni >= 1 << 24 {
        return Err(format!("VNI {vni}; expected 0 to 16777215"));
    }
    Ok(Vtep { address: ip, mac, vni })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> BTreeMap<Family, Overlay> {
        let annotations =
            annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect();
        overlay(&Meta { annotations, ..Meta::default() })
    }

    #[test]
    fn what_flanneld_writes_is_understood() {
        // As flannel 0.26 leaves a Node of a cluster with both families.
        let both = read(&[
            ("backend-data", r#"{"VNI":1,"VtepMAC":"8e:3f:2a:91:c0:5d"}"#),
            ("backend-type", "vxlan"),
            ("backend-v6-data", r#"{"VNI":1,"VtepMAC":"de:11:07:5a:b8:03"}"#),
            ("kube-subnet-manager", "true"),
            ("public-ip", "192.0.2.1"),
            ("public-ipv6", "2001:db8::1"),
        ]);
        let four = both[&Family::Ipv4].as_ref().unwrap();
        assert_eq!((four.address.to_string(), four.mac.to_string()), ("192.0.2.1".into(), "8e:3f:2a:91:c0:5d".into()));
        assert_eq!(four.vni, 1);
        assert_eq!(both[&Family::Ipv6].as_ref().unwrap().mac.to_string(), "de:11:07:5a:b8:03");
        let one = read(&[
            ("backend-type", "vxlan"),
            ("backend-data", r#"{"VNI":4096,"VtepMAC":"8e:3f:2a:91:c0:5d","Later":{"a":[1]}}"#),
            ("backend-v6-data", "null"),
            ("public-ip", "192.0.2.1"),
        ]);
        assert_eq!(one.len(), 1);
        assert_eq!(one[&Family::Ipv4].as_ref().unwrap().vni, 4096);
        assert!(read(&[]).is_empty());
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let good = r#"{"VNI":1,"VtepMAC":"8e:3f:2a:91:c0:5d"}"#;
        let long = format!("{{\"VNI\":1,\"x\":\"{}\"}}", "y".repeat(1000));
        for (kind, address, data, expected) in [
            ("host-gw", "192.0.2.1", good, "its backend is `host-gw`"),
            ("vxlan", "nowhere", good, "`nowhere` is no IPv4 address"),
            ("vxlan", "2001:db8::1", good, "is no IPv4 address"),
            ("vxlan", "0.0.0.0", good, "is no IPv4 address"),
            ("vxlan", "192.0.2.1", "{\"VNI\":1", "is not what VXLAN has"),
            ("vxlan", "192.0.2.1", r#"{"VNI":1,"VtepMAC":"8e:3f"}"#, "is not what VXLAN has"),
            ("vxlan", "192.0.2.1", r#"{"VNI":1,"VtepMAC":"ff:ff:ff:ff:ff:ff"}"#, "is no MAC of a station"),
            ("vxlan", "192.0.2.1", r#"{"VNI":16777216,"VtepMAC":"8e:3f:2a:91:c0:5d"}"#, "expected 0 to 16777215"),
            ("vxlan", "192.0.2.1", &long, "no more than 512 are read"),
        ] {
            let found = read(&[("backend-type", kind), ("public-ip", address), ("backend-data", data)]);
            let told = found[&Family::Ipv4].as_ref().unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }
}
