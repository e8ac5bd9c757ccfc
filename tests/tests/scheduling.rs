//! How the kernel schedules levee, and how long its rings are, as the kernel tells it and as levee does: by default all of it goes before
//! ordinary tasks; a real-time worker is one alone; and who may not go first works all the same, and says so.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use levee_tests::levee::{Dataplane, Ports, Take, binary};
use levee_tests::path::Path;
use serde_json::{Value, json};

/// sched(7).
const OTHER: u32 = 0;
const FIFO: u32 = 1;

/// What `/proc/PID/task/TID/stat` says of a thread (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    nice: i32,
    core: usize,
    priority: u32,
    policy: u32,
}

/// The thread of this name: its number, and its place.
fn thread(pid: u32, thread: &str) -> (u32, Place) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process's threads").flatten();
    let found = tasks.into_iter().find_map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        // The name is in brackets and may hold anything; fields are counted from 1, and the first behind it is the third.
        let (number, rest) = stat.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let fields: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
        (name == thread).then_some((number.trim().parse().ok()?, fields))
    });
    let (number, fields) = found.unwrap_or_else(|| panic!("no thread `{thread}`"));
    let field = |number: usize| -> i64 { fields[number - 3].parse().expect("a number") };
    let small = |number| u32::try_from(field(number)).expect("not negative");
    let place = Place {
        nice: i32::try_from(field(19)).expect("small"),
        core: usize::try_from(field(39)).expect("not negative"),
        priority: small(40),
        policy: small(41),
    };
    (number, place)
}

fn place(pid: u32, name: &str) -> Place {
    thread(pid, name).1
}

/// What levee itself says of its worker, `levee status` to people and the socket to programs.
fn told(levee: &Dataplane) -> Value {
    levee.get("/v1/status")["workers"][0]["scheduling"].clone()
}

/// A balancer with a worker on core 0 and these lines of configuration.
fn start(path: &Path, more: &str) -> Dataplane {
    Dataplane::start_with(&path.balancer.namespace, Ports::Balancer(Take::Owned), &[0], more)
}

/// The command that has a balancer run by other commands.
fn by(path: &Path, others: &[&str]) -> Command {
    let namespace = &path.balancer.namespace;
    let file = |ending: &str| namespace.directory().join(format!("{}-by.{ending}", namespace.name()));
    let text = format!(
        "ports: [{{interface: eth0, role: uplink}}]\nworkers: [0]\nsocket: {}\nflows: {{capacity: 16384}}\nmemory: {{frames: 2048}}\n",
        file("sock").display()
    );
    fs::write(file("yaml"), text).expect("the lab's directory can be written");
    let mut command = namespace.command("env");
    command.args(others).arg(binary("levee-dataplane")).arg("--config").arg(file("yaml"));
    command
}

#[test]
fn levee_goes_before_ordinary_tasks() {
    let Some(path) = Path::start(1) else { return };
    let mut levee = start(&path, "");
    let worker = place(levee.daemon.pid(), "worker-0");
    assert_eq!(worker, Place { nice: -20, core: 0, priority: 0, policy: OTHER });
    // Or what programs it would wait behind it.
    for thread in ["levee-dataplane", "director", "neighbours"] {
        assert_eq!(place(levee.daemon.pid(), thread).nice, -20, "{thread}");
    }
    assert!(levee.daemon.stop(Duration::from_secs(10)).success());
    let levee = start(&path, "scheduling: {nice: 5, slice: 1ms}\n");
    let (number, worker) = thread(levee.daemon.pid(), "worker-0");
    assert_eq!(worker.nice, 5);
    let said = told(&levee);
    assert_eq!((&said["policy"], &said["nice"]), (&json!("fair"), &json!(5)), "{said}");
    if said["slice_microseconds"].is_null() {
        eprintln!("SKIPPED: slices need Linux 6.12");
    } else {
        assert_eq!(said["slice_microseconds"], 1000);
    }
    // As it is, not as it was asked for.
    path.balancer.namespace.run(&format!("renice -n 7 -p {number}"));
    assert_eq!(told(&levee)["nice"], 7);
}

#[test]
fn a_workers_core_is_left_to_it() {
    let Some(path) = Path::start(1) else { return };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("SKIPPED: there is no other core");
        return;
    }
    let levee = start(&path, "");
    let pid = levee.daemon.pid();
    let cores = |name: &str| {
        let (number, _) = thread(pid, name);
        let status = fs::read_to_string(format!("/proc/{pid}/task/{number}/status")).expect("it runs");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.expect("proc_pid_status(5)").trim().to_owned()
    };
    assert_eq!(cores("worker-0"), "0");
    for thread in ["levee-dataplane", "director", "neighbours"] {
        let list = cores(thread);
        assert!(list.starts_with('1'), "{thread}: {list}");
    }
}

