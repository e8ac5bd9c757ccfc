//! A container as a manifest describes it: its image's files alone, its user, capabilities, read-only root, volumes and seccomp
//! profile, run by runc, the runtime that kubelets use. What this file plays is the kubelet, and as little of it as the manifests need.
//!
//! Not played: cgroups (no limits), probes (tests ask themselves), restarts.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::lab::{Lab, in_path, live};
use crate::levee::binary;
use crate::namespace::Namespace;

/// Where Debian's container tools have the profile that `RuntimeDefault` means.
const SECCOMP: &str = "/usr/share/containers/seccomp.json";

/// The files of levee's image, put together by `scripts/image-root`, as the Containerfile does.
#[derive(Debug, Clone)]
pub struct Image(PathBuf);

impl Image {
    /// Made of the binaries of this build.
    ///
    /// # Errors
    /// Why this machine can run none: no runc.
    ///
    /// # Panics
    /// If the script fails.
    pub fn build(lab: &Lab) -> Result<Image, String> {
        if !in_path("runc") {
            return Err("`runc` is missing: apt-get install runc".to_owned());
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/image-root");
        let binaries = binary("levee");
        let output =
            Command::new(script).arg(binaries.parent().unwrap_or(Path::new("/"))).arg(lab.directory()).output();
        let output = output.expect("bash is there");
        assert!(output.status.success(), "scripts/image-root: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Image(lab.directory().join("image")))
    }

    /// Its root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }
}

/// What a cluster has for a pod: its ConfigMaps, its token, and where the API server is.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Name of the Node.
    pub node: String,
    /// ConfigMaps, as objects.
    pub maps: Vec<Value>,
    /// ServiceAccount's token, and the certificate of the API server's authority.
    pub token: Option<(String, String)>,
    /// Variables that a kubelet gives to each container, such as `KUBERNETES_SERVICE_HOST`.
    pub variables: Vec<(String, String)>,
}

/// A pod in the network of a namespace, as `hostNetwork` pods are in their node's.
pub struct Pod {
    namespace: Namespace,
    image: Image,
    spec: Value,
    surroundings: Surroundings,
    directory: PathBuf,
}

impl Pod {
    /// The pod of this name on the node that the namespace is. Its volumes are made; nothing runs yet.
    ///
    /// # Panics
    /// If the manifest has what is not played here.
    #[must_use]
    pub fn named(namespace: &Namespace, name: &str, image: &Image, spec: &Value, surroundings: Surroundings) -> Pod {
        assert_eq!(spec["hostNetwork"], true, "only pods in the host's network are played");
        let directory = namespace.directory().join(format!("{}-{name}", namespace.name()));
        let pod =
            Pod { namespace: namespace.clone(), image: image.clone(), spec: spec.clone(), surroundings, directory };
        for volume in pod.spec["volumes"].as_array().into_iter().flatten() {
            pod.provide(volume);
        }
        pod
    }

    fn group(&self) -> u32 {
        self.spec["securityContext"]["fsGroup"].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or_default()
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a volume that has files of its own.
    fn provide(&self, volume: &Value) {
        let path = self.volume(word(&volume["name"]));
        fs::create_dir_all(&path).expect("the lab's directory can be written");
        if let Some(name) = volume["configMap"]["name"].as_str() {
            let map = self.surroundings.maps.iter().find(|map| map["metadata"]["name"] == name);
            let map = map.unwrap_or_else(|| panic!("there is no ConfigMap {name}"));
            for (key, text) in map["data"].as_object().into_iter().flatten() {
                fs::write(path.join(key), word(text)).expect("the lab's directory can be written");
            }
        }
        if !volume["projected"].is_null() {
            let (token, authority) = self.surroundings.token.clone().unwrap_or_default();
            for (file, text) in [("token", token), ("ca.crt", authority), ("namespace", "levee-system".to_owned())] {
                let file = path.join(file);
                fs::write(&file, text).expect("the lab's directory can be written");
                // As a kubelet does where the pod has an fsGroup.
                chown(&file, None, Some(self.group())).expect("the lab is root's");
                fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("the lab is root's");
            }
        }
        if !volume["emptyDir"].is_null() {
            chown(&path, None, Some(self.group())).expect("the lab is root's");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o2777)).expect("the lab is root's");
        }
    }

