//! `overlay: flannel`: a balancer that is no part of the pods' overlay, programmed by what flannel writes on Nodes, and workers with
//! nothing of levee's: the kernel's own VXLAN device, set up as flanneld sets it up.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use levee_api::program::Mode;
use levee_tests::cluster::{Cluster, Endpoint, Service, State};
use levee_tests::levee::{Control, Dataplane, Ports, Role, Take, at};
use levee_tests::traffic::{Curl, Nginx};
use levee_tests::{Fabric, Host, Lab, Namespace};

/// Of a Service whose clients' address is the balancer's.
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
/// Of one whose clients' address is kept.
const KEPT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 251);
/// In a network that the workers' way leads to over the balancer.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A worker of a cluster with flannel, and its pod.
struct Worker {
    number: u8,
    host: Host,
    pod: Namespace,
}

impl Worker {
    /// `None` where the kernel has no such devices.
    fn new(lab: &Lab, fabric: &Fabric, number: u8) -> Option<Worker> {
        let host = Host::new(lab, fabric, &format!("worker-{number}"), 210 + number);
        let pod = lab.namespace(&format!("pod-{number}"));
        let worker = Worker { number, host, pod };
        let (namespace, address, mac) = (&worker.host.namespace, worker.host.address, worker.mac(0));
        // As flanneld makes it for `{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}`.
        let made = namespace.try_run(&format!(
            "ip link add flannel.1 address {mac} type vxlan id 1 local {address} dev eth0 nolearning dstport 8472"
        ));
        if !made.status.success() {
            eprintln!("SKIPPED: this kernel has no vxlan devices");
            return None;
        }
        namespace.sysctl("net.ipv4.ip_forward", "1");
        namespace.ip_batch(&format!(
            "addr add 10.244.{number}.0/32 dev flannel.1
             link set flannel.1 up
             link add cni0 type bridge
             addr add 10.244.{number}.1/24 dev cni0
             link set cni0 up
             link add veth0 type veth peer name eth0 netns {}
             link set veth0 master cni0 up
             route add 198.51.100.0/24 via 192.0.2.230 dev eth0",
            worker.pod.name()
        ));
        worker.pod.ip_batch(&format!(
            "addr add {}/24 dev eth0
             link set eth0 up
             route add default via 10.244.{number}.1 dev eth0",
            worker.pod_address()
        ));
        Some(worker)
    }

    fn name(&self) -> String {
        format!("worker-{}", self.number)
    }

    fn pod_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 2)
    }

    /// Of its VXLAN endpoint, in the n-th life of its flanneld.
    fn mac(&self, life: u8) -> String {
        format!("8e:3f:2a:91:{life:02x}:{:02x}", self.number)
    }

    /// What flanneld does for each other node.
    fn knows(&self, other: &Worker) {
        let Worker { number, host, .. } = other;
        let mac = other.mac(0);
        self.host.namespace.ip_batch(&format!(
            "route add 10.244.{number}.0/24 via 10.244.{number}.0 dev flannel.1 onlink
             neigh add 10.244.{number}.0 lladdr {mac} nud permanent dev flannel.1"
        ));
        self.host.namespace.run(&format!("bridge fdb add {mac} dev flannel.1 dst {}", host.address));
    }

    /// Its Node, as kubeadm and flanneld leave it.
    fn node(&self, life: u8) -> String {
        let (name, address, number) = (self.name(), self.host.address, self.number);
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  annotations:\n    \
             flannel.alpha.coreos.com/backend-data: '{{\"VNI\":1,\"VtepMAC\":\"{}\"}}'\n    \
             flannel.alpha.coreos.com/backend-type: vxlan\n    \
             flannel.alpha.coreos.com/kube-subnet-manager: \"true\"\n    \
             flannel.alpha.coreos.com/public-ip: {address}\nspec:\n  podCIDR: 10.244.{number}.0/24\n  \
             podCIDRs: [10.244.{number}.0/24]\nstatus:\n  addresses:\n    - {{type: InternalIP, address: {address}}}\n",
            self.mac(life)
        )
    }
}

