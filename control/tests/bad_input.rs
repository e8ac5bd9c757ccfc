//! Every kind of bad cluster YAML: a message with file, line and column, and what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::{self, File};
use std::path::Path;

use levee_api::diagnostic::Diagnostic;
use levee_control::model::validate;
use levee_control::offline;
use levee_control::watch::read;

const GOOD: &str = include_str!("../../tests/fixtures/cluster/cluster.yaml");

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  ports:
    - name: http
      port: 80
      nodePort: 30080
status:
  loadBalancer:
    ingress:
      - ip: 192.0.2.80
";

const SLICE: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels:
    kubernetes.io/service-name: web
addressType: IPv4
ports:
  - name: http
    port: 8080
endpoints:
  - addresses: [10.244.1.10]
    conditions:
      ready: true
";

const NODE: &str = "\
apiVersion: v1
kind: Node
metadata:
  name: n1
spec:
  podCIDRs: [10.244.1.0/24]
status:
  addresses:
    - type: InternalIP
      address: 172.16.0.1
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: p
spec:
  nodeName: n1
status:
  podIP: 10.244.1.7
";

const POOL: &str = "\
apiVersion: levee.dev/v1alpha1
kind: AddressPool
metadata:
  name: public
spec:
  addresses:
    - 192.0.2.0/24
    - 198.51.100.10-198.51.100.20
  autoAssign: true
";

/// Everything that is said about a text.
fn told(text: &str) -> Vec<Diagnostic> {
    let reading = read("c.yaml", text.as_bytes());
    if !reading.mistakes.is_empty() {
        return reading.mistakes;
    }
    validate(&reading.objects, reading.notices).refused
}

/// The one thing that is said begins and continues like this.
#[track_caller]
fn assert_told(text: &str, start: &str, rest: &[&str]) {
    let told = told(text);
    assert_eq!(told.len(), 1, "one mistake in\n{text}\nbut told\n{told:#?}");
    let told = told[0].to_string();
    assert!(told.starts_with(start), "told\n{told}\nexpected\n{start}");
    for part in rest {
        assert!(told.contains(part), "told\n{told}\nexpected\n{part}");
    }
}

/// A text with one change that must have changed something.
#[track_caller]
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

#[test]
fn the_samples_are_good() {
    for text in [GOOD, SERVICE, SLICE, NODE, POD, POOL] {
        assert_eq!(told(text), [], "{text}");
    }
}

#[test]
fn wrong_keys() {
    // Of our own kinds, any.
    assert_told(
        &with(POOL, "autoAssign", "autoAsign"),
        "c.yaml:9:3: unknown key `autoAsign`, expected one of `addresses`, `autoAssign`",
        &["did you mean `autoAssign`?"],
    );
    // Of Kubernetes' kinds, those that are missed.
    assert_told(&with(SLICE, "addressType: IPv4\n", ""), "c.yaml:", &["the key `addressType` is missing"]);
    let portless = with(SERVICE, "      port: 80\n", "");
    assert_told(&portless, "c.yaml:10:7: the key `port` is missing", &["add `port:`"]);
    assert_told(&with(SERVICE, "kind: Service", "kin: Service"), "c.yaml:1:1: the key `kind` is missing", &[]);
    assert_told(
        &with(SERVICE, "  type: LoadBalancer", "  type: LoadBalancer\n  type: NodePort"),
        "c.yaml:7:3: the key `type` is here for the second time",
        &[],
    );
}