    /// Where the daemons' sockets are, seen from outside: the volume `run`.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.volume("run")
    }

    /// Starts one of its containers.
    ///
    /// # Panics
    /// If the manifest has none of that name.
    #[must_use]
    pub fn start(&self, name: &str) -> Container {
        let containers = self.spec["containers"].as_array().into_iter().flatten();
        let container = containers.into_iter().find(|container| container["name"] == name);
        let container = container.unwrap_or_else(|| panic!("the pod has no container {name}"));
        let bundle = self.directory.join(format!("{name}.bundle"));
        fs::create_dir_all(&bundle).expect("the lab's directory can be written");
        let config = self.bundle(container);
        fs::write(bundle.join("config.json"), config.to_string()).expect("the lab's directory can be written");
        // Unique on this machine: a namespace's name, a pod's on it, and a container's in that.
        let id = format!("{}-{name}", self.directory.file_name().unwrap_or_default().to_string_lossy());
        let state = self.directory.join("runc");
        // Not by `ip netns exec`, whose mounts have no cgroups: runc enters the namespace itself.
        let mut command = Command::new("runc");
        command.arg("--root").arg(&state).args(["run", "--bundle"]).arg(&bundle).arg(&id);
        live().containers.insert((state.clone(), id.clone()));
        let daemon = self.namespace.start(&id, command);
        Container { id, daemon, state, preparation: container["lifecycle"]["preStop"]["exec"]["command"].clone() }
    }

    /// What runc is told: the OCI runtime specification's config.json.
    fn bundle(&self, container: &Value) -> Value {
        let security = &container["securityContext"];
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
        let capabilities: Vec<String> = security["capabilities"]["add"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|capability| format!("CAP_{}", word(capability)))
            .collect();
        let user = security["runAsUser"].as_u64().expect("manifests say which user");
        // Of a user who is not root, only the bounding set is left after execve(2).
        let effective = if user == 0 { capabilities.clone() } else { Vec::new() };
        let mut variables: Vec<String> =
            self.surroundings.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        variables.push("PATH=/usr/bin".to_owned());
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => self.surroundings.node.as_str(),
                Some(other) => panic!("{other} is not played here"),
                None => word(&variable["value"]),
            };
            variables.push(format!("{}={value}", word(&variable["name"])));
        }
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": user, "gid": security["runAsGroup"], "additionalGids": [self.group()]},
                "args": container["command"],
                "env": variables,
                "cwd": "/",
                "noNewPrivileges": security["allowPrivilegeEscalation"] == false,
                "capabilities": {"bounding": capabilities, "permitted": effective, "effective": effective},
                // What a runtime sets is its own affair, so it is as little as can be.
                "rlimits": [{"type": "RLIMIT_MEMLOCK", "soft": 65536, "hard": 65536}],
            },
            "root": {"path": self.image.root(), "readonly": security["readOnlyRootFilesystem"]},
            "mounts": self.mounts(container),
            "linux": {
                "namespaces": [
                    {"type": "mount"},
                    {"type": "pid"},
                    {"type": "ipc"},
                    {"type": "uts"},
                    {"type": "network", "path": format!("/run/netns/{}", self.namespace.name())},
                ],
                "seccomp": seccomp(&capabilities),
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"],
            },
        })
    }

    fn mounts(&self, container: &Value) -> Vec<Value> {
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        ];
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let name = word(&mount["name"]);
            let mut volumes = self.spec["volumes"].as_array().into_iter().flatten();
            let volume = volumes.find(|volume| volume["name"] == name);
            let volume = volume.unwrap_or_else(|| panic!("the pod has no volume {name}"));
            let source = volume["hostPath"]["path"].as_str().map_or_else(|| self.volume(name), PathBuf::from);
            let access = if mount["readOnly"] == true { "ro" } else { "rw" };
            let destination = word(&mount["mountPath"]);
            // The image's root is read-only, so what a runtime would make there is made here.
            let inside = self.image.root().join(destination.trim_start_matches('/'));
            if source.is_dir() {
                fs::create_dir_all(inside).expect("the lab's directory can be written");
            }
            mounts.push(
                json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", access]}),
            );
        }
        mounts
    }
}

