//! The way to the API server: a status under its resourceVersion, an Event, and what there is right now.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::Value;

use super::plan::{Status, Target, Write};
use crate::model::{Kind, ObjectName};

/// How long one request may take. A leader stops 5 s before another can begin (`lease::Terms::leader`), and asks before each
/// request whether it still is one: what it began then has ended.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Services to a page.
const PAGE: u32 = 500;

/// What came of a write.
#[derive(Debug)]
pub(super) enum Written {
    /// It was written, and this is what the server made of it; `None` if that cannot be read.
    Done(Option<Box<Status>>),
    /// The object is another one by now, or gone: a watch will tell.
    Outdated,
    /// The server does not take it.
    Refused(String),
    /// No answer: it may or may not have been written.
    Unknown(String),
}

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    instance: String,
}

impl Writer {
    /// `instance` is what this process calls itself in Events.
    pub(super) fn new(client: Client, instance: String) -> Self {
        Writer { client, instance }
    }

    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
        let plural = format!("{}s", kind.name().to_lowercase());
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind.name()), &plural);
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Writes a status.
    pub(super) async fn write(&self, write: &Write) -> Written {
        let params = PatchParams::default();
        let answer = match &write.target {
            Target::Service(name) => {
                let api = self.api(Kind::Service, Some(&name.namespace));
                in_time(api.patch_status(&name.name, &params, &Patch::Strategic(&write.patch))).await
            }
            Target::Pool(name) => {
                let api = self.api(Kind::AddressPool, None);
                in_time(api.patch_status(name, &params, &Patch::Merge(&write.patch))).await
            }
        };
        match answer {
            Ok(object) => Written::Done(status_of(&write.target, object).map(Box::new)),
            Err(Failure::Code(404 | 409, _)) => Written::Outdated,
            // Too many requests, and what the server has to do with itself, pass.
            Err(Failure::Code(code, why)) if code == 429 || code >= 500 => Written::Unknown(why),
            Err(Failure::Code(_, why)) => Written::Refused(why),
            Err(Failure::Silence(why)) => Written::Unknown(why),
        }
    }

    /// Tells an event, under a name. To have told it already is as good.
    pub(super) async fn tell(&self, event: &super::event::Event, name: &str, now: &str) -> Result<(), String> {
        let object = event.object(name, now, &self.instance);
        let gvk = GroupVersionKind::gvk("", "v1", "Event");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "events");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), event.about.namespace(), &resource);
        let object = serde_json::from_value(object).map_err(|error| error.to_string())?;
        match in_time(api.create(&PostParams::default(), &object)).await {
            // 404: its namespace is gone, and with it whoever would read it.
            Ok(_) | Err(Failure::Code(404 | 409, _)) => Ok(()),
            Err(Failure::Code(_, why) | Failure::Silence(why)) => Err(why),
        }
    }

    /// The state of every Service of type LoadBalancer as it is now: a list without a version is no cache's.
    pub(super) async fn states(&self) -> Result<BTreeMap<ObjectName, String>, String> {
        let api = self.api(Kind::Service, None);
        let mut params = ListParams::default().limit(PAGE);
        let mut states = BTreeMap::new();
        loop {
            let page = in_time(api.list(&params)).await.map_err(|failure| match failure {
                Failure::Code(_, why) | Failure::Silence(why) => why,
            })?;
            for object in page.items {
                let kind = object.data.pointer("/spec/type").and_then(Value::as_str);
                if let (Some("LoadBalancer"), Some(name), Some(namespace), Some(version)) =
                    (kind, object.metadata.name, object.metadata.namespace, object.metadata.resource_version)
                {
                    states.insert(ObjectName { namespace, name }, version);
                }
            }
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(states),
            }
        }
    }
}

fn status_of(target: &Target, object: DynamicObject) -> Option<Status> {
    let status = object.data.get("status").cloned().unwrap_or_else(|| serde_json::json!({}));
    match target {
        Target::Service(_) => serde_json::from_value(status).ok().map(Status::Service),
        Target::Pool(_) => serde_json::from_value(status).ok().map(Status::Pool),
    }
}

enum Failure {
    Code(u16, String),
    Silence(String),
}

async fn in_time<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => {
            Err(Failure::Code(status.code, format!("{} ({})", status.message, status.code)))
        }
        Ok(Err(error)) => Err(Failure::Silence(error.to_string())),
        Err(_) => Err(Failure::Silence(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}
