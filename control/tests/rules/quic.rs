//! Annotation `levee.dev/quic-lb`.

use std::collections::BTreeMap;

use levee_api::program::Program;
use levee_api::quic::Config;
use levee_control::compile::{View, compile};

use super::common::*;

fn view() -> View {
    let config = |rotation, server_id_length| Config {
        rotation,
        server_id_length,
        nonce_length: 6,
        key: None,
        encodes_length: true,
        servers: Vec::new(),
    };
    let quic = [("blue", config(0, 4)), ("green", config(1, 4)), ("short", config(2, 1)), ("also-blue", config(0, 3))];
    View { quic: quic.map(|(name, config)| (name.to_owned(), config)).into(), ..View::balancer("b") }
}

fn compiled(annotation: &str, ports: &str, endpoints: &[&str]) -> (Program, Vec<String>) {
    let metadata = format!("annotations: {{levee.dev/quic-lb: '{annotation}'}}");
    let web = named_web(&metadata, &format!("ports: [{ports}]"), "");
    let slice = slice_with(
        "a",
        "IPv4",
        "kubernetes.io/service-name: web",
        "{name: h3, port: 8443, protocol: UDP}, {name: http, port: 8080}",
        endpoints,
    );
    let (program, notices) = compile(&cluster(&format!("{web}{slice}")), &view());
    (program, notices.into_iter().map(|notice| notice.message).filter(|message| message.contains("quic-lb")).collect())
}

const BOTH: &str = "{name: h3, port: 443, protocol: UDP}, {name: http, port: 80}";

#[test]
fn a_service_names_the_configurations_of_its_ports_of_udp() {
    let (program, notices) = compiled("blue, green", BOTH, &["10.244.1.1 n", "10.244.2.1 n"]);
    let rotations: BTreeMap<_, Vec<u8>> = program
        .services
        .iter()
        .map(|service| (service.name.as_str(), service.quic.iter().map(|config| config.rotation).collect()))
        .collect();
    assert_eq!(rotations, [("default/web:h3", vec![0, 1]), ("default/web:http", vec![])].into());
    assert_eq!(notices, [""; 0]);
}

#[test]
fn what_cannot_be_is_told_and_the_rest_is_done() {
    for (annotation, ports, rotations, expected) in [
        ("blue,red", BOTH, &[0][..], "names `red`, which is not in `quic_lb`"),
        ("blue, also-blue", BOTH, &[0], "two configurations of rotation 0; `also-blue` is left out"),
        (" , ", BOTH, &[], "names no configuration"),
        ("blue", "{name: http, port: 80}", &[], "is for ports of UDP, of which it has none"),
        ("short", BOTH, &[2], "10.244.1.7:8443 and 10.244.2.7:8443 have one server ID of rotation 2, 07"),
    ] {
        let (program, notices) = compiled(annotation, ports, &["10.244.1.7 n", "10.244.2.7 n"]);
        let first = program.services.first().expect("it is served all the same");
        let found: Vec<_> = first.quic.iter().map(|config| config.rotation).collect();
        assert_eq!(found, rotations, "{annotation}");
        assert!(notices.iter().any(|notice| notice.contains(expected)), "{annotation}: {notices:?}");
    }
}
