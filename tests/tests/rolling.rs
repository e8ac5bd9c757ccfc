//! A live cluster behind a balancer: what happens to traffic while a real API server says that things change, and while it is away.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use levee_api::net::Protocol;
use levee_tests::cluster::{Endpoint, Service, State};
use levee_tests::kube::ApiServer;
use levee_tests::levee::{Control, Dataplane, Ports, Role, Take, at};
use levee_tests::traffic::{EchoServer, Load, Nginx};
use levee_tests::{Host, Namespace, Pod, Scene};

/// The balancer serves ClusterIPs too, to whom has a route to it: no address has to be assigned.
const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const ECHO: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that says something to a UDP Service every few milliseconds, always from the same port, and wants an answer to each.
struct Chat {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, usize)>,
}

impl Chat {
    fn start(client: &Namespace, server: Ipv4Addr) -> Chat {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = client.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a port is free"));
        socket.connect(at(server, 80)).expect("it is an address");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut said, mut lost) = (0usize, 0);
                while !stop.load(Ordering::Relaxed) {
                    said += 1;
                    let word = said.to_be_bytes();
                    let mut heard = [0; 16];
                    let answered = socket.send(&word).is_ok()
                        && matches!(socket.recv(&mut heard), Ok(length) if heard[..length] == word);
                    lost += usize::from(!answered);
                    std::thread::sleep(Duration::from_millis(5));
                }
                (said, lost)
            }
        });
        Chat { stop, thread }
    }

    /// How much was said, and how much of it was not answered.
    fn finish(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

/// Two nodes with two pods each, a balancer that watches an API server, and a client.
struct Cast {
    control: Control,
    server: ApiServer,
    dataplane: Dataplane,
    client: Host,
    scene: Scene,
}

impl Cast {
    fn start() -> Option<Cast> {
        if !ApiServer::is_built() {
            let required = std::env::var_os("LEVEE_KUBE_REQUIRED").is_some();
            assert!(!required, "no kube-apiserver: scripts/kube-apiserver build");
            eprintln!("SKIPPED: there is no kube-apiserver here; `scripts/kube-apiserver build` makes one");
            return None;
        }
        let scene = Scene::start(&[2, 2], Take::Owned)?;
        let balancer = Host::new(&scene.lab, &scene.fabric, "balancer", 230);
        balancer.route_to_pods(&scene.routes());
        let server = ApiServer::start(&balancer.namespace, Ipv4Addr::LOCALHOST);
        let client = scene.host("client", 201);
        client.namespace.ip(&format!("route add 10.96.0.0/16 via {} dev eth0", balancer.address));
        let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::Owned));
        let sources = format!(
            "service_cidrs: [10.96.0.0/16]\nsources:\n  - kubernetes: {{kubeconfig: {}}}\n",
            server.kubeconfig("levee-balancer").display()
        );
        let control = Control::start_with(&balancer.namespace, Role::Balancer, "balancer", &sources, &dataplane);
        Some(Cast { control, server, dataplane, client, scene })
    }

    /// The n-th pod of each node.
    fn generation(&self, number: usize) -> Vec<(String, Pod)> {
        self.scene.nodes.iter().map(|node| (node.name(), node.pods()[number].clone())).collect()
    }

    /// Has the API server say that both Services have these endpoints, and waits until the balancer runs that.
    fn say(&self, endpoints: &[Endpoint]) {
        let service = |name: &str, address, protocol, target_port| Service {
            protocol,
            target_port,
            endpoints: endpoints.to_vec(),
            ..Service::new(name, address)
        };
        let web = service("web", WEB, Protocol::Tcp, 8080).yaml();
        self.server.apply_on_server(&(web + "---\n" + &service("echo", ECHO, Protocol::Udp, 7).yaml()));
        let expected: Vec<_> = endpoints.iter().map(|endpoint| (endpoint.address, endpoint.state)).collect();
        self.dataplane.wait_for("what was said", |dataplane| {
            let backends = dataplane.get("/v1/backends");
            let of = |name: &str| -> Vec<(Ipv4Addr, State)> {
                let of = backends.as_array().into_iter().flatten();
                let of = of.filter(|backend| backend["service"]["name"] == format!("default/{name}:main"));
                let mut of: Vec<_> = of
                    .map(|backend| {
                        let address = backend["address"].as_str().and_then(|text| text.split(':').next()?.parse().ok());
                        let state = if backend["state"] == "active" { State::Ready } else { State::Terminating };
                        (address.expect("an address"), state)
                    })
                    .collect();
                of.sort_by_key(|(address, _)| *address);
                of
            };
            let mut expected = expected.clone();
            expected.sort_by_key(|(address, _)| *address);
            of("web") == expected && of("echo") == expected
        });
    }
}

