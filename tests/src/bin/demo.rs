//! The demo: a fabric that floods, levee that stops it, and a balancer in front of real HTTP servers.
//!
//! `scripts/demo` builds and runs it. Everything it says was measured while it ran; the verdict is drawn from the same
//! figures as the table, and the exit status is the verdict.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use levee_api::program::Mode;
use levee_tests::cluster::{Cluster, Endpoint, Service, State};
use levee_tests::dual::{add_to_host, add_to_node, v6};
use levee_tests::levee::{Control, Dataplane, Ports, Role, Take, at, binary};
use levee_tests::scene::routes;
use levee_tests::traffic::{Curl, EchoServer, Load, Nginx, Outcome, connect_many};
use levee_tests::{ArpPayload, Census, Direction, Fabric, Host, Lab, Namespace, Ndp, Node, Uplink, reap};

/// Name of the lab, unless the environment has another (a test that must not meet a lab that was kept).
const NAME: &str = "levee-demo";
const NAME_VARIABLE: &str = "LEVEE_DEMO_NAME";
const NODES: u8 = 8;
/// Nodes 1 to 3 have a pod each; 1 and 2 talk, all three serve.
const PODS: u8 = 3;
const CONNECTIONS: usize = 100;
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const VIP_OF_NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 251);
const VIP_BY_TUNNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 252);
/// Between two changes, with requests going on: some hundred of them.
const A_WHILE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let keep = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--keep"] => true,
        ["--down"] => {
            Lab::tear_down(&name());
            return ExitCode::SUCCESS;
        }
        // For scripts/test, which may have been interrupted.
        ["--reap"] => {
            reap();
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("usage: demo [--keep | --down]");
            eprintln!("  --keep  leave the lab up, to look around");
            eprintln!("  --down  take down one that was kept");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        eprintln!("\nthe demo cannot go on: {message}\n  ({place})");
    }));
    match catch_unwind(AssertUnwindSafe(|| run(keep))) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) | Err(_) => ExitCode::FAILURE,
        Ok(Err(reason)) => {
            eprintln!("the demo cannot run here: {reason}");
            ExitCode::from(2)
        }
    }
}

fn name() -> String {
    std::env::var(NAME_VARIABLE).unwrap_or_else(|_| NAME.to_owned())
}

/// What was measured, with the judgement of each line.
#[derive(Default)]
struct Table {
    lines: Vec<(String, String, String, bool)>,
}

impl Table {
    fn add(&mut self, what: impl Display, before: impl Display, after: impl Display, good: bool) {
        self.lines.push((what.to_string(), before.to_string(), after.to_string(), good));
    }

    fn is_good(&self) -> bool {
        self.lines.iter().all(|line| line.3)
    }

    fn print(&self) {
        let width = self.lines.iter().map(|line| line.0.chars().count()).max().unwrap_or(0);
        println!("  {:width$}  {:>18}  {:>24}", "", "before", "with levee");
        for (what, before, after, good) in &self.lines {
            println!(
                "  {what:width$}  {before:>18}  {after:>24}  {}",
                if *good { "ok" } else { "NOT AS IT SHOULD BE" }
            );
        }
    }
}

fn title(text: &str) {
    println!("\n\x1b[1m== {text}\x1b[0m");
}

/// Both directions, and what each bystander heard meanwhile.
struct Measured {
    outcomes: [Outcome; 2],
    six: Outcome,
    /// Neighbour solicitations with a pod's MAC on the fabric.
    questions: usize,
    bystanders: Vec<(String, Census)>,
}

fn measure(fabric: &Fabric, nodes: &[Node]) -> Measured {
    let (one, two) = (&nodes[0].pods()[0], &nodes[1].pods()[0]);
    let _echoes = [one, two].map(|pod| EchoServer::start(&pod.namespace, 7));
    let tap = fabric.tap();
    let outcomes = [(one, two), (two, one)].map(|(client, server)| {
        let outcome = connect_many(&client.namespace, at(server.address, 7), CONNECTIONS);
        println!("   {CONNECTIONS} TCP connections {} → {}: {outcome}", client.name, server.name);
        outcome
    });
    let six = connect_many(&one.namespace, at(v6(two.address), 7), CONNECTIONS);
    println!("   {CONNECTIONS} TCP connections {} → {} by IPv6: {six}", one.name, two.name);
    let frames = tap.frames();
    let bystanders: Vec<_> = nodes[2..]
        .iter()
        .map(|node| (node.name(), Census::towards(node.wire().mac, &node.wire().port, &frames)))
        .collect();
    for (name, census) in &bystanders {
        println!("   heard by {name}, which has no part in it: {census}");
    }
    let macs = [one.mac, two.mac];
    let questions =
        frames.iter().filter(|frame| frame.direction == Direction::In).filter_map(|frame| Ndp::of(&frame.bytes));
    let questions =
        questions.filter(|said| said.kind == 135 && said.mac.is_some_and(|mac| macs.contains(&mac))).count();
    Measured { outcomes, six, questions, bystanders }
}