/// Of Kubernetes' kinds, those that are a slip away from one that may stand there: nobody else would say so.
#[test]
fn misspelt_keys_of_kubernetes_kinds() {
    let annotated = |what: &str| with(SERVICE, "  name: web\n", &format!("  name: web\n  annotations: {{{what}}}\n"));
    for (text, start, meant) in [
        (
            with(SERVICE, "spec:\n", "spec:\n  externalTrafficPolcy: Local\n"),
            "c.yaml:6:3: unknown key `externalTrafficPolcy` in `spec` of Service",
            "externalTrafficPolicy",
        ),
        (with(SERVICE, "spec:\n", "spec:\n  sessionAffinty: ClientIP\n"), "c.yaml:6:3: ", "sessionAffinity"),
        (
            with(SERVICE, "      port: 80\n", "      port: 80\n      protcol: UDP\n"),
            "c.yaml:11:7: unknown key `protcol` in `spec.ports` of Service",
            "protocol",
        ),
        (with(SERVICE, "      port:", "      prt:"), "c.yaml:10:7: unknown key `prt`", "port"),
        (with(SERVICE, "clusterIP", "clusterIp"), "c.yaml:7:3: unknown key `clusterIp`", "clusterIP"),
        (with(SERVICE, "metadata", "metdata"), "c.yaml:3:1: unknown key `metdata` in Service", "metadata"),
        (with(SERVICE, "  name: web", "  name: web\n  anotations: {}"), "c.yaml:5:3: ", "annotations"),
        (with(SERVICE, "      - ip:", "      - ipMod: Proxy\n        ip:"), "c.yaml:15:9: ", "ipMode"),
        (
            with(SLICE, "addressType", "adressType"),
            "c.yaml:7:1: unknown key `adressType` in EndpointSlice",
            "addressType",
        ),
        (with(SLICE, "ready", "redy"), "c.yaml:14:7: unknown key `redy` in `endpoints.conditions`", "ready"),
        (with(NODE, "podCIDRs", "podCDIRs"), "c.yaml:6:3: ", "podCIDRs"),
        (with(POD, "nodeName", "nodename"), "c.yaml:6:3: ", "nodeName"),
        (with(POOL, "  name: public", "  name: public\n  lables: {}"), "c.yaml:5:3: ", "labels"),
        (annotated("levee.dev/mdoe: dsr"), "c.yaml:5:17: unknown annotation `levee.dev/mdoe`", "levee.dev/mode"),
        (annotated("levee.dev/drian: 5s"), "c.yaml:5:17: unknown annotation `levee.dev/drian`", "levee.dev/drain"),
        (with(SERVICE, "kind: Service", "kind: Servce"), "c.yaml:2:7: kind `Servce` is not known", "Service"),
        (with(SERVICE, "kind: Service", "kind: service"), "c.yaml:2:7: kind `service` is not known", "Service"),
        (with(SLICE, "kind: EndpointSlice", "kind: EndpointSlices"), "c.yaml:2:7: ", "EndpointSlice"),
        (with(SLICE, "discovery.k8s.io", "discovry.k8s.oi"), "c.yaml:1:13: `apiVersion` of", "discovery.k8s.io/v1"),
        ("apiVersion: v1\nkind: Lst\nitems: []\n".to_owned(), "c.yaml:2:7: ", "List"),
        ("apiVersion: v1\nkind: ServceList\nitems: []\n".to_owned(), "c.yaml:2:7: ", "ServiceList"),
    ] {
        assert_told(&text, start, &[&format!("did you mean `{meant}`?")]);
    }
    // One that resembles none of ours is as wrong, since nobody but us would read it.
    assert_told(
        &annotated("levee.dev/colour: red"),
        "c.yaml:5:17: unknown annotation `levee.dev/colour`",
        &["expected one of `levee.dev/mode`, "],
    );
    // All of a document are told at once, in lists too, and after the lines of other documents.
    let two = with(SERVICE, "spec:\n", "spec:\n  sessionAffinty: ClientIP\n  externalTrafficPolcy: Local\n");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", two.trim_end().replace('\n', "\n  "));
    let lines: Vec<_> = told(&format!("{NODE}---\n{list}\n")).iter().map(|told| (told.line, told.column)).collect();
    assert_eq!(lines, [(Some(20), Some(5)), (Some(21), Some(5))]);
}

