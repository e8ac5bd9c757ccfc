//! `levee-control` beside a dataplane.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Dataplane, START, binary, cli, request};
use crate::cluster::Cluster;
use crate::daemon::Daemon;
use crate::namespace::Namespace;

/// What its dataplane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves a node's pods.
    Node,
    /// Owns Service addresses.
    Balancer,
}

/// A running control process.
pub struct Control {
    /// The process.
    pub daemon: Daemon,
    namespace: Namespace,
    configuration: PathBuf,
    socket: PathBuf,
    dataplane: PathBuf,
}

impl Control {
    /// Starts it for the Node of this name, and waits until the dataplane runs what the cluster asks for.
    ///
    /// # Panics
    /// If that does not happen.
    #[must_use]
    pub fn start(namespace: &Namespace, role: Role, node: &str, cluster: &Cluster, dataplane: &Dataplane) -> Control {
        let sources = format!("sources:\n  - path: {}\n", cluster.directory().display());
        Control::start_with(namespace, role, node, &sources, dataplane)
    }

    /// The same with sources, and more lines of configuration, of the caller's own.
    ///
    /// # Panics
    /// If the dataplane is not programmed in time.
    #[must_use]
    pub fn start_with(namespace: &Namespace, role: Role, node: &str, sources: &str, dataplane: &Dataplane) -> Control {
        // Hosts of the lab, among them balancers, are numbered 200 to 239.
        let tunnel = if role == Role::Node { "{kind: vxlan, peers: [192.0.2.192/26]}" } else { "{kind: vxlan}" };
        Control::start_as(namespace, role, node, &format!("{sources}tunnels: [{tunnel}]\n"), dataplane)
    }

    /// The same with all lines of configuration of the caller's own, but for who and where it is.
    ///
    /// # Panics
    /// If the dataplane is not programmed in time.
    #[must_use]
    pub fn start_as(namespace: &Namespace, role: Role, node: &str, lines: &str, dataplane: &Dataplane) -> Control {
        let file = |ending: &str| namespace.directory().join(format!("{}-control.{ending}", namespace.name()));
        let (configuration, socket) = (file("yaml"), file("sock"));
        let text = format!(
            "node: {node}\nrole: {}\n{lines}dataplane: {}\nsocket: {}\n",
            if role == Role::Node { "node" } else { "balancer" },
            dataplane.socket().display(),
            socket.display()
        );
        fs::write(&configuration, text).expect("the lab's directory can be written");
        let daemon = launch(namespace, &configuration);
        let dataplane_socket = dataplane.socket().to_owned();
        let mut control =
            Control { daemon, namespace: namespace.clone(), configuration, socket, dataplane: dataplane_socket };
        control.wait_until_programmed();
        control
    }

    /// Starts it once more after it was stopped or killed.
    ///
    /// # Panics
    /// If the dataplane is not programmed in time.
    pub fn restart(&mut self) {
        assert!(!self.daemon.is_running(), "stop or kill it first");
        self.daemon = launch(&self.namespace, &self.configuration);
        self.wait_until_programmed();
    }

    fn wait_until_programmed(&mut self) {
        let dataplane = self.dataplane.clone();
        self.daemon.wait_until("the dataplane is programmed", START, |_| {
            request(&dataplane, "GET", "/v1/status", None).1["generation"].as_u64() > Some(0)
        });
    }

    /// `GET`s a path of its socket: status and body.
    #[must_use]
    pub fn get(&self, path: &str) -> (u16, Value) {
        request(&self.socket, "GET", path, None)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The command line, asking it and its dataplane.
    #[must_use]
    pub fn cli(&self) -> Command {
        cli(&self.dataplane, Some(&self.socket))
    }
}

fn launch(namespace: &Namespace, configuration: &Path) -> Daemon {
    let mut command = namespace.command(binary("levee-control"));
    command.arg("--config").arg(configuration);
    namespace.start("control", command)
}