fn endpoint((node, pod): &(String, Pod), state: State) -> Endpoint {
    Endpoint { address: pod.address, node: node.clone(), state }
}

/// What a pod runs: an HTTP server and an echo server.
fn serve((_, pod): &(String, Pod)) -> (Nginx, EchoServer) {
    (Nginx::start(&pod.namespace, &pod.name, 8080), EchoServer::start(&pod.namespace, 7))
}

#[test]
fn a_rolling_update_under_load_fails_no_request() {
    let Some(cast) = Cast::start() else { return };
    let (old, new) = (cast.generation(0), cast.generation(1));
    let mut running: Vec<_> = old.iter().map(serve).collect();
    let mut endpoints: Vec<_> = old.iter().map(|pod| endpoint(pod, State::Ready)).collect();
    cast.say(&endpoints);
    let load = Load::start(&cast.client.namespace, at(WEB, 80), 3);
    let chats: Vec<_> = (0..4).map(|_| Chat::start(&cast.client.namespace, ECHO)).collect();
    std::thread::sleep(Duration::from_millis(300));
    // As a Deployment and the controller of slices do it: a new pod is ready, an old one terminates, and then it is gone.
    for (number, pod) in new.iter().enumerate() {
        running.push(serve(pod));
        endpoints.push(endpoint(pod, State::Ready));
        cast.say(&endpoints);
        endpoints[0].state = State::Terminating;
        cast.say(&endpoints);
        std::thread::sleep(Duration::from_millis(300));
        endpoints.remove(0);
        cast.say(&endpoints);
        drop(running.remove(0));
        assert_eq!(endpoints.len(), old.len(), "step {number}");
    }
    std::thread::sleep(Duration::from_millis(300));
    let tally = load.finish();
    let counters = cast.dataplane.counters();
    assert_eq!(tally.failures, [""; 0], "{tally}\n{counters}");
    assert!(tally.answered() > 100, "{tally}");
    for (_, pod) in old.iter().chain(&new) {
        assert!(tally.by_server.contains_key(&pod.name), "{}: {tally}", pod.name);
    }
    for chat in chats {
        let (said, lost) = chat.finish();
        assert!(said > 50 && lost == 0, "{lost} of {said} datagrams had no answer\n{counters}");
    }
}

/// What the issue says: a minute.
const AWAY: Duration = Duration::from_secs(60);

#[test]
fn an_api_server_that_is_away_for_a_minute_is_missed_by_no_client() {
    let Some(mut cast) = Cast::start() else { return };
    let (old, new) = (cast.generation(0), cast.generation(1));
    let _running: Vec<_> = old.iter().chain(&new).map(serve).collect();
    let before: Vec<_> = old.iter().map(|pod| endpoint(pod, State::Ready)).collect();
    cast.say(&before);
    let generation = |cast: &Cast| cast.dataplane.get("/v1/status")["generation"].as_u64();
    let running = generation(&cast);
    // Few at a time: a minute is long.
    let load = Load::start(&cast.client.namespace, at(WEB, 80), 1);
    let chat = Chat::start(&cast.client.namespace, ECHO);
    cast.server.order("stop-api");
    let gone = Instant::now();
    std::thread::sleep(AWAY);
    let status = cast.control.get("/v1/status").1;
    let failing: Vec<_> =
        status["sources"].as_array().into_iter().flatten().filter_map(|it| it["failing_seconds"].as_u64()).collect();
    let most = gone.elapsed().as_secs();
    assert!(failing.iter().any(|seconds| (most - 15..=most).contains(seconds)), "it says how stale: {status}");
    assert_eq!(generation(&cast), running, "nothing changes while nobody says so");

    cast.server.order("start-api");
    let calm = |cast: &Cast| {
        let status = cast.control.get("/v1/status").1;
        status["sources"].as_array().into_iter().flatten().all(|source| source["failing_seconds"].is_null())
    };
    let deadline = Instant::now() + PATIENCE;
    while !calm(&cast) {
        assert!(Instant::now() < deadline, "it is not in order again: {}", cast.control.get("/v1/status").1);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(generation(&cast), running, "lists that say the same change nothing");
    let mut after = before;
    after.extend(new.iter().map(|pod| endpoint(pod, State::Ready)));
    cast.say(&after);
    std::thread::sleep(Duration::from_millis(300));
    let tally = load.finish();
    assert_eq!(tally.failures, [""; 0], "{tally}\n{}", cast.dataplane.counters());
    assert!(new.iter().all(|(_, pod)| tally.by_server.contains_key(&pod.name)), "it has caught up: {tally}");
    let (said, lost) = chat.finish();
    assert!(said > 1000 && lost == 0, "{lost} of {said} datagrams had no answer");
}