/// What Kubernetes has, has had or may have one day is never a mistake.
#[test]
fn keys_that_levee_does_not_read() {
    for (text, from, to) in [
        (SERVICE, "spec:\n", "spec:\n  trafficDistribution: PreferClose\n  allocateLoadBalancerNodePorts: true\n"),
        (SERVICE, "      port: 80\n", "      port: 80\n      targetPort: web\n      appProtocol: http\n"),
        (SERVICE, "  name: web\n", "  name: web\n  managedFields: [{manager: m, fieldsV1: {\"f:sepc\": {}}}]\n"),
        (SERVICE, "  name: web\n", "  name: web\n  labels: {prt: a}\n  annotations: {example.com/mdoe: a}\n"),
        (SERVICE, "  clusterIP: ", "  selector: {clusterIp: a}\n  clusterIP: "),
        (NODE, "status:\n", "status:\n  nodeInfo: {kernelVersion: '6.1'}\n  capacity: {cpus: '4'}\n"),
        (POD, "spec:\n", "spec:\n  containers: [{name: c, image: i, ports: [{containerPort: 80}]}]\n"),
    ] {
        let reading = read("c.yaml", with(text, from, to).as_bytes());
        assert!(reading.mistakes.is_empty() && reading.notices.is_empty(), "{to}: {reading:#?}");
    }
    let later = with(SERVICE, "spec:\n", "spec:\n  quantumTunnels: {enabled: true}\n");
    let reading = read("c.yaml", format!("{later}---\n{later}").as_bytes());
    assert!(reading.mistakes.is_empty(), "{:#?}", reading.mistakes);
    let [notice] = reading.notices.as_slice() else { panic!("once in a file: {:#?}", reading.notices) };
    let told = notice.to_string();
    assert!(told.starts_with("c.yaml:6: the key `quantumTunnels` in `spec` of Service is not known"), "{told}");
    // Other people's kinds are theirs.
    let text = "apiVersion: example.com/v1\nkind: Servce\n---\napiVersion: v1\nkind: ServiceAccount\n";
    let reading = read("c.yaml", text.as_bytes());
    assert_eq!((reading.mistakes.len(), reading.notices.len()), (0, 2), "{reading:#?}");
}

#[test]
fn wrong_types_and_values() {
    for (text, from, to, start) in [
        (SERVICE, "port: 80\n", "port: http\n", "c.yaml:10:13: "),
        (SERVICE, "port: 80\n", "port: 0\n", "c.yaml:10:13: "),
        (SERVICE, "port: 80\n", "port: 70000\n", "c.yaml:10:13: "),
        (SERVICE, "nodePort: 30080", "nodePort: -1", "c.yaml:11:17: "),
        (
            SERVICE,
            "LoadBalancer",
            "LoadBalancr",
            "c.yaml:6:9: unknown value `LoadBalancr`, expected one of `ClusterIP`",
        ),
        (SERVICE, "name: web", "name: [web]", "c.yaml:4:9: "),
        (SERVICE, "    - name: http", "    - protocol: tcp\n      name: http", "c.yaml:9:17: unknown value `tcp`"),
        (SERVICE, "  ports:\n", "  ports: 80\n  x:\n", "c.yaml:8:10: "),
        (SERVICE, "spec:\n", "spec: 5\nx:\n", "c.yaml:5:7: "),
        (SLICE, "ready: true", "ready: maybe", "c.yaml:14:14: "),
        (SLICE, "ready: true", "ready: 1", "c.yaml:14:14: "),
        (SLICE, "addressType: IPv4", "addressType: IPv5", "c.yaml:7:14: unknown value `IPv5`"),
        (SLICE, "[10.244.1.10]", "10.244.1.10", "c.yaml:12:16: "),
        (POOL, "autoAssign: true", "autoAssign: sometimes", "c.yaml:9:15: "),
    ] {
        assert_told(&with(text, from, to), start, &[]);
    }
    let long = with(
        SERVICE,
        "spec:\n",
        "spec:\n  sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}\n",
    );
    assert_told(&long, "c.yaml:7:54: Service default/web: `timeoutSeconds` is 90000; expected 1 to 86400", &[]);
    assert_told(&with(SERVICE, "name: web", "name: a/b"), "c.yaml:4:9: ", &["`a/b` is no name", "expected 1 to 253"]);
    assert_told(&with(SERVICE, "name: web", "name: ''"), "c.yaml:4:9: ", &["`` is no name"]);
}

