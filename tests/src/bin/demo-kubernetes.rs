//! The demo with a cluster: a real API server, levee's pods as `install.yaml` describes them, and a Service of type LoadBalancer.
//!
//! `scripts/demo-kubernetes` builds and runs it. The API server, etcd, TLS, tokens and RBAC are real, and so are the containers: runc
//! runs levee's image with the users, capabilities, seccomp profile, volumes and ConfigMaps of the manifests. Played are the controllers
//! that a bare API server lacks: who makes pods of DaemonSets, and EndpointSlices of pods. Everything it says was measured while it ran.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{Ipv4Addr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitCode, Output};
use std::time::{Duration, Instant};

use levee_tests::container::{Container, Image, Pod, Surroundings};
use levee_tests::kube::{ApiServer, Permission, permitted};
use levee_tests::levee::{at, cli, cores};
use levee_tests::scene::routes;
use levee_tests::traffic::{Curl, Load, Nginx};
use levee_tests::{Fabric, Host, Lab, Namespace, Node, Uplink};
use serde_json::{Value, json};

/// Name of the lab, unless the environment has another (a test that must not meet somebody's demo).
const NAME: &str = "levee-kube";
const NAME_VARIABLE: &str = "LEVEE_DEMO_NAME";
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two changes, with requests going on.
const A_WHILE: Duration = Duration::from_millis(1500);
/// What the Lease settings promise, and some for two cores that run everything.
const TAKEOVER: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        eprintln!("usage: demo-kubernetes");
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        eprintln!("\nthe demo cannot go on: {message}\n  ({place})");
    }));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) | Err(_) => ExitCode::FAILURE,
        Ok(Err(reason)) => {
            eprintln!("the demo cannot run here: {reason}");
            ExitCode::from(2)
        }
    }
}

fn title(text: &str) {
    println!("\n\x1b[1m== {text}\x1b[0m");
}

/// What was seen, and whether it is as it should be.
#[derive(Default)]
struct Table(Vec<(String, String, bool)>);

impl Table {
    fn add(&mut self, what: impl Display, seen: impl Display, good: bool) {
        self.0.push((what.to_string(), seen.to_string(), good));
    }

    fn is_good(&self) -> bool {
        self.0.iter().all(|line| line.2)
    }

    fn print(&self) {
        let width = self.0.iter().map(|line| line.0.chars().count()).max().unwrap_or(0);
        for (what, seen, good) in &self.0 {
            println!("  {what:width$}  {seen:>28}  {}", if *good { "ok" } else { "NOT AS IT SHOULD BE" });
        }
    }
}

/// A machine of the cluster.
struct Machine {
    name: String,
    namespace: Namespace,
    labels: Vec<(&'static str, &'static str)>,
    pods: Vec<Running>,
}

/// A pod of levee's on a machine; control ends first.
struct Running {
    workload: String,
    control: Container,
    dataplane: Option<Container>,
    pod: Pod,
}

/// Everything: dropped from the top.
struct World {
    machines: Vec<Machine>,
    balancers: Vec<Host>,
    _servers: Vec<Nginx>,
    nodes: Vec<Node>,
    client: Host,
    api: ApiServer,
    _api_host: Host,
    lab: Lab,
    _fabric: Fabric,
}

fn run() -> Result<bool, String> {
    let start = Instant::now();
    if !ApiServer::is_built() {
        return Err("there is no kube-apiserver: scripts/kube-apiserver build".to_owned());
    }
    if cores() < 2 {
        return Err("the manifests' workers are on core 1, and this machine has one core".to_owned());
    }
    let lab = Lab::named(&std::env::var(NAME_VARIABLE).unwrap_or_else(|_| NAME.to_owned()))?;
    let image = Image::build(&lab)?;
    let mut table = Table::default();

    title("1. A cluster: an API server, two nodes with pods, two machines for load balancing, on one segment");
    let mut world = World::build(lab);
    install(&world, &mut table);

    title("2. levee's pods, as the manifests have them: what a kubelet would start on machines with these labels");
    start_pods(&mut world, &image, &mut table);

    title("3. A Service of type LoadBalancer");
    let vip = serve(&world, &mut table);

    title("4. Requests to its address");
    requests(&world, vip, &mut table);

    title("5. A pod is taken out of it, with requests going on");
    take_out(&world, vip, &mut table);

    title("6. The balancer that has the address is killed");
    take_over(&mut world, vip, &mut table);

    title("7. The Service is deleted");
    delete(&world, vip, &mut table);

    title("8. What levee's ServiceAccounts have asked the API server for, beside what they may");
    permissions(&mut world, &mut table);

    title("What was seen");
    table.print();
    let seconds = start.elapsed().as_secs();
    if table.is_good() {
        println!("\nOK: a Service got its address, was balanced, and survived its balancer ({seconds} s)");
    } else {
        println!("\nFAILED: something is not as it should be: see the table ({seconds} s)");
    }
    Ok(table.is_good())
}

