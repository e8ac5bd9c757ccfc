//! The command line itself: completions, manual pages and `--help` are all made from this one declaration.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use ipnet::IpNet;
use levee_api::net;
use levee_api::report::FlowFilter;
use levee_api::tunnel::Encapsulation;

/// Look into levee's running daemons, check files, and ask what becomes of a packet
///
/// Exit status: 0 done, 1 a daemon could not be reached or refused, 2 the input was bad.
#[derive(Debug, Parser)]
#[command(name = "levee", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The dataplane's control socket
    #[arg(long, global = true, env = "LEVEE_SOCKET", value_name = "PATH", value_hint = ValueHint::FilePath)]
    #[arg(default_value = "/run/levee/dataplane.sock")]
    pub(crate) socket: PathBuf,
    /// The control process's socket
    #[arg(long, global = true, env = "LEVEE_CONTROL_SOCKET", value_name = "PATH", value_hint = ValueHint::FilePath)]
    #[arg(default_value = "/run/levee/control.sock")]
    pub(crate) control_socket: PathBuf,
    /// How to write the answer
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: Format,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For people with wide screens: more columns
    Wide,
    /// One JSON value; for streams, one a line
    Json,
    /// One YAML document; for streams, one document each
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Both daemons at a glance: what runs, since when, and what is wrong
    Status(Watch),
    /// Service addresses
    #[command(subcommand)]
    Vip(Vip),
    /// Pools of load-balancer addresses, and which Service has which
    ///
    /// With `--cluster`, offline: of the objects in files. Without, the control process is asked.
    Addresses {
        /// Objects of the cluster: files or directories; may be repeated
        #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::AnyPath)]
        cluster: Vec<PathBuf>,
        /// Leave load balancers without a class to others: `load_balancer_class_required` of the control configuration
        #[arg(long, requires = "cluster")]
        load_balancer_class_required: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// Where packets of services go
    #[command(subcommand)]
    Backend(Backend),
    /// Connections that are tracked
    #[command(subcommand)]
    Flow(Flow),
    /// Next hops
    #[command(subcommand)]
    Neigh(Neigh),
    /// Interfaces and their queues
    #[command(subcommand)]
    Port(Port),
    /// Tunnels to backends' nodes
    #[command(subcommand)]
    Tunnel(Tunnel),
    /// Dropped frames by reason
    Drops {
        /// Reasons without a frame, too (JSON and YAML always have them)
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// What became of all frames
    Counters(Watch),
    /// Everything that is counted, as Prometheus reads it
    ///
    /// docs/metrics.md says what each family means. With `-o json`, a list of samples.
    Metrics {
        /// The control process's, not the dataplane's
        #[arg(long)]
        control: bool,
        #[command(flatten)]
        watch: Watch,
    },
    /// What happened
    Events {
        /// Go on with new events until interrupted
        #[arg(long, short)]
        follow: bool,
    },
    /// What the dataplane was told
    #[command(subcommand)]
    Program(Program),
    /// Check files, offline: Kubernetes objects, address pools, configurations, programs
    ///
    /// What a file is, is seen from its content. All Kubernetes objects given are checked as one cluster. Exit status 2 if
    /// anything is wrong; each mistake is told as FILE:LINE:COLUMN, with what was expected and what to do.
    Check {
        /// Files or directories; `-` is standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::AnyPath)]
        files: Vec<PathBuf>,
        /// Hold dataplane configurations against this machine, too: its interfaces, queues and cores
        #[arg(long)]
        here: bool,
    },
    /// What becomes of a packet, and why
    ///
    /// With `--cluster`, offline: what a node's or balancer's dataplane would do, were these objects its cluster. Without,
    /// the running dataplane is asked, whose flows count as well.
    Explain(Explain),
    /// Whether this host is fit for levee: kernel, drivers, memory, cores, settings. Changes nothing
    ///
    /// Each finding is OK, WARN or FAIL, with what to do. Run it as root, which sees most. Exit status 1 if anything failed.
    Doctor {
        /// The dataplane's configuration, for its interfaces and cores
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
        /// An interface that levee is to have; may be repeated [default: those with a device]
        #[arg(long, value_name = "NAME", conflicts_with = "config")]
        interface: Vec<String>,
    },
    /// Wait until the control process has ended, and with it what it announces
    ///
    /// For whoever is about to stop a dataplane, such as the preStop hook of its container: until then the dataplane is needed. Exit
    /// status 1 if the control process still runs when the time is over.
    Drain {
        /// How long to wait (10s, 500ms …)
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval)]
        at_most: Duration,
    },
    /// Print completions for a shell
    ///
    /// For bash: levee completions bash > /etc/bash_completion.d/levee
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write all of them into a directory
    Man {
        /// Write levee.1, levee-status.1 and so on here
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
}

/// Showing again and again.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Watch {
    /// Show again every INTERVAL (2s, 500ms …) until interrupted
    #[arg(long, short, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
}

