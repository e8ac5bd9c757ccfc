//! Several balancers on one segment, with a real API server as the arbiter: each address is answered for by exactly one, also when
//! daemons die or stand still, links go down, and the API server cannot be reached.
//!
//! `cargo nextest run -p levee-tests --test takeover --no-capture` prints a table of how long takeovers took.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use levee_api::net::Mac;
use levee_control::election::rank;
use levee_tests::cluster::{Cluster, Endpoint, Service, State};
use levee_tests::inject::{Injector, arp_request};
use levee_tests::kube::ApiServer;
use levee_tests::levee::{Control, Dataplane, Ports, Role, Take, at};
use levee_tests::traffic::Nginx;
use levee_tests::{Direction, Fabric, Host, Lab, Reach, Tap};
use nix::sys::signal::Signal;

/// Addresses of six Services.
const VIPS: [Ipv4Addr; 6] = [
    Ipv4Addr::new(192, 0, 2, 241),
    Ipv4Addr::new(192, 0, 2, 242),
    Ipv4Addr::new(192, 0, 2, 243),
    Ipv4Addr::new(192, 0, 2, 244),
    Ipv4Addr::new(192, 0, 2, 245),
    Ipv4Addr::new(192, 0, 2, 246),
];

/// Asked so often for every address.
const STEP: Duration = Duration::from_millis(10);

/// What anything may take that should take a second or two, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What takeovers are to stay under.
const AIM: Duration = Duration::from_secs(2);

struct Balancer {
    control: Control,
    dataplane: Dataplane,
    reach: Reach,
    host: Host,
    name: String,
}

/// Dropped from the top.
struct Segment {
    balancers: Vec<Balancer>,
    _server: Nginx,
    client: Host,
    cluster: Cluster,
    fabric: Fabric,
    api: ApiServer,
    _lab: Lab,
}

impl Segment {
    fn start(balancers: u8, announce: &str) -> Option<Segment> {
        let lab = Lab::start()?;
        if !ApiServer::is_built() {
            assert!(
                std::env::var_os("LEVEE_KUBE_REQUIRED").is_none(),
                "no kube-apiserver: scripts/kube-apiserver build"
            );
            eprintln!("SKIPPED: there is no kube-apiserver here; `scripts/kube-apiserver build` makes one");
            return None;
        }
        let management = lab.namespace("api");
        let api = ApiServer::start(&management, Ipv4Addr::LOCALHOST);
        let fabric = Fabric::new(&lab);
        let client = Host::new(&lab, &fabric, "client", 201);
        let server = Host::new(&lab, &fabric, "server", 210);
        let nginx = Nginx::start(&server.namespace, "server", 8080);
        let cluster = Cluster::new(&lab, std::iter::empty());
        for (vip, number) in VIPS.into_iter().zip(0..) {
            let endpoint = Endpoint { address: server.address, node: "server".into(), state: State::Ready };
            let service = Service::new(&format!("web-{number}"), Ipv4Addr::new(10, 96, 0, 10 + number));
            cluster.apply(&Service { vip: Some(vip), endpoints: vec![endpoint], ..service });
        }
        let mut segment = Segment { balancers: Vec::new(), _server: nginx, client, cluster, fabric, api, _lab: lab };
        for number in 1..=balancers {
            let host = Host::new(&segment._lab, &segment.fabric, &format!("lb-{number}"), 220 + number);
            segment.node(number, "");
            let reach = Reach::new(&host.namespace, &management, segment.api.port());
            let more = "arp: {rate: 100000}\n";
            let dataplane = Dataplane::start_with(&host.namespace, Ports::Balancer(Take::Owned), &[0], more);
            let name = format!("lb-{number}");
            let sources = format!(
                "sources:\n  - path: {}\n  - kubernetes: {{kubeconfig: {}}}\nannounce: {announce}\n",
                segment.cluster.directory().display(),
                segment.api.kubeconfig("levee-balancer").display()
            );
            let control = Control::start_with(&host.namespace, Role::Balancer, &name, &sources, &dataplane);
            segment.balancers.push(Balancer { control, dataplane, reach, host, name });
        }
        segment.wait_for_preferred();
        Some(segment)
    }