#[test]
fn wrong_addresses() {
    for (text, from, to, start) in [
        (SERVICE, "10.96.0.10", "10.96.0.300", "c.yaml:7:14: `10.96.0.300` is not an IP address"),
        (
            SERVICE,
            "10.96.0.10",
            "::ffff:10.96.0.10",
            "c.yaml:7:14: `::ffff:10.96.0.10` is an IPv4 address in IPv6 form",
        ),
        (SERVICE, "10.96.0.10", "127.0.0.1", "c.yaml:7:14: Service default/web: `127.0.0.1` is a loopback address"),
        (SERVICE, "192.0.2.80", "lb.example", "c.yaml:15:13: `lb.example` is not an IP address"),
        (SERVICE, "192.0.2.80", "224.0.0.1", "c.yaml:15:13: Service default/web: `224.0.0.1` is a multicast"),
        (SERVICE, "192.0.2.80", "10.96.0.10", "c.yaml:15:13: Service default/web: `10.96.0.10` is its ClusterIP and"),
        (
            SLICE,
            "10.244.1.10",
            "web-0.local",
            "c.yaml:12:17: EndpointSlice default/web-1: `web-0.local` is not an IP address",
        ),
        (
            SLICE,
            "10.244.1.10",
            "169.254.169.254",
            "c.yaml:12:17: EndpointSlice default/web-1: `169.254.169.254` is a link-local",
        ),
        (NODE, "10.244.1.0/24", "10.244.1.0", "c.yaml:6:14: `10.244.1.0` is not an IP prefix"),
        (NODE, "10.244.1.0/24", "0.0.0.0/0", "c.yaml:6:14: Node n1: its pods' prefix `0.0.0.0/0` is the whole world"),
        (
            POD,
            "10.244.1.7",
            "127.0.0.1",
            "c.yaml:8:10: Pod default/p: `127.0.0.1` is a loopback address and cannot be a pod's",
        ),
        (NODE, "172.16.0.1", "n1", "c.yaml:10:16: Node n1: `n1` is not an IP address"),
        (
            POOL,
            "192.0.2.0/24",
            "192.0.2.1/24",
            "c.yaml:7:7: `192.0.2.1/24` has bits beyond its prefix: write `192.0.2.0/24`",
        ),
        (POOL, "192.0.2.0/24", "192.0.2.9-192.0.2.1", "c.yaml:7:7: `192.0.2.9-192.0.2.1` ends before it begins"),
        (POOL, "192.0.2.0/24", "192.0.2.9-2001:db8::1", "c.yaml:7:7: `192.0.2.9-2001:db8::1` begins in one IP family"),
    ] {
        assert_told(&with(text, from, to), start, &[]);
    }
}

#[test]
fn endpoints_and_addresses_outside_of_their_family() {
    assert_told(
        &with(SLICE, "10.244.1.10", "fd00::10"),
        "c.yaml:12:17: EndpointSlice default/web-1: `fd00::10` is not IPv4, the `addressType` of its slice",
        &["help: put endpoints of the other family into a slice of their own"],
    );
    assert_told(
        &with(SERVICE, "  ports:", "  clusterIPs: [10.96.0.10, fd00::10]\n  ipFamilies: [IPv6, IPv4]\n  ports:"),
        "c.yaml:8:16: Service default/web: `10.96.0.10` is not IPv6, which stands in its place in `ipFamilies`",
        &["must be in one order"],
    );
    assert_told(
        &with(SERVICE, "  ports:", "  clusterIPs: [10.96.0.11]\n  ports:"),
        "c.yaml:7:14: Service default/web: `clusterIP` is not the first of `clusterIPs`",
        &[],
    );
}

#[test]
fn ranges_that_cannot_be_are_told_with_what_was_expected() {
    let annotated = |text: &str| with(SERVICE, "  name: web\n", &format!("  name: web\n  annotations: {{{text}}}\n"));
    let message = "c.yaml:4:9: Service default/web: annotation `levee.dev/port-ranges`: ";
    for (text, why) in [
        ("5060-5080, 5070-5090", "5060-5080 and 5070-5090 of tcp overlap; a port can be in one range only"),
        (
            "rtp=1-2/RTP",
            "`RTP` is no protocol with ports: TCP, UDP or SCTP; expected `[NAME=]FIRST-LAST[/PROTOCOL]`, such as `rtp=10000-20000/UDP`",
        ),
    ] {
        assert_told(&annotated(&format!("levee.dev/port-ranges: '{text}'")), &format!("{message}{why}"), &[]);
    }
    assert_told(
        &annotated("levee.dev/whole-address: 'yes'"),
        "c.yaml:4:9: Service default/web: annotation `levee.dev/whole-address` is `yes`; expected `true` or `false`",
        &[],
    );
    assert_eq!(told(&annotated("levee.dev/port-ranges: 'rtp=10000-20000/UDP', levee.dev/whole-address: 'true'")), []);
}