/// Asking more often than this would measure the asking.
const SHORTEST: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|_| "expected a number with its unit, such as `2s` or `500ms`".to_owned())?;
    if interval < SHORTEST {
        return Err(format!("expected at least {}", humantime::format_duration(SHORTEST)));
    }
    Ok(interval)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vip {
    /// Every address and port that clients send to
    List(Watch),
    /// Who announces each address, and why: as the balancer's control process sees the election
    Owners(Watch),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Backend {
    /// Every backend of every service
    List {
        /// Only this service's
        #[arg(long, value_name = "NAMESPACE/NAME:PORT")]
        service: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Backends that get no new flows: how long they keep those that they have, and how many there are
    Draining(Watch),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Neigh {
    /// Neighbours that frames are sent to
    List(Watch),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Port {
    /// Interfaces, how they are driven, and what their queues have seen
    List(Watch),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tunnel {
    /// Far ends that packets are wrapped for: what the way to each should carry, and what a router has said that it does
    List(Watch),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Flow {
    /// Tracked flows
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many; 0 is no limit [default: 1000 in tables, none elsewhere]
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Changes as they come: flows that begin, change their state, or end
    Watch {
        #[command(flatten)]
        filter: Filter,
        /// How often to look (2s, 500ms …)
        #[arg(long, value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
        interval: Duration,
    },
    /// Forget flows: their next packets are balanced anew
    Flush {
        #[command(flatten)]
        filter: Filter,
        /// All of them; needed where no filter is given
        #[arg(long)]
        all: bool,
    },
}

/// Which flows; what is not given matches all.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Client address
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Address that the client sends to
    #[arg(long, value_name = "ADDRESS")]
    frontend: Option<IpAddr>,
    /// Port of the frontend or of the backend
    #[arg(long)]
    port: Option<u16>,
    /// Backend address
    #[arg(long, value_name = "ADDRESS")]
    backend: Option<IpAddr>,
    /// Transport protocol
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Service
    #[arg(long, value_name = "NAMESPACE/NAME:PORT")]
    service: Option<String>,
}

impl From<Filter> for FlowFilter {
    fn from(filter: Filter) -> Self {
        let Filter { client, frontend, port, backend, protocol, service } = filter;
        FlowFilter { client, frontend, port, backend, protocol: protocol.map(Into::into), service }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl From<Protocol> for net::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => net::Protocol::Tcp,
            Protocol::Udp => net::Protocol::Udp,
            Protocol::Sctp => net::Protocol::Sctp,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// Print the program that the dataplane took last (YAML, unless `-o json`)
    Get,
    /// Check a program's file, offline
    Check {
        /// YAML or JSON; `-` is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Replace the dataplane's program; if it is edited and has the generation of what runs, it gets the next one. A running control
    /// process will put its own back
    Apply {
        /// YAML or JSON; `-` is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Objects of the cluster: files or directories; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "node", value_hint = ValueHint::AnyPath)]
    pub(crate) cluster: Vec<PathBuf>,
    /// Whose dataplane: the name of its Node
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub(crate) node: Option<String>,
    /// What that dataplane is there for
    #[arg(long, value_enum, default_value_t, requires = "cluster")]
    pub(crate) role: Role,
    /// A range of ClusterIPs, beside those of ServiceCIDR objects: `service_cidrs` of the control configuration
    #[arg(long, value_name = "PREFIX", requires = "cluster")]
    pub(crate) service_cidr: Vec<IpNet>,
    /// Leave load balancers without a class to others: `load_balancer_class_required` of the control configuration
    #[arg(long, requires = "cluster")]
    pub(crate) load_balancer_class_required: bool,
    /// What packets are wrapped in, and unwrapped from: `vxlan`, `geneve`, `gue` or `ipip`, as `tunnels` of the control configuration
    #[arg(long, value_name = "KIND", requires = "cluster")]
    pub(crate) tunnel: Vec<Encapsulation>,
    /// Pods are behind flannel's VXLAN: `overlay: flannel` of the control configuration, with flannel's own tunnel
    #[arg(long, requires = "cluster", conflicts_with = "tunnel")]
    pub(crate) overlay_flannel: bool,
    /// The packet: `tcp 192.0.2.7:40000 > 10.96.0.1:80`, `icmp 192.0.2.7 > 10.96.0.1` for a ping, or `esp`, `gre` or a number so; behind
    /// one of UDP, `cid` and a QUIC connection ID
    #[arg(long)]
    pub(crate) packet: String,
    /// The side that it comes in on [default: by its source: host for the node's own address, pods for a pod of the node, uplink otherwise]
    #[arg(long, value_enum, value_name = "SIDE")]
    pub(crate) from: Option<Side>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Role {
    /// Serves the pods of one node
    #[default]
    Node,
    /// Owns service addresses and has no pods
    Balancer,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Side {
    /// The fabric
    Uplink,
    /// The node's pods
    Pods,
}

impl From<Side> for net::Role {
    fn from(side: Side) -> Self {
        match side {
            Side::Uplink => net::Role::Uplink,
            Side::Pods => net::Role::Pods,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_declaration_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn intervals_have_units_and_a_floor() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "5", "fast", "1ms"] {
            assert!(interval(text).expect_err(text).starts_with("expected"), "{text}");
        }
    }
}