fn compare(before: &Measured, after: &Measured, table: &mut Table) {
    for (direction, was, is) in
        [("→", &before.outcomes[0], &after.outcomes[0]), ("←", &before.outcomes[1], &after.outcomes[1])]
    {
        let good = is.succeeded == CONNECTIONS;
        table.add(format!("TCP connections pod-1-1 {direction} pod-2-1"), was.succeeded, is.succeeded, good);
    }
    let good = after.six.succeeded == CONNECTIONS;
    table.add("the same by IPv6 →", before.six.succeeded, after.six.succeeded, good);
    let good = before.questions > 0 && after.questions == 0;
    table.add("pods' neighbour solicitations on the fabric", before.questions, after.questions, good);
    for ((name, was), (_, is)) in before.bystanders.iter().zip(&after.bystanders) {
        table.add(
            format!("unknown unicast heard by {name}"),
            was.unknown_unicast,
            is.unknown_unicast,
            is.unknown_unicast == 0,
        );
    }
    let sum = |measured: &Measured| measured.bystanders.iter().map(|(_, census)| census.arp_broadcast).sum::<usize>();
    table.add("ARP broadcasts heard by all of them", sum(before), sum(after), sum(after) == 0);
    // The demo shows nothing unless there was something to stop.
    let flooded = before.bystanders.iter().all(|(_, census)| census.unknown_unicast >= CONNECTIONS);
    table.add("the flood was there before", flooded, "", flooded);
}

/// One dataplane and who programs it; control ends first.
struct Levee {
    control: Control,
    dataplane: Dataplane,
}

impl Levee {
    fn start(namespace: &Namespace, role: Role, name: &str, cluster: &Cluster) -> Levee {
        let ports = if role == Role::Node { Ports::Node(Take::Owned) } else { Ports::Balancer(Take::Owned) };
        let dataplane = Dataplane::start(namespace, ports);
        Levee { control: Control::start(namespace, role, name, cluster, &dataplane), dataplane }
    }
}

/// The four parts, the table, and whether all is as it should be.
fn run(keep: bool) -> Result<bool, String> {
    let start = Instant::now();
    let lab = Lab::named(&name())?;
    let mut table = Table::default();

    title("1. Before: each node's bridge rewrites the source MACs of what leaves, and nothing else");
    let fabric = Fabric::new(&lab);
    let mut nodes: Vec<_> = (1..=NODES).map(|i| Node::new(&lab, &fabric, i, u8::from(i <= PODS))).collect();
    for node in &mut nodes {
        node.connect(Uplink::Bridged(ArpPayload::Left), &[]);
        add_to_node(node, &[]);
    }
    println!("   {NODES} nodes on one learning bridge, and on each of them:");
    println!("   ebtables -t nat -A POSTROUTING -o eth0 -j snat --to-source <the node's MAC>");
    let before = measure(&fabric, &nodes);

    title("2. After: the same nodes and pods, with levee between each NIC and its pods' bridge");
    let all = routes(&nodes);
    for node in &mut nodes {
        node.connect(Uplink::Levee, &all);
    }
    for node in &nodes {
        add_to_node(node, &nodes.iter().collect::<Vec<_>>());
    }
    let client = Host::new(&lab, &fabric, "client", 201);
    let balancer = Host::new(&lab, &fabric, "balancer", 230);
    balancer.route_to_pods(&all);
    for host in [&client, &balancer] {
        add_to_host(host, &nodes);
    }
    let cluster = Cluster::with_both(&lab, &nodes);
    let mut web = Service { vip: Some(VIP), both: true, ..Service::new("web", Ipv4Addr::new(10, 96, 0, 10)) };
    web.endpoints = nodes.iter().filter_map(|node| node.pods().first().map(|pod| Endpoint::of(node, pod))).collect();
    cluster.apply(&web);
    cluster.apply(&Service { vip: Some(VIP_OF_NOBODY), ..Service::new("nobody", Ipv4Addr::new(10, 96, 0, 11)) });
    cluster.apply(&Service {
        vip: Some(VIP_BY_TUNNEL),
        mode: Some(Mode::Tunnel),
        endpoints: web.endpoints.clone(),
        ..Service::new("tunnelled", Ipv4Addr::new(10, 96, 0, 12))
    });
    let on_nodes = start_on_nodes(&nodes, &cluster);
    fabric.wait_until_quiet();
    println!(
        "   levee-dataplane and levee-control run on {NODES} nodes, programmed from {}",
        cluster.directory().display()
    );
    let after = measure(&fabric, &nodes);
    compare(&before, &after, &mut table);

    title("3. A balancer with a VIP in front of three HTTP servers on three nodes");
    let pods = nodes.iter().flat_map(Node::pods);
    let servers: Vec<_> = pods.map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
    let levee = Levee::start(&balancer.namespace, Role::Balancer, "balancer", &cluster);
    balance(&client, &levee.dataplane, &cluster, &mut web, &mut table);
    tunnel(&client, &balancer, &fabric, &mut table);

    title("4. What the running system says");
    let question = format!("tcp {}:40000 > {VIP}:80", client.address);
    for words in [&["status"][..], &["vip", "list"], &["backend", "list"], &["explain", "--packet", &question]] {
        show(levee.control.cli(), words, &mut table);
    }

    title("What was measured");
    table.print();
    let seconds = start.elapsed().as_secs();
    if table.is_good() {
        println!("\nOK: no bystander heard a frame that was not its own, and no request failed ({seconds} s)");
    } else {
        println!("\nFAILED: something is not as it should be: see the table ({seconds} s)");
    }
    if keep {
        lab.keep();
        look_around(&lab, &client, &levee, &cluster);
    }
    drop((levee, servers, on_nodes));
    Ok(table.is_good())
}

