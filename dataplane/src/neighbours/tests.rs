//! Against the real kernel, in network namespaces that live as long as a thread.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

/// Runs `test` on a thread with a network namespace of its own, which goes with the thread. `false`: not possible here.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: a network namespace needs root");
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIPPED: needs `ip` (iproute2)");
        return;
    }
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip`, in this thread's namespace.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A node: `up0` towards a fabric at whose far end (`far0`, in a namespace of its own) 192.0.2.1 and 192.0.2.2 answer, and a bridge
/// `br-ex` with 10.1.0.1, on which 10.1.0.5 answers. Pods and fabric sit in namespaces of sleeping children.
struct Node {
    children: Vec<std::process::Child>,
}

impl Node {
    fn new() -> Self {
        let mut node = Node { children: Vec::new() };
        ip("link set lo up");
        let fabric = node.child();
        ip(&format!("link add up0 type veth peer name far0 netns {fabric}"));
        ip("addr add 192.0.2.10/24 dev up0");
        ip("link set up0 up");
        node.inside(fabric, "addr add 192.0.2.1/24 dev far0");
        node.inside(fabric, "addr add 192.0.2.2/24 dev far0");
        node.inside(fabric, "link set far0 up");
        let pod = node.child();
        ip("link add br-ex type bridge");
        ip("addr add 10.1.0.1/24 dev br-ex");
        ip("link set br-ex up");
        ip("link add levee0 type veth peer name levee1");
        ip("link set levee1 master br-ex");
        ip("link set levee0 up");
        ip("link set levee1 up");
        ip(&format!("link add pod0 type veth peer name eth0 netns {pod}"));
        ip("link set pod0 master br-ex");
        ip("link set pod0 up");
        node.inside(pod, "addr add 10.1.0.5/24 dev eth0");
        node.inside(pod, "link set eth0 up");
        node
    }

    fn child(&mut self) -> u32 {
        let child = Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap();
        let id = child.id();
        self.children.push(child);
        // `unshare` has to have happened before the namespace can be named by the child.
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::read_link(format!("/proc/{id}/ns/net")).unwrap() == ours {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(2));
        }
        id
    }

    fn inside(&self, pid: u32, arguments: &str) {
        let output = Command::new("nsenter")
            .args(["-n", "-t", &pid.to_string(), "ip"])
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const UPLINK: PortId = PortId(0);
const PODS: PortId = PortId(1);

fn names() -> Vec<PortNames> {
    let names = |port, interface: &str, neighbours: &str| PortNames {
        port,
        interface: interface.to_owned(),
        index: af_xdp::interface::index(interface).unwrap(),
        neighbours: neighbours.to_owned(),
    };
    vec![names(UPLINK, "up0", "up0"), names(PODS, "levee0", "br-ex")]
}

/// What a director would know.
#[derive(Default)]
struct Known {
    routes: Vec<Route>,
    addresses: Vec<Address>,
    neighbours: BTreeMap<Key, (Option<Mac>, &'static str)>,
    /// Those that were known at some time.
    seen: BTreeSet<Key>,
    links: BTreeMap<PortId, bool>,
    resynchronised: usize,
    diversion: Option<String>,
}

/// The room on a thread of its own in this thread's namespace.
struct Following {
    updates: mpsc::Receiver<Vec<Update>>,
    asking: Asking,
    known: Known,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Following {
    fn start() -> Self {
        let (sender, updates) = mpsc::channel();
        let (asking, asked) = asking();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        // Threads inherit the namespace of the one that starts them.
        let names = names();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let tell = |updates| drop(sender.send(updates));
            runtime.block_on(run(names, None, asked, tell, async { drop(stopped.await) })).unwrap();
        });
        Following { updates, asking, known: Known::default(), stop: Some(stop), thread: Some(thread) }
    }

    /// Waits until what is known is as it should be.
    fn until(&mut self, what: &str, holds: impl Fn(&Known) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(&self.known) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(updates) = self.updates.recv_timeout(left) else {
                let Known { routes, addresses, neighbours, links, .. } = &self.known;
                panic!("not in time: {what}\n{routes:?}\n{addresses:?}\n{neighbours:?}\n{links:?}");
            };
            for update in updates {
                self.take(update);
            }
        }
    }

    fn take(&mut self, update: Update) {
        let known = &mut self.known;
        match update {
            Update::Routes(routes) => known.routes = routes,
            Update::Addresses(addresses) => known.addresses = addresses,
            Update::Neighbour { key, mac, state: Some(state) } => {
                known.seen.insert(key);
                known.neighbours.insert(key, (mac, state));
            }
            Update::Neighbour { key, state: None, .. } => drop(known.neighbours.remove(&key)),
            Update::Link { port, up, .. } => drop(known.links.insert(port, up)),
            Update::Diverted(problem) => known.diversion = problem,
            Update::Resynchronised => known.resynchronised += 1,
        }
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn resolved(known: &Known, port: PortId, text: &str) -> bool {
    known.neighbours.get(&(port, address(text))).is_some_and(|(mac, _)| mac.is_some())
}

fn has_route(known: &Known, net: &str, port: PortId, via: Option<&str>) -> bool {
    known.routes.contains(&(net.parse().unwrap(), Some(port), via.map(address)))
}

#[test]
fn routes_are_followed() {
    in_namespace(|| {
        let _node = Node::new();
        ip("route add 10.2.0.0/16 via 192.0.2.1");
        let mut following = Following::start();
        following.until("routes that were there", |known| {
            has_route(known, "192.0.2.0/24", UPLINK, None)
                && has_route(known, "10.2.0.0/16", UPLINK, Some("192.0.2.1"))
                && has_route(known, "10.1.0.0/24", PODS, None)
        });
        ip("route add default via 192.0.2.2");
        following.until("a new route", |known| has_route(known, "0.0.0.0/0", UPLINK, Some("192.0.2.2")));
        ip("route replace 10.2.0.0/16 via 192.0.2.2");
        following.until("a changed route", |known| has_route(known, "10.2.0.0/16", UPLINK, Some("192.0.2.2")));
        // A route of a lower metric wins, and leaves the other when it goes.
        ip("route add 10.3.0.0/16 via 192.0.2.2 metric 20");
        ip("route add 10.3.0.0/16 via 192.0.2.1 metric 10");
        following.until("the lower metric", |known| has_route(known, "10.3.0.0/16", UPLINK, Some("192.0.2.1")));
        ip("route del 10.3.0.0/16 via 192.0.2.1 metric 10");
        following.until("the higher metric", |known| has_route(known, "10.3.0.0/16", UPLINK, Some("192.0.2.2")));
        // Several next hops of one route: the first.
        ip("route add 10.4.0.0/16 nexthop via 192.0.2.2 nexthop via 192.0.2.1");
        following.until("a route of two hops", |known| has_route(known, "10.4.0.0/16", UPLINK, Some("192.0.2.2")));
        // Other tables do not count; what leads elsewhere hides what is less exact.
        ip("route add 10.5.0.0/16 via 192.0.2.1 table 77");
        ip("link add other0 type bridge");
        ip("link set other0 up");
        ip("route add 10.8.0.0/16 dev other0");
        ip("route add blackhole 10.6.0.0/16");
        ip("route add 10.7.0.0/16 via 192.0.2.1");
        following.until("the last route", |known| has_route(known, "10.7.0.0/16", UPLINK, Some("192.0.2.1")));
        assert!(!following.known.routes.iter().any(|(net, ..)| net.to_string().starts_with("10.5.")));
        for elsewhere in ["10.6.0.0/16", "10.8.0.0/16"] {
            assert!(following.known.routes.contains(&(elsewhere.parse().unwrap(), None, None)), "{elsewhere}");
        }
        ip("route del 10.7.0.0/16");
        following.until("no route", |known| !has_route(known, "10.7.0.0/16", UPLINK, Some("192.0.2.1")));
    });
}

#[test]
fn a_link_that_goes_down_takes_its_routes_and_comes_back() {
    in_namespace(|| {
        let _node = Node::new();
        let mut following = Following::start();
        following.until("up", |known| {
            known.links.get(&UPLINK) == Some(&true) && has_route(known, "192.0.2.0/24", UPLINK, None)
        });
        ip("link set up0 down");
        following.until("down, without routes", |known| {
            known.links.get(&UPLINK) == Some(&false) && !has_route(known, "192.0.2.0/24", UPLINK, None)
        });
        ip("link set up0 up");
        following.until("up again", |known| {
            known.links.get(&UPLINK) == Some(&true) && has_route(known, "192.0.2.0/24", UPLINK, None)
        });
    });
}

#[test]
fn a_port_that_is_made_anew_is_not_the_port() {
    in_namespace(|| {
        let _node = Node::new();
        let mut following = Following::start();
        following.until("up", |known| known.links.get(&PODS) == Some(&true));
        ip("link del levee0");
        following.until("gone", |known| known.links.get(&PODS) == Some(&false));
        ip("link add levee0 type veth peer name levee1");
        ip("link set levee1 up");
        ip("link set levee0 up");
        ip("route add 10.9.0.0/16 via 192.0.2.1");
        following.until("a route after it", |known| has_route(known, "10.9.0.0/16", UPLINK, Some("192.0.2.1")));
        assert_eq!(following.known.links.get(&PODS), Some(&false), "its sockets are those of the old one");
    });
}

#[test]
fn addresses_are_followed() {
    in_namespace(|| {
        let _node = Node::new();
        let mut following = Following::start();
        let own = |known: &Known, text: &str, port| known.addresses.contains(&Address { address: address(text), port });
        following.until("addresses that were there", |known| {
            own(known, "192.0.2.10", Some(UPLINK)) && own(known, "10.1.0.1", None) && own(known, "127.0.0.1", None)
        });
        ip("addr add 192.0.2.11/32 dev up0");
        following.until("a new address", |known| own(known, "192.0.2.11", Some(UPLINK)));
        ip("addr del 192.0.2.11/32 dev up0");
        following.until("an address that is gone", |known| !own(known, "192.0.2.11", Some(UPLINK)));
    });
}

#[test]
fn standing_neighbours_are_managed_before_any_packet_and_taken_back() {
    in_namespace(|| {
        let _node = Node::new();
        let mut following = Following::start();
        following.asking.standing([(UPLINK, address("192.0.2.1")), (PODS, address("10.1.0.5"))].into());
        following.until("a gateway and a pod", |known| {
            resolved(known, UPLINK, "192.0.2.1") && resolved(known, PODS, "10.1.0.5")
        });
        assert!(ip("neigh show dev up0").contains("managed"), "{}", ip("neigh show dev up0"));
        assert!(ip("neigh show dev br-ex").contains("managed"));
        // Somebody removes it: it is wanted again.
        ip("neigh del 192.0.2.1 dev up0");
        following.until("gone", |known| !resolved(known, UPLINK, "192.0.2.1"));
        following.until("there again", |known| resolved(known, UPLINK, "192.0.2.1"));
        // So it is after the link was down.
        ip("link set up0 down");
        following.until("down", |known| !resolved(known, UPLINK, "192.0.2.1"));
        ip("link set up0 up");
        following.until("up again", |known| resolved(known, UPLINK, "192.0.2.1"));
        following.asking.standing([(UPLINK, address("192.0.2.2"))].into());
        following.until("another set", |known| {
            resolved(known, UPLINK, "192.0.2.2")
                && !resolved(known, UPLINK, "192.0.2.1")
                && !resolved(known, PODS, "10.1.0.5")
        });
        following.stop();
        assert!(!ip("neigh show").contains("managed"), "{}", ip("neigh show"));
    });
}

#[test]
fn what_others_keep_is_left_alone_and_what_a_killed_predecessor_kept_is_taken_over() {
    in_namespace(|| {
        let _node = Node::new();
        ip("neigh add 192.0.2.1 lladdr 02:00:00:00:00:77 dev up0 nud permanent");
        ip("neigh add 192.0.2.2 dev up0 managed");
        ip("neigh add 192.0.2.66 dev up0 managed proto 76");
        let mut following = Following::start();
        let both = [(UPLINK, address("192.0.2.1")), (UPLINK, address("192.0.2.2")), (PODS, address("10.1.0.5"))];
        following.asking.standing(both.into());
        following.until("a pod", |known| resolved(known, PODS, "10.1.0.5"));
        following
            .until("the leftover is gone", |known| !known.neighbours.contains_key(&(UPLINK, address("192.0.2.66"))));
        assert!(resolved(&following.known, UPLINK, "192.0.2.1"));
        following.asking.standing([(PODS, address("10.1.0.5"))].into());
        following.stop();
        let left = ip("neigh show dev up0");
        assert!(left.contains("192.0.2.1 lladdr 02:00:00:00:00:77 PERMANENT"), "{left}");
        assert!(left.lines().any(|line| line.starts_with("192.0.2.2 ") && line.contains("managed")), "{left}");
        assert!(!ip("neigh show dev br-ex").contains("managed"));
    });
}

#[test]
fn a_large_cluster_is_asked_for_in_portions() {
    in_namespace(|| {
        let _node = Node::new();
        // One gateway that answers, behind many that do not.
        let many = (10..250).map(|last| (UPLINK, IpAddr::from([192, 0, 2, last])));
        let mut following = Following::start();
        following.asking.standing(many.chain([(UPLINK, address("192.0.2.2"))]).collect());
        // Not all at one time: beyond 512 neighbours in all namespaces together, those of other tests too, the kernel takes failed ones away.
        following.until("all of them", |known| {
            known.seen.iter().filter(|(port, _)| *port == UPLINK).count() >= 240 && resolved(known, UPLINK, "192.0.2.2")
        });
    });
}

#[test]
fn what_a_packet_asks_for_is_resolved_and_what_nobody_answers_to_is_given_up() {
    in_namespace(|| {
        let _node = Node::new();
        ip("link set dev up0 arp on");
        let mut following = Following::start();
        following.until("up", |known| known.links.get(&UPLINK) == Some(&true));
        following.asking.resolve((UPLINK, address("192.0.2.2")));
        following.until("resolved", |known| resolved(known, UPLINK, "192.0.2.2"));
        following.asking.resolve((UPLINK, address("192.0.2.99")));
        following.until("incomplete", |known| {
            known.neighbours.get(&(UPLINK, address("192.0.2.99"))).is_some_and(|(mac, _)| mac.is_none())
        });
        following.until("given up", |known| !known.neighbours.contains_key(&(UPLINK, address("192.0.2.99"))));
        assert!(!ip("neigh show dev up0").contains("192.0.2.99"));
    });
}

#[test]
fn lost_notifications_are_made_good() {
    in_namespace(|| {
        let _node = Node::new();
        let mut following = Following::start();
        following.until("up", |known| has_route(known, "192.0.2.0/24", UPLINK, None));
        // One batch of many routes overruns a socket that is not read meanwhile, or it does not; either way the end is right.
        let mut batch = String::new();
        for number in 0..20_000 {
            batch += &format!("route add 10.{}.{}.0/24 via 192.0.2.1\n", 64 + number / 256, number % 256);
        }
        batch += "route add 172.31.0.0/16 via 192.0.2.2\n";
        let path = std::env::temp_dir().join(format!("levee-routes-{}", std::process::id()));
        std::fs::write(&path, batch).unwrap();
        ip(&format!("-batch {}", path.display()));
        std::fs::remove_file(&path).unwrap();
        following.until("all routes", |known| {
            has_route(known, "172.31.0.0/16", UPLINK, Some("192.0.2.2"))
                && known.routes.iter().filter(|(_, _, via)| via.is_some()).count() == 20_001
        });
    });
}

#[test]
fn a_bridge_that_is_made_anew_is_found_again() {
    in_namespace(|| {
        let _node = Node::new();
        let mut following = Following::start();
        following.asking.standing([(PODS, address("10.1.0.5"))].into());
        following.until("a pod", |known| resolved(known, PODS, "10.1.0.5"));
        ip("link del br-ex");
        following.until("no pod", |known| !resolved(known, PODS, "10.1.0.5"));
        ip("link add br-ex type bridge");
        ip("addr add 10.1.0.1/24 dev br-ex");
        ip("link set pod0 master br-ex");
        ip("link set br-ex up");
        following.until("the pod again", |known| resolved(known, PODS, "10.1.0.5"));
        assert!(following.known.resynchronised > 0);
    });
}