#[test]
fn pods_of_flannels_overlay_are_reached_by_what_it_says_of_their_nodes() {
    let Some(lab) = Lab::start() else { return };
    let fabric = Fabric::new(&lab);
    let balancer = Host::new(&lab, &fabric, "balancer", 230);
    let client = Host::new(&lab, &fabric, "client", 201);
    client.namespace.ip_batch(&format!(
        "addr flush dev eth0
         addr add {CLIENT}/32 dev eth0
         route add 192.0.2.0/24 dev eth0"
    ));
    balancer.namespace.ip("route add 198.51.100.0/24 dev eth0");
    let mut workers = Vec::new();
    for number in [1, 2] {
        let Some(worker) = Worker::new(&lab, &fabric, number) else { return };
        workers.push(worker);
    }
    workers[0].knows(&workers[1]);
    workers[1].knows(&workers[0]);
    let _servers: Vec<_> = workers.iter().map(|worker| Nginx::start(&worker.pod, &worker.name(), 8080)).collect();
    let between = Curl::many(&workers[0].pod, at(workers[1].pod_address(), 8080), 1, 5);
    assert_eq!(between.answered(), 5, "the overlay itself: {between}");
    let routed = balancer.namespace.try_run("ip route get 10.244.1.2");
    assert!(!routed.status.success(), "the balancer has a way of its own to pods: {routed:?}");

    let cluster = Cluster::new(&lab, []);
    let tell = |lives: [u8; 2]| {
        let mut nodes = String::new();
        for (worker, life) in workers.iter().zip(lives) {
            let _ = write!(nodes, "{}", worker.node(life));
        }
        cluster.write("workers.yaml", &nodes);
    };
    tell([0, 0]);
    let endpoint =
        |worker: &Worker| Endpoint { address: worker.pod_address(), node: worker.name(), state: State::Ready };
    let endpoints: Vec<_> = workers.iter().map(endpoint).collect();
    let web = Service {
        vip: Some(VIP),
        mode: Some(Mode::Nat),
        endpoints: endpoints.clone(),
        ..Service::new("web", Ipv4Addr::new(10, 96, 0, 10))
    };
    let kept = Service {
        vip: Some(KEPT),
        mode: Some(Mode::Dnat),
        endpoints,
        ..Service::new("kept", Ipv4Addr::new(10, 96, 0, 11))
    };
    cluster.apply(&web);
    cluster.apply(&kept);
    let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::All));
    let lines = format!(
        "sources:\n  - path: {}\ntunnels: [{{kind: vxlan, port: 8472, vni: 1}}]\noverlay: flannel\n",
        cluster.directory().display()
    );
    let control = Control::start_as(&balancer.namespace, Role::Balancer, "balancer", &lines, &dataplane);

    let tries = |when: &str| {
        for (vip, seen) in [(VIP, balancer.address), (KEPT, CLIENT)] {
            let tally = Curl::many(&client.namespace, at(vip, 80), 2, 20);
            assert_eq!(tally.answered(), 40, "{when}, {vip}: {tally}\n{}", dataplane.counters());
            assert_eq!(tally.by_server.len(), 2, "{when}, {vip}: both workers' pods: {tally}");
            let clients: Vec<_> = tally.by_client.into_keys().collect();
            assert_eq!(clients, [seen.to_string()], "{when}, {vip}: what the pods saw");
        }
    };
    tries("at first");
    assert!(dataplane.counter("wrapped") >= 80 * 4, "{}", dataplane.counters());
    let tunnels = dataplane.get("/v1/tunnels");
    let far_ends: Vec<_> = tunnels.as_array().into_iter().flatten().map(|entry| entry["far_end"].as_str()).collect();
    assert_eq!(far_ends, [Some("192.0.2.211"), Some("192.0.2.212")], "{tunnels}");
    assert_eq!((&tunnels[0]["port"], &tunnels[0]["backends"]), (&8472.into(), &2.into()), "{tunnels}");

    // flanneld of one worker starts anew with another MAC: its kernel takes no frame for the old one.
    workers[0].host.namespace.ip(&format!("link set flannel.1 address {}", workers[0].mac(1)));
    let generation = dataplane.get("/v1/status")["generation"].as_u64().expect("status has a generation");
    tell([1, 0]);
    dataplane.wait_for_generation(generation + 1);
    tries("with another endpoint");

    // What flannel does not say in time is told to whom it concerns.
    cluster.write("workers.yaml", &workers[1].node(0));
    let told = || control.get("/v1/status").1.to_string();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !told().contains("10.244.1.2") {
        assert!(std::time::Instant::now() < patience, "nobody is told of the pod without an endpoint: {}", told());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