impl World {
    fn build(lab: Lab) -> World {
        let fabric = Fabric::new(&lab);
        let mut nodes: Vec<Node> = (1..=2).map(|index| Node::new(&lab, &fabric, index, 2)).collect();
        let all = routes(&nodes);
        for node in &mut nodes {
            node.connect(Uplink::Levee, &all);
        }
        let host = |name: &str, number: u8| {
            let host = Host::new(&lab, &fabric, name, number);
            host.route_to_pods(&all);
            host
        };
        let (api_host, client) = (host("api", 200), host("client", 201));
        let balancers: Vec<Host> = vec![host("balancer-1", 230), host("balancer-2", 231)];
        let servers = nodes.iter().flat_map(Node::pods).take(3);
        let servers = servers.map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
        let mut machines: Vec<Machine> = nodes
            .iter()
            .map(|node| Machine {
                name: node.name(),
                namespace: node.namespace().clone(),
                labels: vec![("levee.dev/node", "true")],
                pods: Vec::new(),
            })
            .collect();
        machines.extend(balancers.iter().zip(["balancer-1", "balancer-2"]).map(|(host, name)| Machine {
            name: name.to_owned(),
            namespace: host.namespace.clone(),
            labels: vec![("role", "loadbalancer")],
            pods: Vec::new(),
        }));
        let api = ApiServer::start(&api_host.namespace, api_host.address);
        World { machines, balancers, _servers: servers, nodes, client, api, _api_host: api_host, lab, _fabric: fabric }
    }

    /// Runs kubectl, and shows what it says.
    fn show(&self, words: &[&str]) -> Output {
        println!("\n   $ kubectl {}", words.join(" "));
        let output = self.api.kubectl(words);
        for line in
            String::from_utf8_lossy(&output.stdout).lines().chain(String::from_utf8_lossy(&output.stderr).lines())
        {
            println!("   {line}");
        }
        output
    }

    /// What kubectl says, without its white space at the ends.
    fn ask(&self, words: &[&str]) -> String {
        String::from_utf8_lossy(&self.api.kubectl(words).stdout).trim().to_owned()
    }
}

/// The objects of install.yaml.
fn manifests() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/kubernetes/install.yaml");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let documents = levee_api::yaml::documents("install.yaml", &text);
    let objects = documents.iter().map(|document| document.read().unwrap_or_else(|mistake| panic!("{mistake}")));
    objects.collect::<Vec<Option<Value>>>().into_iter().flatten().collect()
}

fn install(world: &World, table: &mut Table) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/kubernetes/install.yaml");
    let dry = world.show(&["apply", "--server-side", "--dry-run=server", "-f", path]);
    let taken = String::from_utf8_lossy(&dry.stdout).lines().count();
    let good = dry.status.success() && taken == manifests().len();
    table.add("objects of install.yaml that the server takes", format!("{taken} of {}", manifests().len()), good);
    let mut objects = String::new();
    for machine in &world.machines {
        let labels: Vec<String> = machine.labels.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect();
        objects += &format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\n  labels: {{{}}}\n",
            machine.name,
            labels.join(", ")
        );
        if let Some(node) = world.nodes.iter().find(|node| node.name() == machine.name) {
            objects += &format!("spec:\n  podCIDR: {0}\n  podCIDRs: [{0}]\n", node.pod_cidr());
        }
        objects += "---\n";
    }
    objects += "apiVersion: levee.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: public}\nspec: {addresses: [192.0.2.240-192.0.2.249]}\n";
    world.api.apply(&objects);
    for (name, address) in world.nodes.iter().map(|node| (node.name(), node.address())).chain(
        world.balancers.iter().zip(["balancer-1", "balancer-2"]).map(|(host, name)| (name.to_owned(), host.address)),
    ) {
        report_ready(world, &name, address);
    }
    world.show(&["get", "nodes", "-L", "role,levee.dev/node"]);
    world.show(&["get", "addresspools"]);
}

