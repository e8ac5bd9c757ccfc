//! Events: what people see below `kubectl describe`.
//!
//! Reasons are MetalLB's where the meaning is the same (`IPAllocated`, `AllocationFailed`, `LoadBalancerFailed`,
//! `ClearAssignment`, `nodeAssigned`), so that what watches for those goes on doing so.

use serde_json::{Value, json};

use crate::model::{Balanced, Kind, ObjectName, Refusal};

/// Who says it.
const COMPONENT: &str = "levee-control";

/// Longest message of a condition or an event: events may have 1,024 bytes.
const LONGEST: usize = 900;

/// Something to tell about an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Which object.
    pub about: About,
    /// How much it matters.
    pub weight: Weight,
    /// One word, for programs.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// To know.
    Normal,
    /// To do something about.
    Warning,
}

/// The object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    kind: Kind,
    namespace: Option<String>,
    name: String,
    uid: Option<Box<str>>,
}

impl About {
    /// Any object.
    #[must_use]
    pub fn of(kind: Kind, namespace: Option<&str>, name: &str, uid: Option<&str>) -> Self {
        About { kind, namespace: namespace.map(str::to_owned), name: name.to_owned(), uid: uid.map(Into::into) }
    }

    /// A Service.
    #[must_use]
    pub fn service(name: &ObjectName, uid: Option<&str>) -> Self {
        About::of(Kind::Service, Some(&name.namespace), &name.name, uid)
    }

    /// Where its events are: those of objects without a namespace are in `default`, as `kubectl` looks for them.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

/// Names and addresses of a Service's own fill a message, and others' names may; none of them may make it too long to be taken.
pub(super) fn cut(mut message: String) -> String {
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
        message.push('…');
    }
    message
}

/// Objects of the cluster that are refused, each with its reason: whoever made one may not see levee's own status.
pub fn refusals(balanced: &Balanced) -> impl Iterator<Item = Event> {
    balanced.refusals.iter().map(|Refusal { key, uid, why }| Event {
        about: About::of(key.kind, key.namespace.as_deref(), &key.name, uid.as_deref()),
        weight: Weight::Warning,
        reason: "Refused",
        message: cut(why.clone()),
    })
}

impl Event {
    /// A name that says what it tells: a second attempt to tell the same finds it told already.
    #[must_use]
    pub fn name_by_content(&self) -> String {
        let About { kind, namespace, name, uid } = &self.about;
        let parts = [
            kind.name(),
            namespace.as_deref().unwrap_or(""),
            name,
            uid.as_deref().unwrap_or(""),
            self.reason,
            &self.message,
        ];
        // FNV-1a, over parts that end each: every leader finds the same.
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        self.name(hash)
    }

    /// A name among the object's events.
    #[must_use]
    pub fn name(&self, number: u64) -> String {
        // A name has 253 characters at most, and this one's end tells it apart.
        let about: String = self.about.name.chars().take(200).collect();
        format!("{about}.{number:016x}")
    }

    /// As the API has it (`v1` Event). `now` is RFC 3339; `instance` is which process says it.
    #[must_use]
    pub fn object(&self, name: &str, now: &str, instance: &str) -> Value {
        let Event { about, weight, reason, message } = self;
        let mut involved = json!({
            "apiVersion": about.kind.api_version(),
            "kind": about.kind.name(),
            "name": about.name,
        });
        if let Some(involved) = involved.as_object_mut() {
            for (key, value) in [("namespace", about.namespace.as_deref()), ("uid", about.uid.as_deref())] {
                involved.extend(value.map(|value| (key.to_owned(), json!(value))));
            }
        }
        json!({
            "metadata": {"name": name, "namespace": about.namespace()},
            "involvedObject": involved,
            "type": match weight { Weight::Normal => "Normal", Weight::Warning => "Warning" },
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT, "host": instance},
            "reportingComponent": COMPONENT,
            "reportingInstance": instance,
        })
    }
}
