//! One kind, followed: listed, then watched from there on, for ever.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams};
use levee_api::diagnostic::Diagnostic;

use super::connect::{Access, chain};
use super::{WATCH, is_optional, plural};
use crate::model::{Key, Kind, Origin, Refusal};
use crate::watch::read::read_value;
use crate::watch::{Closed, Event, Outlet};

/// How long the server may take to answer: a page of a list, or the beginning of a watch.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a watch may be silent beyond its time.
const GRACE: Duration = Duration::from_secs(10);

/// Objects to a page: what is in memory as JSON at a time. As many as client-go asks for.
const PAGE: u32 = 500;

/// Events that are said together, at most.
const BATCH: usize = 256;

/// Pause after the first failure, doubled after each further one …
const PAUSE: Duration = Duration::from_millis(100);

/// … up to this. A server that comes back is found within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A watch that lasts so long is in order. To begin one again and again that ends at once would be a storm.
const STEADY: Duration = Duration::from_secs(1);

/// How often to look for a kind that the cluster does not have, and how long one that we have seen must be missing before
/// that is believed: a server that has just started does not know its CRDs yet.
const ABSENT: Duration = Duration::from_secs(30);

/// See the [module](self).
pub(super) struct Follower {
    access: Access,
    kind: Kind,
    resource: ApiResource,
    fields: Option<String>,
    origin: Origin,
    outlet: Outlet,
    /// Failures since a watch was last in order.
    failures: u32,
    /// Whether it was said that the server cannot be asked.
    has_failed: bool,
    /// Whether a list was ever complete.
    has_listed: bool,
    /// Since when the cluster has not had this kind.
    absent: Option<Instant>,
}

/// Why a list or a watch is over.
enum End {
    /// Nobody listens any more.
    Closed,
    /// Go on from this version.
    At(String),
    /// The server has forgotten where we were: list anew.
    Expired,
    /// The server does not have this kind.
    Absent,
    /// It failed; the version to go on from, if there is one.
    Failed(String, Option<String>),
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        End::Closed
    }
}

impl Follower {
    pub(super) fn new(access: Access, kind: Kind, node: &str, name: Arc<str>, outlet: Outlet) -> Self {
        let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
        let gvk = GroupVersionKind::gvk(group, version, kind.name());
        Follower {
            access,
            kind,
            resource: ApiResource::from_gvk_with_plural(&gvk, plural(kind)),
            // A node's name has nothing in it that a selector would read otherwise (RFC 1123 subdomain).
            fields: (kind == Kind::Pod).then(|| format!("spec.nodeName={node}")),
            origin: Origin::of_cluster(name),
            outlet,
            failures: 0,
            has_failed: false,
            has_listed: false,
            absent: None,
        }
    }

