//! The object in the API server: `coordination.k8s.io/v1` Lease, read and written under its resourceVersion.
//!
//! Its times are written for people (`kubectl get leases`) and never read.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};

use super::{Change, Outcome, Record, Step, Terms, Write};

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// What came of a request, and why it failed if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What came of it.
    pub outcome: Outcome,
    /// For people.
    pub why: Option<String>,
}

/// The Leases of one namespace.
#[derive(Debug, Clone)]
pub struct Leases {
    api: Api<Lease>,
}

/// What an object says.
#[must_use]
pub fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    Record {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: Duration::from_secs(seconds),
        transitions: spec.lease_transitions.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
    }
}

impl Leases {
    /// Those of a namespace.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Leases {
        Leases { api: Api::namespaced(client, namespace) }
    }

    /// The objects themselves: to list and to watch.
    #[must_use]
    pub fn api(&self) -> &Api<Lease> {
        &self.api
    }

    /// Carries what an [`Elector`](super::Elector) asks for. What is not a read or a write fails.
    pub async fn carry(&self, name: &str, step: &Step, terms: &Terms, labels: &Labels, notes: &Labels) -> Answered {
        match step {
            Step::Read => self.read(name, terms.patience()).await,
            Step::Write(write) => self.write(name, write, terms, labels, notes).await,
            Step::WaitUntil(_) | Step::WaitForAnswer => failed("nothing to carry"),
        }
    }

    /// What there is now, and not what a cache remembers: a GET without a version is consistent.
    pub async fn read(&self, name: &str, patience: Duration) -> Answered {
        match in_time(patience, self.api.get_opt(name)).await {
            Ok(lease) => Answered { outcome: Outcome::Read(lease.as_ref().map(record)), why: None },
            Err(why) => why,
        }
    }

    /// The whole object, as it is now.
    ///
    /// # Errors
    /// Why not, for people.
    pub async fn get(&self, name: &str, patience: Duration) -> Result<Option<Lease>, String> {
        in_time(patience, self.api.get_opt(name)).await.map_err(|answered| answered.why.unwrap_or_default())
    }

    /// Writes under the version that the write was made for, with labels and annotations.
    pub async fn write(&self, name: &str, write: &Write, terms: &Terms, labels: &Labels, notes: &Labels) -> Answered {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let mut metadata = members([("name", json!(name)), ("labels", json!(labels)), ("annotations", json!(notes))]);
        let mut spec = members([
            ("holderIdentity", json!(write.holder)),
            ("leaseDurationSeconds", json!(terms.duration().as_secs())),
            ("leaseTransitions", json!(write.transitions)),
            ("renewTime", json!(now)),
        ]);
        if write.change == Change::Take {
            spec.insert("acquireTime".to_owned(), json!(now));
        }
        let patience = terms.patience();
        let written = match &write.version {
            Some(version) => {
                // With a version in it, a patch is refused if the object has another one.
                metadata.insert("resourceVersion".to_owned(), json!(version));
                let patch = json!({"metadata": metadata, "spec": spec});
                in_time(patience, self.api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))).await
            }
            None => {
                let object = json!({"metadata": metadata, "spec": spec});
                match serde_json::from_value(object) {
                    Ok(lease) => in_time(patience, self.api.create(&PostParams::default(), &lease)).await,
                    Err(error) => return failed(error.to_string()),
                }
            }
        };
        match written.map(|lease: Lease| lease.metadata.resource_version) {
            Ok(Some(version)) => Answered { outcome: Outcome::Written(version), why: None },
            Ok(None) => failed("the answer has no resourceVersion"),
            Err(why) => why,
        }
    }

    /// Deletes it, if it still has this version; whoever has changed it since wants it.
    pub async fn delete(&self, name: &str, version: &str, patience: Duration) -> Answered {
        let only = Preconditions { resource_version: Some(version.to_owned()), uid: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        match in_time(patience, self.api.delete(name, &params)).await {
            Ok(_) => Answered { outcome: Outcome::Read(None), why: None },
            Err(why) => why,
        }
    }

    /// All that a selector chooses, as they are now, and the version to watch from.
    ///
    /// # Errors
    /// Why not, for people.
    pub async fn list(&self, selector: &str, patience: Duration) -> Result<(Vec<Lease>, String), String> {
        let params = ListParams::default().labels(selector);
        match in_time(patience, self.api.list(&params)).await {
            Ok(list) => Ok((list.items, list.metadata.resource_version.unwrap_or_default())),
            Err(answered) => Err(answered.why.unwrap_or_else(|| "conflict".to_owned())),
        }
    }
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn failed(why: impl Into<String>) -> Answered {
    Answered { outcome: Outcome::Failed, why: Some(why.into()) }
}

async fn in_time<T>(patience: Duration, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Answered> {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        // 409: another version, or the object exists already. 404 of a patch: it is gone, which is another version too.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
            Err(Answered { outcome: Outcome::Conflict, why: Some(status.message.clone()) })
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} ms", patience.as_millis()))),
    }
}