#[test]
fn two_services_with_one_address_and_overlapping_ranges_are_both_named() {
    let ranges = |text: &str| format!("  name: web\n  annotations: {{levee.dev/port-ranges: '{text}'}}\n");
    let other = with(&with(SERVICE, "  name: web\n", &ranges("50-100/UDP")), "10.96.0.10", "10.96.0.11")
        .replace("30080", "30081");
    let other = with(&with(&other, "name: web\n", "name: web2\n"), "port: 80\n", "port: 81\n");
    let first = |text: &str| with(SERVICE, "  name: web\n", &ranges(text));
    let all = told(&format!("{}---\n{other}", first("90-95/UDP")));
    assert!(all.len() == 1 && all[0].message.contains(
        "Service default/web2: it claims udp ports 90-95 of address 192.0.2.80, which Service default/web has already (c.yaml:4)"
    ), "{all:?}");
    // Beside each other, of another protocol, around an ordinary port: no conflict.
    for text in ["101-110/UDP", "50-100", "1-49/UDP"] {
        assert_eq!(told(&format!("{}---\n{other}", first(text))), [], "{text}");
    }
    let whole = |yaml: &str| yaml.replace("levee.dev/port-ranges: '50-100/UDP'", "levee.dev/whole-address: 'true'");
    assert_eq!(told(&format!("{SERVICE}---\n{}", whole(&other))), []);
    let all = told(&format!("{}---\n{}", whole(&first("50-100/UDP")), whole(&other)));
    assert!(all.len() == 1 && all[0].message.contains("it claims address 192.0.2.80 whole"), "{all:?}");
}

#[test]
fn two_services_with_one_address_and_port_are_both_named() {
    let other = with(&with(SERVICE, "name: web", "name: web2"), "10.96.0.10", "10.96.0.11").replace("30080", "30081");
    let both = format!("{SERVICE}---\n{other}");
    assert_told(
        &both,
        "c.yaml:31:13: Service default/web2: it claims address 192.0.2.80 with tcp port 80, which Service default/web \
         has already (c.yaml:4)",
        &["help: give one of the two another address or another port"],
    );
    // Another protocol, another port, another address: no conflict.
    for (from, to) in
        [("port: 80\n", "port: 81\n"), ("    - name", "    - protocol: UDP\n      name"), ("192.0.2.80", "192.0.2.81")]
    {
        assert_eq!(told(&format!("{SERVICE}---\n{}", with(&other, from, to))), [], "{to}");
    }
    // A ClusterIP against a load-balancer address.
    let crossed = with(&with(&other, "10.96.0.11", "192.0.2.80"), "ip: 192.0.2.80", "ip: 192.0.2.99");
    assert_told(&format!("{SERVICE}---\n{crossed}"), "c.yaml:23:14: ", &["192.0.2.80", "default/web ", "default/web2"]);
    let node_port = with(&with(&other, "30081", "30080"), "192.0.2.80", "192.0.2.81");
    assert_told(&format!("{SERVICE}---\n{node_port}"), "c.yaml:20:9: ", &["tcp node port 30080", "(c.yaml:4)"]);
}

#[test]
fn the_same_twice() {
    assert_told(
        &format!("{SERVICE}---\n{SERVICE}"),
        "c.yaml:20:9: Service default/web: the same object is at c.yaml:4",
        &["remove one"],
    );
    let ports = with(SERVICE, "  ports:\n", "  ports:\n    - name: other\n      port: 80\n");
    assert_told(&ports, "c.yaml:12:13: Service default/web: port 80 of tcp is here twice", &[]);
    let names = with(SERVICE, "  ports:\n", "  ports:\n    - name: http\n      port: 81\n");
    assert_told(&names, "c.yaml:12:13: Service default/web: a second port `http`", &["each needs a name of its own"]);
}