/// A running container.
pub struct Container {
    id: String,
    /// The process that waits for it, and what it writes.
    pub daemon: Daemon,
    /// Where runc keeps what it knows.
    state: PathBuf,
    preparation: Value,
}

impl Container {
    /// Its preStop hook, until that ends.
    ///
    /// # Panics
    /// If the manifest has none.
    #[must_use]
    pub fn prepare_to_stop(&self) -> Output {
        let hook: Vec<&str> = self.preparation.as_array().expect("it has a preStop hook").iter().map(word).collect();
        let output = self.runc().args(["exec", &self.id]).args(hook).output();
        output.expect("runc is there")
    }

    /// SIGTERM, and its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop(&mut self, patience: Duration) {
        self.signal("TERM");
        self.daemon.wait_for_end(patience);
    }

    /// SIGKILL, as when the machine goes; its end is not waited for.
    pub fn kill_at_once(&self) {
        self.signal("KILL");
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state);
        command
    }

    fn signal(&self, signal: &str) {
        let _ = self.runc().args(["kill", &self.id, signal]).output();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        remove(&self.state, &self.id);
        live().containers.remove(&(self.state.clone(), self.id.clone()));
    }
}

/// Ends a container, and takes its cgroup away.
pub(crate) fn remove(state: &Path, id: &str) {
    let _ = Command::new("runc").arg("--root").arg(state).args(["delete", "--force", id]).output();
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a word was expected: {value}"))
}

/// `RuntimeDefault` for these capabilities: the profile of Debian's container tools, resolved. Debian 12's is of before bpf(2) was let
/// through for CAP_BPF (moby#43987, containerd#7301, both of 2022), which is added. `null`, and said loudly, where there is none.
fn seccomp(capabilities: &[String]) -> Value {
    let Ok(text) = fs::read_to_string(SECCOMP) else {
        eprintln!("SKIPPED: no seccomp profile: {SECCOMP} is missing (Debian's golang-github-containers-common)");
        return Value::Null;
    };
    let profile: Value = serde_json::from_str(&text).expect("it is JSON");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let list = |rule: &Value, which: &str, what: &str| -> Vec<String> {
        let words = rule[which][what].as_array().into_iter().flatten();
        words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let applies = |rule: &&Value| {
        let (with, without) = (list(rule, "includes", "caps"), list(rule, "excludes", "caps"));
        let (on, not_on) = (list(rule, "includes", "arches"), list(rule, "excludes", "arches"));
        with.iter().all(|capability| capabilities.contains(capability))
            && !without.iter().any(|capability| capabilities.contains(capability))
            && (on.is_empty() || on.iter().any(|name| name == arch))
            && !not_on.iter().any(|name| name == arch)
    };
    let has_bpf = capabilities.iter().any(|capability| capability == "CAP_BPF");
    let mut rules = Vec::new();
    for rule in profile["syscalls"].as_array().into_iter().flatten().filter(applies) {
        let names = rule["names"].as_array().into_iter().flatten();
        let names: Vec<&Value> = names.filter(|name| !(has_bpf && *name == "bpf")).collect();
        let mut resolved = json!({"names": names, "action": rule["action"]});
        for key in ["args", "errnoRet"] {
            if !rule[key].is_null() {
                resolved[key] = rule[key].clone();
            }
        }
        rules.push(resolved);
    }
    if has_bpf {
        rules.push(json!({"names": ["bpf"], "action": "SCMP_ACT_ALLOW"}));
    }
    let mut resolved = json!({"defaultAction": profile["defaultAction"], "syscalls": rules});
    if !profile["defaultErrnoRet"].is_null() {
        resolved["defaultErrnoRet"] = profile["defaultErrnoRet"].clone();
    }
    resolved
}