/// What a kubelet writes into its Node's status.
fn report_ready(world: &World, node: &str, address: Ipv4Addr) {
    let file = world.lab.directory().join("status.json");
    let mut object: Value = serde_json::from_str(&world.ask(&["get", "node", node, "-o", "json"])).unwrap_or_default();
    object["status"]["addresses"] = json!([{"type": "InternalIP", "address": address}]);
    object["status"]["conditions"] =
        json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played"}]);
    std::fs::write(&file, object.to_string()).expect("the lab's directory can be written");
    // kubectl of 1.20 patches no subresource.
    let path = format!("/api/v1/nodes/{node}/status");
    let output = world.api.kubectl(&["replace", "--raw", &path, "-f", &file.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where a workload's pods belong, by its node selector; a Deployment's anywhere but on balancers, one on each machine.
fn placed<'a>(workload: &Value, machines: &'a [Machine]) -> Vec<&'a str> {
    let spec = &workload["spec"]["template"]["spec"];
    let selector = spec["nodeSelector"].as_object().cloned().unwrap_or_default();
    let fits = |machine: &&Machine| {
        selector.iter().all(|(key, value)| machine.labels.iter().any(|(label, has)| label == key && value == has))
    };
    let most =
        workload["spec"]["replicas"].as_u64().map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    machines.iter().filter(fits).take(most).map(|machine| machine.name.as_str()).collect()
}

fn start_pods(world: &mut World, image: &Image, table: &mut Table) {
    let objects = manifests();
    let maps: Vec<Value> = objects.iter().filter(|object| object["kind"] == "ConfigMap").cloned().collect();
    let (mut wanted, mut ready) = (0, 0);
    for workload in objects.iter().filter(|object| !object["spec"]["template"].is_null()) {
        let name = workload["metadata"]["name"].as_str().unwrap_or_default();
        let spec = &workload["spec"]["template"]["spec"];
        let account = spec["serviceAccountName"].as_str().unwrap_or_default();
        let machines: Vec<String> = placed(workload, &world.machines).into_iter().map(str::to_owned).collect();
        println!("   {} {name}: on {}", workload["kind"].as_str().unwrap_or_default(), machines.join(", "));
        for place in machines {
            let surroundings = Surroundings {
                node: place.clone(),
                maps: maps.clone(),
                token: Some(world.api.token(account)),
                variables: world.api.variables(),
            };
            let Some(machine) = world.machines.iter_mut().find(|machine| machine.name == place) else { continue };
            let pod = Pod::named(&machine.namespace, name, image, spec, surroundings);
            let has_dataplane = spec["containers"].as_array().is_some_and(|all| all.len() > 1);
            let dataplane = has_dataplane.then(|| pod.start("levee-dataplane"));
            let control = pod.start("levee-control");
            machine.pods.push(Running { workload: name.to_owned(), control, dataplane, pod });
        }
    }
    for machine in &mut world.machines {
        for running in &mut machine.pods {
            wanted += 1;
            let port = if running.dataplane.is_some() { 9465 } else { 9466 };
            let url = format!("curl -s -m 5 http://127.0.0.1:{port}/readyz");
            let end = Instant::now() + PATIENCE;
            let mut said = String::new();
            while Instant::now() < end && said != "ok\n" {
                said = String::from_utf8_lossy(&machine.namespace.try_run(&url).stdout).into_owned();
                std::thread::sleep(Duration::from_millis(50));
            }
            if said == "ok\n" {
                ready += 1;
            } else {
                println!(
                    "   {} on {} is not ready: {said}\n{}",
                    running.workload,
                    machine.name,
                    running.control.daemon.log()
                );
            }
        }
    }
    println!("   /readyz of {ready} of {wanted} pods says ok");
    table.add("pods of levee's that are ready", format!("{ready} of {wanted}"), ready == wanted && wanted > 0);
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

/// What the controller of EndpointSlices would write of pods.
fn slice(pods: &[(Ipv4Addr, String, bool)]) -> String {
    let mut text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  namespace: default\n  labels: \
                    {kubernetes.io/service-name: web}\naddressType: IPv4\nports: [{name: http, port: 8080, protocol: TCP}]\nendpoints:\n"
        .to_owned();
    for (address, node, ready) in pods {
        text += &format!(
            "  - {{addresses: [{address}], nodeName: {node}, conditions: {{ready: {ready}, serving: true, terminating: {}}}}}\n",
            !ready
        );
    }
    text
}

fn endpoints(world: &World) -> Vec<(Ipv4Addr, String, bool)> {
    let pods = world.nodes.iter().flat_map(|node| node.pods().iter().map(move |pod| (pod.address, node.name(), true)));
    pods.take(3).collect()
}

fn serve(world: &World, table: &mut Table) -> Ipv4Addr {
    println!("{}", SERVICE.lines().map(|line| format!("   | {line}\n")).collect::<String>());
    let begun = Instant::now();
    print!(
        "   {}",
        world.api.apply(&(SERVICE.to_owned() + "---\n" + &slice(&endpoints(world)))).replace('\n', "\n   ")
    );
    let vip = until("an address in the Service's status", || {
        world.ask(&["get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"]).parse().ok()
    });
    let given = begun.elapsed();
    let answers = until("the address answers", || connects(world, vip).then(|| begun.elapsed()));
    println!("\n   {vip} after {:.1} s; it answers after {:.1} s", given.as_secs_f64(), answers.as_secs_f64());
    world.show(&["get", "service", "web"]);
    // Events and conditions follow what they tell of.
    let told = until("an event that says so", || {
        let events = world.ask(&["get", "events", "-o", "jsonpath={range .items[*]}{.reason} {end}"]);
        events.contains("IPAllocated").then_some(events)
    });
    let described = world.show(&["describe", "service", "web"]);
    let described = String::from_utf8_lossy(&described.stdout).into_owned();
    table.add("the Service's address, out of the pool", vip, (240..250).contains(&vip.octets()[3]));
    table.add(
        "kubectl describe shows it, with levee's events",
        told.trim(),
        described.contains(&vip.to_string()) && described.contains("IPAllocated"),
    );
    println!("\n   Its conditions:");
    let conditions = "jsonpath={range .status.conditions[*]}{.type}={.status} ({.reason}){\"\\n\"}{end}";
    world.show(&["get", "service", "web", "-o", conditions]);
    vip
}

/// Looks until it is there.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn connects(world: &World, vip: Ipv4Addr) -> bool {
    world.client.namespace.enter(|| TcpStream::connect_timeout(&at(vip, 80), Duration::from_millis(200)).is_ok())
}

/// The balancer whose MAC the client has for an address.
fn owner(world: &World, vip: Ipv4Addr) -> Option<usize> {
    let known = world.client.namespace.ip(&format!("neigh show {vip} dev eth0"));
    world.balancers.iter().position(|host| known.contains(&host.wire.mac.to_string()))
}

fn requests(world: &World, vip: Ipv4Addr, table: &mut Table) {
    println!("   $ curl http://{vip}/");
    print!("   {}", world.client.namespace.run(&format!("curl -s --noproxy * http://{vip}/")));
    let tally = Curl::many(&world.client.namespace, at(vip, 80), 4, 100);
    println!("   400 by 4 curl processes: {tally}");
    table.add("of 400 requests answered", tally.answered(), tally.answered() == 400);
    table.add("by so many pods", tally.by_server.len(), tally.by_server.len() == 3);
}

fn take_out(world: &World, vip: Ipv4Addr, table: &mut Table) {
    let mut pods = endpoints(world);
    let load = Load::start(&world.client.namespace, at(vip, 80), 2);
    std::thread::sleep(A_WHILE);
    println!("   {} is terminating, then gone", pods[0].0);
    pods[0].2 = false;
    world.api.apply_on_server(&slice(&pods));
    std::thread::sleep(A_WHILE);
    pods.remove(0);
    world.api.apply_on_server(&slice(&pods));
    std::thread::sleep(A_WHILE);
    let tally = load.finish();
    println!("   meanwhile: {tally}");
    let all = tally.answered() + tally.failures.len();
    table.add(
        format!("of {all} requests meanwhile, failed"),
        tally.failures.len(),
        tally.failures.is_empty() && all >= 50,
    );
    let tally = Curl::many(&world.client.namespace, at(vip, 80), 2, 50);
    println!("   100 after that: {tally}");
    table.add(
        "pods that answer after that",
        tally.by_server.len(),
        tally.answered() == 100 && tally.by_server.len() == 2,
    );
}

fn take_over(world: &mut World, vip: Ipv4Addr, table: &mut Table) {
    world.show(&["get", "leases", "-n", "levee-system"]);
    let before = until("who has the address", || owner(world, vip));
    let name = format!("balancer-{}", before + 1);
    println!("\n   {vip} is at {} ({name}): both containers of its pod get SIGKILL", world.balancers[before].wire.mac);
    let killed = Instant::now();
    let machine = world.machines.iter_mut().find(|machine| machine.name == name);
    for running in machine.into_iter().flat_map(|machine| &mut machine.pods) {
        if running.workload == "levee-balancer" {
            running.control.kill_at_once();
            if let Some(dataplane) = &running.dataplane {
                dataplane.kill_at_once();
            }
        }
    }
    let took = until("the address answers again", || {
        (connects(world, vip) && owner(world, vip).is_some_and(|now| now != before)).then(|| killed.elapsed())
    });
    let after = until("who has the address", || owner(world, vip));
    println!(
        "   it answers again after {:.2} s, at {} (balancer-{})",
        took.as_secs_f64(),
        world.balancers[after].wire.mac,
        after + 1
    );
    world.show(&["get", "leases", "-n", "levee-system"]);
    let tally = Curl::many(&world.client.namespace, at(vip, 80), 2, 50);
    println!("\n   100 requests: {tally}");
    table.add(
        "the address is at another balancer after",
        format!("{:.2} s", took.as_secs_f64()),
        after != before && took < TAKEOVER,
    );
    table.add("of 100 requests after that answered", tally.answered(), tally.answered() == 100);
    world.show(&["get", "events", "--field-selector", "involvedObject.name=web"]);
    if let Some(running) = world
        .machines
        .iter()
        .filter(|machine| machine.name != name)
        .flat_map(|machine| &machine.pods)
        .find(|running| running.workload == "levee-balancer")
    {
        let sockets = running.pod.sockets();
        println!("\n   $ levee status        (on balancer-{})", after + 1);
        let output = cli(&sockets.join("dataplane.sock"), Some(&sockets.join("control.sock")))
            .arg("status")
            .output()
            .expect("levee can be run");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            println!("   {line}");
        }
    }
}