#[test]
fn addresses_in_the_way_of_nodes_and_pods() {
    let taken = with(SERVICE, "10.96.0.10", "172.16.0.1");
    assert_told(
        &format!("{NODE}---\n{taken}"),
        "c.yaml:18:14: ",
        &["Service default/web", "is an address of Node n1", "cut the node off"],
    );
    let among_pods = with(SERVICE, "10.96.0.10", "10.244.1.7");
    assert_told(&format!("{NODE}---\n{among_pods}"), "c.yaml:18:14: ", &["among the pods of Node n1 (10.244.1.0/24)"]);
}

#[test]
fn pools_that_overlap_are_both_named() {
    let other = with(&with(POOL, "name: public", "name: second"), "192.0.2.0/24", "192.0.2.128-192.0.3.3");
    let other = with(&other, "    - 198.51.100.10-198.51.100.20\n", "");
    assert_told(
        &format!("{POOL}---\n{other}"),
        "c.yaml:17:7: AddressPool second: 192.0.2.128-192.0.3.3 overlaps 192.0.2.0-192.0.2.255 of AddressPool public (c.yaml:4)",
        &["one pool only"],
    );
    let inside = with(POOL, "198.51.100.10-198.51.100.20", "192.0.2.7");
    assert_told(&inside, "c.yaml:8:7: ", &["192.0.2.7 overlaps 192.0.2.0-192.0.2.255 of the same pool"]);
    let nodes = with(POOL, "192.0.2.0/24", "172.16.0.0/24");
    assert_told(&format!("{NODE}---\n{nodes}"), "c.yaml:18:7: ", &["contains 172.16.0.1, an address of Node n1"]);
    assert_told(
        &with(&with(POOL, "    - 192.0.2.0/24\n", ""), "\n    - 198.51.100.10-198.51.100.20", " []"),
        "c.yaml:4:9: ",
        &["`addresses` is empty"],
    );
}

#[test]
fn versions_and_kinds() {
    assert_told(
        &with(SLICE, "discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"),
        "c.yaml:1:13: EndpointSlice of `discovery.k8s.io/v1beta1`, expected `discovery.k8s.io/v1`",
        &["convert it"],
    );
    assert_told(&with(SLICE, "discovery.k8s.io/v1", "v1"), "c.yaml:1:13: EndpointSlice of `v1`", &[]);
    assert_told(&with(POOL, "v1alpha1", "v1"), "c.yaml:1:13: AddressPool of `levee.dev/v1`", &[]);
    assert_told(&with(POOL, "AddressPool", "AdressPool"), "c.yaml:2:7: `AdressPool` is no kind of", &["`AddressPool`"]);
    assert_told("{}", "c.yaml:1:1: the key `kind` is missing", &["apiVersion: v1"]);
    assert_told("[]", "c.yaml:1:1: wrong type: ", &[]);
    // Other kinds, and kinds of the same name of a third party, are passed over with a notice.
    for (version, kind) in [("apps/v1", "Deployment"), ("serving.knative.dev/v1", "Service"), ("v1", "ConfigMap")] {
        let reading =
            read("c.yaml", format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n").as_bytes());
        assert!(reading.mistakes.is_empty() && reading.objects.is_empty());
        assert!(reading.notices[0].to_string().starts_with("c.yaml:2: `"), "{:?}", reading.notices);
    }
}

#[test]
fn a_mistake_inside_a_list_has_its_place() {
    let indented = |text: &str| text.replace('\n', "\n    ");
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n  - {}\n  - {}\n",
        indented(NODE).trim_end(),
        indented(&with(SERVICE, "10.96.0.10", "10.96.0.300")).trim_end()
    );
    assert_told(&list, "c.yaml:20:18: `10.96.0.300` is not an IP address", &[]);
    // `kubectl get -o yaml` sorts keys, so `kind: List` comes last.
    let sorted = format!(
        "apiVersion: v1\nitems:\n  - {}\nkind: List\nmetadata: {{resourceVersion: ''}}\n",
        indented(SERVICE).trim_end()
    );
    assert_eq!(read("c.yaml", sorted.as_bytes()).objects.len(), 1);
    // As the API server lists: items without a kind of their own.
    let typed = sorted
        .replace("kind: List", "kind: ServiceList")
        .replace("  - apiVersion: v1\n      kind: Service\n      metadata", "  - metadata");
    assert_eq!(read("c.yaml", typed.as_bytes()).objects.len(), 1, "{typed}");
    assert_eq!(read("c.yaml", b"apiVersion: v1\nkind: List\nitems: null\n").objects.len(), 0);
}