    /// The balancer's Node, with these labels.
    fn node(&self, number: u8, labels: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: lb-{number}\n  labels: {{{labels}}}\nstatus:\n  addresses:\n    \
             - {{type: InternalIP, address: 192.0.2.{}}}\n",
            220 + u32::from(number)
        );
        self.cluster.write(&format!("lb-{number}.yaml"), &text);
    }

    /// Who announces what, as the dataplanes that can be asked say.
    fn owners(&mut self) -> BTreeMap<Ipv4Addr, Vec<String>> {
        let mut owners: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
        for balancer in &mut self.balancers {
            if !balancer.dataplane.daemon.is_running() {
                continue;
            }
            let (status, vips) = balancer.dataplane.request("GET", "/v1/vips", None);
            let announced = vips.as_array().into_iter().flatten().filter(|vip| vip["announced"] == true);
            for address in announced.filter_map(|vip| vip["address"].as_str()?.parse().ok()) {
                assert_eq!(status, 200);
                owners.entry(address).or_default().push(balancer.name.clone());
            }
        }
        owners
    }

    fn wait_for_owners(
        &mut self,
        what: &str,
        holds: impl Fn(&BTreeMap<Ipv4Addr, Vec<String>>) -> bool,
    ) -> BTreeMap<Ipv4Addr, Vec<String>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let owners = self.owners();
            if holds(&owners) {
                return owners;
            }
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}; {owners:?}\n{}", self.told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Until every address is where it should be when everybody is well.
    fn wait_for_preferred(&mut self) -> BTreeMap<Ipv4Addr, Vec<String>> {
        let names: Vec<String> = self.balancers.iter().map(|balancer| balancer.name.clone()).collect();
        let names = || names.iter().map(String::as_str);
        let owner = |vip: Ipv4Addr| rank::preferred(vip.into(), names()).map(str::to_owned).into_iter().collect();
        let expected: BTreeMap<Ipv4Addr, Vec<String>> = VIPS.into_iter().map(|vip| (vip, owner(vip))).collect();
        assert_eq!(
            expected.values().collect::<BTreeSet<_>>().len(),
            self.balancers.len(),
            "all have some: {expected:?}"
        );
        self.wait_for_owners("every address is announced by whom it prefers", |owners| *owners == expected)
    }

    /// What the control processes and the Leases say, for messages.
    fn told(&self) -> String {
        let mut text = String::new();
        for balancer in &self.balancers {
            let election = balancer.control.get("/v1/status").1["election"].take();
            let _ = writeln!(text, "{}: {election}", balancer.name);
        }
        text
    }

    /// Every address by exactly one, and each of these balancers alone among them.
    fn wait_for_only(&mut self, names: &[&str]) -> BTreeMap<Ipv4Addr, Vec<String>> {
        self.wait_for_owners(&format!("{names:?} announce everything"), |owners| {
            owners.len() == VIPS.len()
                && owners.values().all(|owner| owner.len() == 1 && names.contains(&owner[0].as_str()))
        })
    }

    /// Names of all Leases.
    fn leases(&self) -> String {
        let output = self.api.kubectl(&["get", "leases", "-n", "levee-system", "-o", "name"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn balancer(&mut self, name: &str) -> &mut Balancer {
        self.balancers.iter_mut().find(|balancer| balancer.name == name).expect("there is one")
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// Asks for every address all the time, and hears who answers.
struct Prober {
    tap: Tap,
    stop: Arc<AtomicBool>,
    asker: Option<JoinHandle<()>>,
}

/// Answers for an address: when, and by which MAC.
type Answers = BTreeMap<Ipv4Addr, Vec<(Duration, Mac)>>;

impl Prober {
    fn start(segment: &Segment) -> Prober {
        let tap = segment.fabric.tap();
        let injector = Injector::new(&segment.client.namespace, "eth0");
        let (mac, address) = (segment.client.wire.mac, segment.client.address);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let asker = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for vip in VIPS {
                    injector.send(&arp_request(mac, address, vip));
                }
                std::thread::sleep(STEP);
            }
        });
        Prober { tap, stop, asker: Some(asker) }
    }

    fn answers(&self) -> Answers {
        let mut answers = Answers::new();
        for frame in self.tap.frames() {
            let from_balancer = frame.direction == Direction::In && frame.interface.starts_with("lb-");
            // ARP, a reply.
            if !from_balancer || frame.bytes.get(12..14) != Some(&[8, 6]) || frame.bytes.get(20..22) != Some(&[0, 2]) {
                continue;
            }
            let sender: [u8; 4] = frame.bytes[28..32].try_into().expect("four");
            let mac: [u8; 6] = frame.bytes[22..28].try_into().expect("six");
            answers.entry(sender.into()).or_default().push((frame.time, Mac(mac)));
        }
        answers
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(asker) = self.asker.take() {
            let _ = asker.join();
        }
    }
}

/// Whoever has answered and was followed by another answers no more, but for `returns` returns.
fn assert_never_two(answers: &Answers, returns: usize) {
    for (vip, answers) in answers {
        let mut owners: Vec<Mac> = answers.iter().map(|(_, mac)| *mac).collect();
        owners.dedup();
        let distinct: BTreeSet<Mac> = owners.iter().copied().collect();
        assert!(
            owners.len() <= distinct.len() + returns,
            "{vip} was answered for in turns, so it went to and fro or had two owners: {owners:?}"
        );
    }
}

/// The longest time without an answer for any of these addresses, from this time on.
fn longest_silence(answers: &Answers, addresses: &[Ipv4Addr], since: Duration) -> Duration {
    let mut longest = Duration::ZERO;
    for address in addresses {
        let mut last = since;
        for (time, _) in answers.get(address).into_iter().flatten().filter(|(time, _)| *time > since) {
            longest = longest.max(*time - last);
            last = *time;
        }
        longest = longest.max(since_epoch().saturating_sub(last));
    }
    longest
}

fn of(owners: &BTreeMap<Ipv4Addr, Vec<String>>, name: &str) -> Vec<Ipv4Addr> {
    owners.iter().filter(|(_, names)| names[0] == name).map(|(address, _)| *address).collect()
}

/// What the client's own connections notice: the longest time in which none could be made, in steps of 10 ms.
fn connects(segment: &Segment, vip: Ipv4Addr, time: Duration) -> JoinHandle<Duration> {
    let namespace = segment.client.namespace.clone();
    std::thread::spawn(move || {
        namespace.enter(|| {
            let (begun, mut good, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
            while begun.elapsed() < time {
                if std::net::TcpStream::connect_timeout(&at(vip, 80), Duration::from_millis(100)).is_ok() {
                    longest = longest.max(good.elapsed());
                    good = Instant::now();
                }
                std::thread::sleep(STEP);
            }
            longest.max(good.elapsed())
        })
    })
}

#[test]
fn each_address_has_one_owner_and_they_are_handed_over_without_a_gap_that_matters() {
    let Some(mut segment) = Segment::start(3, "{settle: 2s}") else { return };
    let leases = segment.leases();
    assert!(leases.contains("levee-address-192-0-2-241") && leases.contains("levee-balancer-lb-1"), "{leases}");
    let prober = Prober::start(&segment);
    // A label on the Node, and everything goes elsewhere.
    let before = segment.owners();
    let begun = since_epoch();
    segment.node(1, "node.kubernetes.io/exclude-from-external-load-balancers: \"true\"");
    segment.wait_for_only(&["lb-2", "lb-3"]);
    std::thread::sleep(Duration::from_millis(300));
    let answers = prober.answers();
    assert_never_two(&answers, 0);
    let silence = longest_silence(&answers, &of(&before, "lb-1"), begun);
    println!("handed over for the label's sake: longest silence {} ms", silence.as_millis());
    assert!(silence < AIM);
    // … and comes back when it is gone, and it has settled.
    segment.node(1, "");
    segment.wait_for_preferred();
    // A control process that is stopped hands over, too.
    prober.tap.clear();
    let begun = since_epoch();
    let ended = segment.balancer("lb-1").control.daemon.stop(Duration::from_secs(5));
    assert!(ended.success());
    segment.wait_for_only(&["lb-2", "lb-3"]);
    std::thread::sleep(Duration::from_millis(300));
    let answers = prober.answers();
    assert_never_two(&answers, 0);
    let silence = longest_silence(&answers, &of(&before, "lb-1"), begun);
    println!("handed over at SIGTERM: longest silence {} ms", silence.as_millis());
    assert!(silence < AIM);
    drop(prober);
    // A Service that is gone leaves no Lease.
    segment.cluster.remove("web-0.yaml");
    let end = Instant::now() + PATIENCE;
    while segment.leases().contains("levee-address-192-0-2-241") {
        assert!(Instant::now() < end, "the Lease of an address that no Service has stays");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn takeovers_are_quick_after_death_link_down_and_a_standstill() {
    let Some(mut segment) = Segment::start(3, "{settle: 2s}") else { return };
    let rounds = std::env::var("LEVEE_TAKEOVER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2);
    let mut table: BTreeMap<&str, Vec<(Duration, Duration)>> = BTreeMap::new();
    for round in 0..rounds {
        for what in ["kill -9 of both daemons", "uplink down", "levee-control stands still"] {
            let owners = segment.wait_for_preferred();
            let name = format!("lb-{}", 1 + round % 3);
            let lost = of(&owners, &name);
            let prober = Prober::start(&segment);
            let connecting = connects(&segment, lost[0], Duration::from_secs(4));
            std::thread::sleep(Duration::from_millis(300));
            let begun = since_epoch();
            let wire = segment.balancer(&name).host.wire.clone();
            match what {
                "kill -9 of both daemons" => {
                    let balancer = segment.balancer(&name);
                    balancer.control.daemon.kill();
                    balancer.dataplane.daemon.kill();
                }
                "uplink down" => segment.fabric.set_carrier(&wire, false),
                _ => segment.balancer(&name).control.daemon.signal(Signal::SIGSTOP),
            }
            let others: Vec<String> =
                segment.balancers.iter().map(|other| other.name.clone()).filter(|other| *other != name).collect();
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            segment.wait_for_only(&others);
            let noticed = connecting.join().expect("it ends");
            let answers = prober.answers();
            assert_never_two(&answers, 0);
            let silence = longest_silence(&answers, &lost, begun);
            drop(prober);
            table.entry(what).or_default().push((silence, noticed));
            assert!(silence < AIM, "{what}: {silence:?} without an answer\n{}", segment.told());
            match what {
                "kill -9 of both daemons" => {
                    let balancer = segment.balancer(&name);
                    balancer.dataplane.restart();
                    balancer.control.restart();
                }
                "uplink down" => segment.fabric.set_carrier(&wire, true),
                _ => {
                    // It was told by its dataplane's clock, not by its own process.
                    let balancer = segment.balancer(&name);
                    let events = balancer.dataplane.request("GET", "/v1/events", None).1.to_string();
                    assert!(events.contains("term-lapsed"), "{events}");
                    balancer.control.daemon.signal(Signal::SIGCONT);
                }
            }
        }
    }
    println!("\n{:<30} {:>28}   {:>28}", "longest time, in ms", "without an answer to ARP", "without a TCP connection");
    for (what, times) in &table {
        let list =
            |times: Vec<Duration>| times.iter().map(|time| time.as_millis().to_string()).collect::<Vec<_>>().join(" ");
        let arp = list(times.iter().map(|(arp, _)| *arp).collect());
        println!("{what:<30} {arp:>28}   {:>28}", list(times.iter().map(|(_, tcp)| *tcp).collect()));
    }
}

#[test]
fn who_is_cut_off_loses_everything_and_when_all_are_nothing_lapses() {
    // An API server that starts takes both cores of a small machine for seconds. Whoever then does not get to run for 750 ms stops
    // by its own clock, as it should; this is about something else.
    let Some(mut segment) = Segment::start(2, "{settle: 2s, duration: 3s}") else { return };
    let before = segment.owners();
    let prober = Prober::start(&segment);

    // Everybody is: the API server is gone for longer than any Lease lasts.
    let begun = since_epoch();
    segment.api.order("stop-api");
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(segment.owners(), before, "{}", segment.told());
    assert_eq!(segment.balancer("lb-1").control.get("/v1/status").1["election"]["outlasting"], true);
    segment.api.order("start-api");
    std::thread::sleep(Duration::from_secs(2));
    let answers = prober.answers();
    assert_never_two(&answers, 0);
    let silence = longest_silence(&answers, &VIPS, begun);
    println!("API server gone for 8 s, and back: longest silence {} ms", silence.as_millis());
    assert!(silence < Duration::from_millis(500), "{silence:?} without an answer\n{}", segment.told());
    assert_eq!(segment.owners(), before, "and nothing has moved");

    // One is: it loses everything, by its own clock, and the other has it.
    prober.tap.clear();
    let begun = since_epoch();
    segment.balancer("lb-1").reach.cut();
    segment.wait_for_only(&["lb-2"]);
    std::thread::sleep(Duration::from_secs(1));
    let answers = prober.answers();
    assert_never_two(&answers, 0);
    let silence = longest_silence(&answers, &of(&before, "lb-1"), begun);
    println!("cut off from the API server, with Leases of 3 s: longest silence {} ms", silence.as_millis());
    assert!(silence < AIM + Duration::from_secs(2));
    // Healed, it gets its share back when it has settled.
    segment.balancer("lb-1").reach.heal();
    segment.wait_for_preferred();
    assert_never_two(&prober.answers(), 1);
}