/// levee on every node, each knowing the MACs of all others.
fn start_on_nodes(nodes: &[Node], cluster: &Cluster) -> Vec<Levee> {
    let on_nodes: Vec<_> =
        nodes.iter().map(|node| Levee::start(node.namespace(), Role::Node, &node.name(), cluster)).collect();
    for (node, levee) in nodes.iter().zip(&on_nodes) {
        let others: Vec<_> = nodes.iter().map(Node::address).filter(|address| *address != node.address()).collect();
        levee.dataplane.wait_for_neighbours(&others);
        levee.dataplane.wait_for_neighbours(&others.iter().map(|address| v6(*address)).collect::<Vec<_>>());
    }
    on_nodes
}

/// What somebody can do with a lab that was kept.
fn look_around(lab: &Lab, client: &Host, levee: &Levee, cluster: &Cluster) {
    println!("\nThe lab stays up. Look around:");
    println!("  ip netns list | grep {}", lab.name());
    println!("  ip netns exec {} curl http://{VIP}/", client.namespace.name());
    println!("  export LEVEE_SOCKET={}", levee.dataplane.socket().display());
    println!("  export LEVEE_CONTROL_SOCKET={}", levee.control.socket().display());
    println!("  {} flow list", binary("levee").display());
    println!("  edit {}/web.yaml, and watch: levee vip list --watch", cluster.directory().display());
    println!("Take it down: ./scripts/demo --down");
}

/// Part 3: requests, a backend that leaves under load, and what is refused.
fn balance(client: &Host, dataplane: &Dataplane, cluster: &Cluster, web: &mut Service, table: &mut Table) {
    let server = at(VIP, 80);
    let tally = Curl::many(&client.namespace, server, 4, 250);
    println!("   1,000 requests to http://{VIP}/ by 4 curl processes: {tally}");
    table.add("of 1,000 requests to the VIP answered", "", tally.answered(), tally.answered() == 1000);
    let spread: Vec<_> = tally.by_server.values().map(ToString::to_string).collect();
    table.add("shared by three servers", "", spread.join(" + "), tally.by_server.len() == 3);

    let tally = Curl::many(&client.namespace, at(v6(VIP), 80), 4, 50);
    println!("   200 requests to http://[{}]/: {tally}", v6(VIP));
    let good = tally.answered() == 200 && tally.by_server.len() == 3;
    table.add("of 200 requests to its IPv6 address answered", "", tally.answered(), good);

    let load = Load::start(&client.namespace, server, 4);
    std::thread::sleep(A_WHILE);
    println!(
        "   requests go on while {} is marked as terminating in web.yaml, then taken out of it",
        web.endpoints[0].address
    );
    web.endpoints[0].state = State::Terminating;
    follow(dataplane, cluster, web);
    std::thread::sleep(A_WHILE);
    web.endpoints.remove(0);
    follow(dataplane, cluster, web);
    std::thread::sleep(A_WHILE);
    let tally = load.finish();
    println!("   meanwhile: {tally}");
    let what = format!("of {} while a backend was taken out, failed", tally.answered() + tally.failures.len());
    table.add(what, "", tally.failures.len(), tally.failures.is_empty() && tally.answered() >= 100);
    let tally = Curl::many(&client.namespace, server, 2, 100);
    println!("   200 after that: {tally}");
    table.add("servers after that", "", tally.by_server.len(), tally.answered() == 200 && tally.by_server.len() == 2);

    let ping = client.namespace.try_run(&format!("ping -n -c 3 -i 0.1 -W 1 {VIP}"));
    let summary =
        String::from_utf8_lossy(&ping.stdout).lines().find(|line| line.contains("received")).map(str::to_owned);
    println!("   ping {VIP}: {}", summary.as_deref().unwrap_or("no answer"));
    table.add("the VIP answers pings", "", if ping.status.success() { "yes" } else { "no" }, ping.status.success());
    for (what, server) in
        [("a port that the VIP has not", at(VIP, 4711)), ("a Service without endpoints", at(VIP_OF_NOBODY, 80))]
    {
        let (end, time) = refused(client, server);
        println!("   {what} ({server}): {end} after {:.1} ms", time.as_secs_f64() * 1e3);
        let good = end == "refused" && time < Duration::from_millis(500);
        table.add(format!("{what} is"), "", format!("{end} ({:.1} ms)", time.as_secs_f64() * 1e3), good);
    }
}

