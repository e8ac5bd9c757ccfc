//! What every manifest keeps to.

use std::collections::BTreeSet;
use std::process::Command;

use levee_tests::levee::binary;
use serde_json::{Value, json};

use super::{documents, object, objects, path, workloads};

#[test]
fn install_yaml_is_what_scripts_manifests_writes() {
    let output = Command::new(path("scripts/manifests")).arg("--check").output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What kustomize makes of a directory; `None`, loudly, where there is none that reads directories as resources (2.1 and later).
fn kustomized(directory: &str) -> Option<Vec<Value>> {
    let output = Command::new("kubectl").arg("kustomize").arg(path(directory)).output();
    match output {
        Ok(output) if output.status.success() => Some(documents(&String::from_utf8(output.stdout).unwrap())),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("must be a file") => {
            eprintln!("SKIPPED: this kubectl's kustomize is too old");
            None
        }
        Ok(output) => panic!("{directory}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            eprintln!("SKIPPED: there is no kubectl: {error}");
            None
        }
    }
}

fn key(object: &Value) -> String {
    format!("{} {}", object["kind"], object["metadata"]["name"])
}

#[test]
fn kustomize_makes_the_same_of_the_overlay_and_takes_the_others() {
    let Some(mut built) = kustomized("configs/kubernetes/overlays/all") else { return };
    let mut installed = objects();
    built.sort_by_key(key);
    installed.sort_by_key(key);
    assert_eq!(built, installed);

    let balancers = kustomized("configs/kubernetes/overlays/load-balancer").unwrap();
    let kinds: Vec<String> = balancers.iter().map(key).collect();
    assert!(kinds.contains(&"\"DaemonSet\" \"levee-balancer\"".to_owned()), "{kinds:?}");
    assert!(!kinds.iter().any(|key| key.contains("levee-node")), "{kinds:?}");
    for object in kustomized("configs/kubernetes/overlays/huge-pages").unwrap() {
        if object["kind"] == "DaemonSet" {
            let limits = &object["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
            assert_eq!(limits["hugepages-2Mi"], "256Mi", "{}", key(&object));
        }
        checked(&object);
    }
    for object in kustomized("configs/kubernetes/overlays/without-kube-proxy").unwrap() {
        if object["kind"] == "DaemonSet" {
            let variables = &object["spec"]["template"]["spec"]["containers"][1]["env"];
            let names: Vec<_> =
                variables.as_array().unwrap().iter().map(|variable| variable["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["LEVEE_NODE", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"]);
        }
    }
}

/// `levee check` of every configuration in a ConfigMap.
fn checked(object: &Value) {
    if object["kind"] != "ConfigMap" {
        return;
    }
    for (name, text) in object["data"].as_object().unwrap() {
        let file = std::env::temp_dir().join(format!("levee-{}-{name}", std::process::id()));
        std::fs::write(&file, text.as_str().unwrap()).unwrap();
        let output = Command::new(binary("levee")).arg("check").arg(&file).output().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(output.status.success(), "{} {name}: {}", key(object), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_configuration_in_them_is_good() {
    let maps: Vec<_> = objects().into_iter().filter(|object| object["kind"] == "ConfigMap").collect();
    assert!(maps.len() >= 2);
    maps.iter().for_each(checked);
}

#[test]
fn no_container_has_more_than_it_needs() {
    let all = workloads();
    assert!(all.len() >= 2, "{}", all.len());
    for (name, spec) in &all {
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        // The token is for whom it is mounted, and for nobody else in the pod.
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        assert_eq!((&spec["hostPID"], &spec["hostIPC"]), (&Value::Null, &Value::Null), "{name}");
        for container in spec["containers"].as_array().unwrap() {
            let what = format!("{name} {}", container["name"]);
            let security = &container["securityContext"];
            assert!(security["privileged"].is_null(), "{what}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{what}");
            let is_dataplane = container["name"] == "levee-dataplane";
            assert_eq!(security["runAsNonRoot"].as_bool().unwrap_or_default(), !is_dataplane, "{what}");
            assert!(is_dataplane || security["capabilities"]["add"].is_null(), "{what}");
            for probe in ["livenessProbe", "readinessProbe"] {
                assert!(container[probe]["httpGet"]["port"].is_u64(), "{what} {probe}");
            }
            assert!(!container["resources"]["limits"]["memory"].is_null(), "{what}");
            let mounts = container["volumeMounts"].as_array().unwrap();
            let has_token = mounts.iter().any(|mount| mount["name"] == "token");
            assert_eq!(has_token, !is_dataplane, "{what}");
        }
    }
}

#[test]
fn probes_ask_where_the_daemons_listen() {
    for (name, spec) in workloads() {
        for container in spec["containers"].as_array().unwrap() {
            let daemon = container["name"].as_str().unwrap();
            let file = container["command"][2].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            let config = object("ConfigMap", &name)["data"][&file].as_str().unwrap().to_owned();
            let listens = config.lines().find_map(|line| line.strip_prefix("metrics: ")).unwrap().to_owned();
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let get = &container[probe]["httpGet"];
                if get.is_null() {
                    continue;
                }
                // Without `host`, the kubelet asks the pod's own address.
                let host = get["host"].as_str().unwrap_or("0.0.0.0");
                assert_eq!(format!("{host}:{}", get["port"]), listens, "{name} {daemon} {probe}");
                let page = if probe == "readinessProbe" { "/readyz" } else { "/livez" };
                assert_eq!(get["path"], page, "{name} {daemon} {probe}");
            }
        }
    }
}

#[test]
fn each_service_account_is_used_and_each_name_leads_somewhere() {
    let names = |kind: &str| -> BTreeSet<String> {
        let of_kind = objects().into_iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let used: BTreeSet<String> =
        workloads().iter().map(|(_, spec)| spec["serviceAccountName"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names("ServiceAccount"), used);
    for (roles, bindings) in [("ClusterRole", "ClusterRoleBinding"), ("Role", "RoleBinding")] {
        let bound: Vec<Value> = objects().into_iter().filter(|object| object["kind"] == bindings).collect();
        let referred: BTreeSet<String> = bound
            .iter()
            .filter(|binding| binding["roleRef"]["kind"] == roles)
            .map(|binding| binding["roleRef"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names(roles), referred);
        for subject in bound.iter().flat_map(|binding| binding["subjects"].as_array().unwrap()) {
            assert!(used.contains(subject["name"].as_str().unwrap()), "{subject}");
        }
    }
    for (name, spec) in workloads() {
        for volume in spec["volumes"].as_array().unwrap() {
            if let Some(map) = volume["configMap"]["name"].as_str() {
                assert!(names("ConfigMap").contains(map), "{name}: {map}");
            }
        }
    }
}

#[test]
fn no_permission_is_a_wildcard() {
    for role in objects().into_iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Role")) {
        for rule in role["rules"].as_array().unwrap() {
            let words = ["apiGroups", "resources", "verbs"].map(|key| rule[key].as_array().unwrap().clone()).concat();
            assert!(!words.contains(&json!("*")), "{}: {rule}", key(&role));
            assert!(!words.contains(&json!("secrets")), "{}: {rule}", key(&role));
        }
    }
}