    /// Until nobody listens any more.
    pub(super) async fn run(mut self) -> Closed {
        // Where the next watch begins; without it, a list comes first.
        let mut version: Option<String> = None;
        let mut api: Option<Api<DynamicObject>> = None;
        loop {
            let (began, watches) = (Instant::now(), api.is_some() && version.is_some());
            let end = match (&api, version.take()) {
                (None, at) => match self.access.client().await {
                    Ok(client) => {
                        api = Some(Api::all_with(client, &self.resource));
                        version = at;
                        continue;
                    }
                    Err(why) => End::Failed(why, at),
                },
                (Some(api), None) => self.list(api).await,
                (Some(api), Some(at)) => self.watch(api, at).await,
            };
            if watches && began.elapsed() >= STEADY {
                self.failures = 0;
            }
            let pause = match end {
                End::Closed => return Closed,
                End::At(at) => {
                    version = Some(at);
                    self.absent = None;
                    if !watches || began.elapsed() >= STEADY {
                        continue;
                    }
                    self.pause()
                }
                // Not at once, in case it is a quarrel between servers that will not end.
                End::Expired => self.pause(),
                End::Absent => match self.absent().await {
                    Ok(pause) => pause,
                    Err(Closed) => return Closed,
                },
                End::Failed(why, at) => {
                    version = at;
                    // Read credentials again, and look up the server anew.
                    api = None;
                    // One failure is a server that restarts behind a balancer; two are worth telling.
                    if self.failures > 0 && self.fail(&why).await.is_err() {
                        return Closed;
                    }
                    self.pause()
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Everything there is now, page by page.
    async fn list(&mut self, api: &Api<DynamicObject>) -> End {
        self.list_pages(api).await.unwrap_or_else(|end| end)
    }

    async fn list_pages(&mut self, api: &Api<DynamicObject>) -> Result<End, End> {
        let mut params = ListParams { field_selector: self.fields.clone(), ..ListParams::default() }.limit(PAGE);
        self.outlet.tell(vec![Event::ListBegins]).await?;
        loop {
            let page = in_time(api.list(&params)).await.map_err(|end| end.or_go_on(None))?;
            let mut events: Vec<Event> = page
                .items
                .into_iter()
                .map(|object| self.read(object, |sourced| Event::Listed(Box::new(sourced))))
                .collect();
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => {
                    self.outlet.tell(events).await?;
                    params.continue_token = Some(next);
                }
                None => {
                    events.push(Event::ListComplete);
                    self.outlet.tell(events).await?;
                    self.has_failed = false;
                    self.has_listed = true;
                    let version = page.metadata.resource_version.filter(|version| !version.is_empty());
                    let nowhere =
                        || End::Failed("the list has no resourceVersion, so it cannot be watched".into(), None);
                    return version.map(End::At).ok_or_else(nowhere);
                }
            }
        }
    }

    /// What changes, for as long as the server lets us watch.
    async fn watch(&mut self, api: &Api<DynamicObject>, mut at: String) -> End {
        let params = WatchParams {
            field_selector: self.fields.clone(),
            timeout: u32::try_from(WATCH.as_secs()).ok(),
            bookmarks: true,
            ..WatchParams::default()
        };
        let stream = match in_time(api.watch(&params, &at)).await {
            Ok(stream) => stream,
            Err(end) => return end.or_go_on(Some(at)),
        };
        if std::mem::take(&mut self.has_failed) && self.outlet.tell(vec![Event::Recovered]).await.is_err() {
            return End::Closed;
        }
        let mut chunks = Box::pin(stream.ready_chunks(BATCH));
        loop {
            let chunk = match tokio::time::timeout(WATCH + GRACE, chunks.next()).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return End::At(at),
                Err(_) => return End::Failed("the connection is dead: nothing came, nor did it end".into(), Some(at)),
            };
            let mut events = Vec::with_capacity(chunk.len());
            let mut end = None;
            for event in chunk {
                match event {
                    Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                        at = version_of(&object).unwrap_or(at);
                        events.push(self.read(object, |sourced| Event::Changed(Box::new(sourced))));
                    }
                    Ok(WatchEvent::Deleted(object)) => {
                        at = version_of(&object).unwrap_or(at);
                        events.push(Event::Gone(self.key(&object)));
                    }
                    Ok(WatchEvent::Bookmark(bookmark)) => at = bookmark.metadata.resource_version,
                    Ok(WatchEvent::Error(status)) => {
                        end = Some(end_of(kube::Error::Api(status)));
                        break;
                    }
                    Err(error) => {
                        end = Some(end_of(error));
                        break;
                    }
                }
            }
            // What came before the end did come.
            if !events.is_empty() && self.outlet.tell(events).await.is_err() {
                return End::Closed;
            }
            if let Some(end) = end {
                return end.or_go_on(Some(at));
            }
        }
    }

    /// An object, or that it is refused, and why: whatever is wrong with it concerns no other.
    fn read(&self, object: DynamicObject, event: impl FnOnce(crate::model::Sourced) -> Event) -> Event {
        let (key, uid) = (self.key(&object), object.metadata.uid.clone().map(String::into_boxed_str));
        let read = serde_json::to_value(object)
            .map_err(|error| error.to_string())
            .and_then(|value| read_value(self.kind, &self.origin, value));
        match read {
            Ok(sourced) => event(sourced),
            Err(why) => Event::Refused(Refusal { key, uid, why }),
        }
    }

    fn key(&self, object: &DynamicObject) -> Key {
        let name = object.metadata.name.clone().unwrap_or_default();
        Key { kind: self.kind, namespace: object.metadata.namespace.clone(), name }
    }

    /// The cluster does not have this kind. Believed at once if it was never seen here.
    async fn absent(&mut self) -> Result<Duration, Closed> {
        let since = *self.absent.get_or_insert_with(Instant::now);
        if !is_optional(self.kind) {
            let why = "the cluster does not have this kind; levee needs Kubernetes 1.21 or later";
            self.fail(why).await?;
        } else if !self.has_listed || since.elapsed() >= ABSENT {
            self.has_failed = false;
            self.has_listed = true;
            self.outlet.tell(vec![Event::ListBegins, Event::ListComplete]).await?;
            return Ok(ABSENT);
        }
        Ok(self.pause())
    }

    async fn fail(&mut self, why: &str) -> Result<(), Closed> {
        self.has_failed = true;
        let about = plural(self.kind);
        let why: String = why.chars().take(300).collect();
        let mistake = Diagnostic::new(self.access.to_string(), format!("{about} cannot be watched: {why}"))
            .help("is the API server up, are the credentials valid, and the permissions of configs/kubernetes/install.yaml granted?");
        self.outlet.tell(vec![Event::Failed(vec![mistake])]).await
    }

    /// How long to wait now: longer each time, and not as long as everybody else.
    fn pause(&mut self) -> Duration {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let chance = RandomState::new().build_hasher().finish() % 50;
        pause.mul_f64(0.75 + chance as f64 / 100.0)
    }
}

impl End {
    /// Where to go on from after a failure that says nothing of it.
    fn or_go_on(self, from: Option<String>) -> End {
        match self {
            End::Failed(why, None) => End::Failed(why, from),
            end => end,
        }
    }
}

fn version_of(object: &DynamicObject) -> Option<String> {
    object.metadata.resource_version.clone()
}

/// Waits for an answer, but not for ever.
async fn in_time<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, End> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(end_of),
        Err(_) => Err(End::Failed(format!("no answer within {} s", ANSWER.as_secs()), None)),
    }
}

/// What an error means for what comes next.
fn end_of(error: kube::Error) -> End {
    match error {
        kube::Error::Api(status) => match status.code {
            410 => End::Expired,
            404 => End::Absent,
            // The version is from after the server's time: another etcd, or one restored from a backup.
            _ if status.message.contains("Too large resource version") => End::Expired,
            code => End::Failed(format!("{} ({code})", status.message), None),
        },
        error => End::Failed(chain(&error), None),
    }
}