/// Part 3, another Service: wrapped for its nodes, so that its servers see who asks, and answer past the balancer.
fn tunnel(client: &Host, balancer: &Host, fabric: &Fabric, table: &mut Table) {
    let tap = fabric.tap();
    let tally = Curl::many(&client.namespace, at(VIP_BY_TUNNEL, 80), 2, 50);
    let frames = tap.frames();
    let seen: Vec<_> = tally.by_client.keys().cloned().collect();
    // IPv4 with the VIP as the source outside, as it came out of the balancer's wire.
    let answers = frames.iter().filter(|frame| {
        *frame.interface == *balancer.wire.port
            && frame.direction == Direction::In
            && frame.bytes.get(12..14) == Some(&[8, 0])
            && frame.bytes.get(26..30) == Some(&VIP_BY_TUNNEL.octets())
    });
    let answers = answers.count();
    println!("   100 requests to http://{VIP_BY_TUNNEL}/, annotated `levee.dev/mode: tunnel`: {tally}");
    println!("   the servers saw {}; answers that passed the balancer: {answers}", seen.join(" "));
    let kept = tally.answered() == 100 && seen == [client.address.to_string()];
    table.add("through a tunnel, servers saw the client as", "", seen.join(" "), kept);
    table.add("answers that passed the balancer", "", answers, answers == 0);
}

/// Writes the Service, and waits until the balancer's workers run what it says.
fn follow(dataplane: &Dataplane, cluster: &Cluster, web: &Service) {
    let generation = dataplane.get("/v1/status")["generation"].as_u64().unwrap_or(0);
    cluster.apply(web);
    let end = Instant::now() + PATIENCE;
    while dataplane.get("/v1/status")["generation"].as_u64() <= Some(generation) {
        assert!(Instant::now() < end, "the balancer has not followed web.yaml within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn refused(client: &Host, server: SocketAddr) -> (&'static str, Duration) {
    let start = Instant::now();
    let result = client.namespace.enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(3)));
    let end = match result.map_err(|error| error.kind()) {
        Ok(_) => "accepted",
        Err(ErrorKind::ConnectionRefused) => "refused",
        Err(_) => "not answered",
    };
    (end, start.elapsed())
}

/// Runs a command of the CLI and shows what it says.
fn show(mut command: Command, words: &[&str], table: &mut Table) {
    let quoted = words.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() });
    println!("\n   $ levee {}", quoted.collect::<Vec<_>>().join(" "));
    let output = command.args(words).output().expect("levee can be run");
    for line in String::from_utf8_lossy(&output.stdout).lines().chain(String::from_utf8_lossy(&output.stderr).lines()) {
        println!("   {line}");
    }
    let good = output.status.success();
    table.add(format!("levee {}", words[0]), "", if good { "answers" } else { "fails" }, good);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(succeeded: usize, unknown_unicast: usize, arp_broadcast: usize) -> Measured {
        let outcome = Outcome { succeeded, failures: Vec::new() };
        let census = Census { unknown_unicast, arp_broadcast, ..Census::default() };
        Measured {
            outcomes: [outcome.clone(), outcome.clone()],
            six: outcome,
            questions: unknown_unicast,
            bystanders: vec![("node-3".to_owned(), census)],
        }
    }

    fn judge(before: &Measured, after: &Measured) -> bool {
        let mut table = Table::default();
        compare(before, after, &mut table);
        table.is_good()
    }

    #[test]
    fn only_a_flood_that_is_gone_is_good() {
        let flood = measured(CONNECTIONS, 2000, 1);
        assert!(judge(&flood, &measured(CONNECTIONS, 0, 0)));
        assert!(!judge(&flood, &measured(CONNECTIONS, 1, 0)), "one frame is too many");
        assert!(!judge(&flood, &measured(CONNECTIONS, 0, 1)), "one question is too many");
        assert!(!judge(&flood, &measured(CONNECTIONS - 1, 0, 0)), "a connection failed");
        assert!(!judge(&measured(CONNECTIONS, 0, 0), &measured(CONNECTIONS, 0, 0)), "there was nothing to stop");
    }
}
