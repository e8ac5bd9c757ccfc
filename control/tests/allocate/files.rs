use levee_control::compile::{View, compile};
use levee_control::model::validate;
use levee_control::watch::read;

const POOL: &str = "---
apiVersion: levee.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [192.0.2.0/24, '2001:db8::/64']}
";

fn service(name: &str, address: u8, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}{more}}}\nspec:\n  type: LoadBalancer\n  \
         clusterIPs: [10.96.0.{address}, 'fd00::{address}']\n  ports: [{{port: 80}}]\n"
    )
}

/// Announced addresses and notices of a balancer.
fn balanced(yaml: &str) -> (Vec<String>, Vec<String>) {
    let reading = read("f.yaml", yaml.as_bytes());
    assert!(reading.mistakes.is_empty(), "{}", reading.mistakes[0]);
    let validation = validate(&reading.objects, reading.notices);
    assert!(validation.refused.is_empty(), "{}", validation.refused[0]);
    let (program, notices) = compile(&validation.cluster, &View::balancer("b"));
    let announced = program.vips.iter().filter(|vip| vip.announce).map(|vip| vip.address.to_string()).collect();
    (announced, notices.iter().map(ToString::to_string).collect())
}

#[test]
fn services_of_files_get_addresses_of_pools_of_files() {
    let (one, notices) = balanced(&format!("{POOL}{}", service("web", 10, "")));
    assert_eq!(one.len(), 2, "{one:?}");
    assert_eq!(notices, [""; 0]);
    // In any order, and beside others, the same.
    let (two, _) = balanced(&format!("{}{}{POOL}", service("other", 11, ""), service("web", 10, "")));
    assert_eq!(two.len(), 4);
    assert!(one.iter().all(|address| two.contains(address)), "{one:?} {two:?}");
}

#[test]
fn what_a_status_in_a_file_says_counts_more_than_pools() {
    let with_status = service("web", 10, "") + "status: {loadBalancer: {ingress: [{ip: 198.51.100.7}]}}\n";
    let (announced, _) = balanced(&format!("{POOL}{with_status}"));
    assert_eq!(announced.len(), 2, "{announced:?}");
    assert_eq!(announced[0], "198.51.100.7");
    assert!(announced[1].starts_with("2001:db8:"), "of the other family, one of the pool: {announced:?}");
}

#[test]
fn requests_count_in_files_and_what_cannot_be_had_is_told() {
    let asks = |text: &str| service("web", 10, &format!(", annotations: {{levee.dev/addresses: '{text}'}}"));
    let (announced, _) = balanced(&format!("{POOL}{}", asks("192.0.2.80, 2001:db8::80")));
    assert_eq!(announced, ["192.0.2.80", "2001:db8::80"]);
    for (text, expected) in [
        ("192.0.2.0", "192.0.2.0 of AddressPool public is given to nobody: the network address of its prefix"),
        ("203.0.113.1", "203.0.113.1 is in no AddressPool"),
        ("192.0.2.1,192.0.2.2", "annotation `levee.dev/addresses`: 192.0.2.1 and 192.0.2.2 are both of IPv4"),
        ("192.0.2.1,", "annotation `levee.dev/addresses`: `` is not an IP address"),
        ("\\u202e", "is not an IP address"),
    ] {
        let (_, notices) = balanced(&format!("{POOL}{}", asks(text)));
        assert!(
            notices.iter().any(|notice| notice.starts_with("Service default/web: ") && notice.contains(expected)),
            "{notices:?}"
        );
    }
    let both = asks("192.0.2.80").replace("spec:\n", "spec:\n  loadBalancerIP: 192.0.2.81\n");
    let (_, notices) = balanced(&format!("{POOL}{both}"));
    assert!(notices.iter().any(|notice| notice.contains("it has both the annotation")), "{notices:?}");
}

#[test]
fn without_pools_nothing_is_said_of_them() {
    let (announced, notices) = balanced(&service("web", 10, ""));
    assert_eq!(announced, [""; 0]);
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("has no address in `status.loadBalancer.ingress` yet"), "{notices:?}");
}