#[test]
fn each_document_is_told_its_own_mistake() {
    let text = format!("{}---\n{}---\n{NODE}", with(SERVICE, "port: 80\n", "port: x\n"), with(SLICE, "IPv4", "x"));
    let told = told(&text);
    let lines: Vec<_> = told.iter().map(|told| told.line).collect();
    assert_eq!(lines, [Some(10), Some(23)]);
}

#[test]
fn every_truncation_is_told_or_is_a_shorter_list_of_objects() {
    let whole = read("c.yaml", GOOD.as_bytes()).objects.len();
    let mut told_of = 0;
    for length in 0..GOOD.len() {
        let reading = read("c.yaml", &GOOD.as_bytes()[..length]);
        assert!(reading.objects.len() <= whole);
        for mistake in &reading.mistakes {
            let has_place = mistake.line.is_some() || mistake.message.contains("no content");
            assert!(has_place && !mistake.message.is_empty(), "{mistake}");
        }
        told_of += usize::from(!reading.mistakes.is_empty());
    }
    assert!(told_of > GOOD.len() / 4, "only {told_of} of {} truncations are told", GOOD.len());
    // Cut in the middle of a word.
    assert_told(&SERVICE[..SERVICE.find("nodePort").unwrap() + 4], "c.yaml:11:", &["cut off?"]);
    assert_told(&SLICE[..SLICE.find("10.244").unwrap()], "c.yaml:12:", &["cut off?"]);
}

#[test]
fn files_that_are_too_large_binary_missing_or_empty() {
    let directory = tempfile::tempdir().unwrap();
    let load = |path: &Path| offline::load(&[path]).expect_err("bad");
    let path = |name: &str| directory.path().join(name);

    // 100 MB without the disk space; it is refused before it is parsed, and after 16 MiB of it have been read.
    let large = path("large.yaml");
    File::create(&large).unwrap().set_len(100_000_000).unwrap();
    let told = load(&large);
    assert!(told[0].message.contains("larger than 16 MiB"), "{}", told[0]);
    assert!(told[0].help.as_ref().unwrap().contains("split it"));

    let binary = path("binary.yaml");
    fs::write(&binary, b"\x7fELF\x02\x01\x01\0\0\0").unwrap();
    assert!(load(&binary)[0].to_string().contains("binary.yaml:1:8: this is not text: it contains a NUL byte"));
    fs::write(&binary, b"a: \xff\xfe").unwrap();
    assert!(load(&binary)[0].to_string().contains("binary.yaml:1:4: this is not text"));

    assert!(load(&path("nowhere.yaml"))[0].to_string().contains("there is no such file"));
    let empty = path("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("README.txt"), "nothing").unwrap();
    fs::write(empty.join(".hidden.yaml"), "[").unwrap();
    assert!(load(&empty)[0].to_string().contains("there is no file here"));

    // As a shell leaves it that is about to write it: not an empty cluster.
    for nothing in ["", "\n", "# soon\n---\n"] {
        fs::write(&binary, nothing).unwrap();
        let told = load(&binary);
        assert!(told[0].message.contains("no content"), "{}", told[0]);
        assert!(told[0].help.as_ref().unwrap().contains("`items: []`"));
    }

    // A directory of good and bad files names the bad one.
    let mixed = path("mixed");
    fs::create_dir(&mixed).unwrap();
    fs::write(mixed.join("a.yaml"), GOOD).unwrap();
    assert_eq!(offline::load(&[&mixed]).unwrap().services().count(), 1);
    fs::write(mixed.join("b.yaml"), "[").unwrap();
    std::os::unix::fs::symlink("nowhere", mixed.join("c.yaml")).unwrap();
    let told = load(&mixed);
    assert_eq!(told.len(), 2);
    assert!(told[0].file.ends_with("b.yaml") && told[1].file.ends_with("c.yaml"));
}