fn delete(world: &World, vip: Ipv4Addr, table: &mut Table) {
    world.show(&["delete", "service", "web"]);
    let begun = Instant::now();
    let silent = until("nobody answers for the address", || {
        world.client.namespace.ip(&format!("neigh flush to {vip} dev eth0"));
        let asked = world.client.namespace.try_run(&format!("arping -q -c 1 -w 1 -I eth0 {vip}"));
        (!asked.status.success()).then(|| begun.elapsed())
    });
    println!("   nobody answers ARP for {vip} any more after {:.1} s", silent.as_secs_f64());
    table.add("an address of nobody is announced by nobody", "silent", true);
    let held = |lease: &str| lease.contains(&vip.to_string().replace('.', "-"));
    let left = until("its Lease is gone", || {
        let leases = world.ask(&["get", "leases", "-n", "levee-system", "-o", "name"]);
        (!leases.lines().any(held)).then_some(leases)
    });
    println!("   Leases that are left: {}", left.replace('\n', ", "));
}

fn permissions(world: &mut World, table: &mut Table) {
    // A watch is noted when it ends.
    for machine in &mut world.machines {
        machine.pods.clear();
    }
    let objects = manifests();
    let may = permitted(&objects);
    // This server has no ServiceCIDRs, so nobody comes to watch them.
    let is_elsewhere = |permission: &&Permission| permission.resource == "servicecidrs" && permission.verb == "watch";
    let end = Instant::now() + Duration::from_secs(10);
    let (asked, used) = loop {
        let asked = world.api.asked();
        let used: BTreeSet<Permission> = asked.iter().map(|(permission, _)| permission.clone()).collect();
        if may.difference(&used).filter(|permission| !is_elsewhere(permission)).count() == 0 || Instant::now() > end {
            break (asked, used);
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let refused: BTreeSet<String> =
        asked.iter().filter(|(_, status)| *status == 403).map(|(permission, _)| permission.to_string()).collect();
    let unused: Vec<&Permission> = may.difference(&used).filter(|permission| !is_elsewhere(permission)).collect();
    println!("   {} permissions are granted, and {} were used", may.len(), may.intersection(&used).count());
    for permission in &unused {
        println!("   never used: {permission}");
    }
    for request in &refused {
        println!("   refused: {request}");
    }
    table.add("permissions that nobody has used", unused.len(), unused.is_empty());
    table.add("requests that were not permitted", refused.len(), refused.is_empty());
}