#[test]
fn a_daemons_session_goes_before_others() {
    let Some(path) = Path::start(1) else { return };
    if fs::exists("/proc/self/autogroup").is_ok_and(|there| !there) {
        eprintln!("SKIPPED: this kernel does not share time by session (CONFIG_SCHED_AUTOGROUP)");
        return;
    }
    // As systemd starts it: the leader of a session of its own.
    let command = by(&path, &["setsid"]);
    let before = fs::read_to_string("/proc/self/autogroup").expect("it is there");
    let mut daemon = path.balancer.namespace.start("leader", command);
    daemon.wait_until("its session goes before others", Duration::from_secs(20), |daemon| {
        let group = fs::read_to_string(format!("/proc/{}/autogroup", daemon.pid())).unwrap_or_default();
        group.trim_end().ends_with("nice -20") && daemon.log().contains("runs, process")
    });
    assert!(daemon.stop(Duration::from_secs(10)).success(), "{}", daemon.log());
    assert_eq!(
        fs::read_to_string("/proc/self/autogroup").expect("it is there"),
        before,
        "this session stays as it was"
    );
}

/// As in a container whose first process did not begin a session: getsid(2) knows no leader.
#[test]
fn it_runs_where_the_leader_of_its_session_cannot_be_seen() {
    let Some(path) = Path::start(1) else { return };
    let command = by(&path, &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let mut daemon = path.balancer.namespace.start("contained", command);
    // Its number in there is 1.
    daemon.wait_until("it runs", Duration::from_secs(20), |daemon| daemon.log().contains("runs, process 1"));
    daemon.kill();
}

#[test]
fn a_real_time_worker_is_so_alone() {
    let Some(path) = Path::start(1) else { return };
    let levee = start(&path, "scheduling: {policy: fifo, priority: 3}\n");
    let worker = place(levee.daemon.pid(), "worker-0");
    if worker.policy == OTHER {
        // In a control group to which the kernel gives no real time (CONFIG_RT_GROUP_SCHED).
        assert!(levee.daemon.log().contains("the worker on core 0 is one among many"), "{}", levee.daemon.log());
        eprintln!("SKIPPED: real time cannot be had here: {}", levee.daemon.log());
        return;
    }
    assert_eq!((worker.policy, worker.priority, worker.core), (FIFO, 3, 0));
    assert_eq!(told(&levee), json!({ "policy": "fifo", "priority": 3 }));
    for thread in ["levee-dataplane", "director", "neighbours"] {
        assert_eq!(place(levee.daemon.pid(), thread).policy, OTHER, "{thread}");
    }
}

/// The rings of AF_XDP sockets that a process has mapped (proc_pid_maps(5)): their offsets, which say which they are, and bytes.
fn mapped(pid: u32) -> BTreeMap<u64, u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process is there");
    let number = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
    let rings = maps.lines().filter(|line| line.contains("socket:[")).map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = fields[0].split_once('-').expect("a range");
        (number(fields[2]), number(to) - number(from))
    });
    rings.collect()
}

#[test]
fn rings_are_as_long_as_levee_says() {
    let Some(path) = Path::start(1) else { return };
    let levee = start(&path, "rings: {receive: 1024, transmit: 512}\n");
    let port = levee.get("/v1/ports")[0].clone();
    assert_eq!(port["rings"], json!({ "receive": 1024, "fill": 1024, "transmit": 512, "completion": 512 }), "{port}");
    // As include/uapi/linux/if_xdp.h has them: XDP_PGOFF_RX_RING and so on. A descriptor of a packet is 16 bytes, one of a frame 8, and
    // before them are the ring's indices, on a page that is theirs where descriptors fill theirs. The kernel maps no more than there is.
    let pages = |bytes: u64| (bytes / 4096 + 1) * 4096;
    let (receive, transmit) = (0, 0x8000_0000);
    let (fill, completion) = (0x1_0000_0000, 0x1_8000_0000);
    let wanted = [(receive, 1024 * 16), (transmit, 512 * 16), (fill, 1024 * 8), (completion, 512 * 8)];
    assert_eq!(mapped(levee.daemon.pid()), wanted.map(|(ring, bytes)| (ring, pages(bytes))).into());
}
