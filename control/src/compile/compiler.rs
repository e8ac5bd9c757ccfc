//! A compiler that remembers: what each Service came to, so that a change of one costs one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::program::{Local, Service as Programmed, Vip};

use super::{CompiledService, Context, HealthChecks, Role, View, local, service, tunnels};
use crate::allocate;
use crate::model::{Changes, Node, ObjectName, ValidatedCluster};
use crate::notice::Notice;
use crate::plan::Change;

/// What one Service came to.
#[derive(Debug, Default)]
struct Part {
    services: Box<[Arc<Programmed>]>,
    vips: Box<[Vip]>,
    notices: Box<[Notice]>,
    /// Addresses of its endpoints on this node.
    here: Box<[IpAddr]>,
    /// Where its health check is answered.
    health_checks: BTreeMap<SocketAddr, usize>,
}

/// How much a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Services, one for each port and family.
    pub services: usize,
    /// VIPs.
    pub vips: usize,
    /// Backends, over all services.
    pub backends: usize,
}

/// Compiles the program of one dataplane, change by change.
#[derive(Debug)]
pub struct Compiler {
    view: View,
    /// Our Node, as it was when Services were compiled.
    node: Option<Node>,
    parts: BTreeMap<ObjectName, Part>,
    /// Each VIP, with how many Services have it, and how many of them would announce it.
    vips: BTreeMap<IpAddr, [usize; 2]>,
    /// Addresses of pods on this node, and of endpoints, with how many say so.
    here: BTreeMap<IpAddr, usize>,
    /// Pods on this node, with their addresses.
    pods: BTreeMap<ObjectName, BTreeSet<IpAddr>>,
    /// Addresses that Services of files have been given, and what there is to tell of those that were not.
    assigned: BTreeMap<ObjectName, Vec<IpAddr>>,
    unassigned: Vec<Notice>,
    /// What Services have to tell, with how many tell it.
    notices: BTreeMap<Notice, usize>,
    health_checks: HealthChecks,
    size: Size,
    compiled: u64,
    /// Whether there may be something else to tell than was told last.
    fresh: bool,
    /// Whether anything was compiled yet: what concerns no object is said then, and only then.
    begun: bool,
}

impl Compiler {
    /// For a dataplane that has nothing yet.
    #[must_use]
    pub fn new(view: View) -> Self {
        Compiler {
            view,
            node: None,
            parts: BTreeMap::new(),
            vips: BTreeMap::new(),
            here: BTreeMap::new(),
            pods: BTreeMap::new(),
            assigned: BTreeMap::new(),
            unassigned: Vec::new(),
            notices: BTreeMap::new(),
            health_checks: HealthChecks::new(),
            size: Size::default(),
            compiled: 0,
            fresh: true,
            begun: false,
        }
    }

    /// Whose program it compiles.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How much the program has now.
    #[must_use]
    pub fn size(&self) -> Size {
        Size { vips: self.vips.len(), ..self.size }
    }

    /// Where health checks are answered, and with how many endpoints (rule 39).
    #[must_use]
    pub fn health_checks(&self) -> &HealthChecks {
        &self.health_checks
    }

    /// How many Services were compiled since it was made, each time counted.
    #[must_use]
    pub fn compiled(&self) -> u64 {
        self.compiled
    }

    /// Compiles everything, whatever was compiled before, as this view has it.
    pub fn look_from(&mut self, view: View, cluster: &ValidatedCluster) -> Change {
        self.view = view;
        self.everything(cluster)
    }

    /// Compiles everything. Says what is another than before: of a new compiler, all.
    pub fn everything(&mut self, cluster: &ValidatedCluster) -> Change {
        let services = self.parts.keys().chain(cluster.service_names()).cloned().collect();
        let pods = self.pods.keys().chain(cluster.pods().map(|(name, _)| name)).cloned().collect();
        let changes = Changes { services, pods, service_cidrs: true, balanced: true, ..Changes::default() };
        self.node = cluster.node(&self.view.node).cloned();
        self.fresh = true;
        self.begun = true;
        let mut change = self.parts(cluster, &changes);
        change.local = Some(self.local());
        change.tunnels = Some(Arc::new(tunnels(&self.view, self.node.as_ref())));
        change.announce_in_term = Some(self.view.elected);
        change
    }

    /// Compiles what concerns these changes of the cluster, and says what is another in the program.
    pub fn update(&mut self, cluster: &ValidatedCluster, changes: &Changes) -> Change {
        // Zone, addresses and prefixes of our own Node are in every Service's context.
        let other_node = changes.nodes.contains(&self.view.node) && cluster.node(&self.view.node) != self.node.as_ref();
        // A balancer need have no Node at all.
        if !self.begun || other_node {
            return self.everything(cluster);
        }
        self.fresh |= changes.notices;
        if self.view.tunnels.is_empty() || changes.nodes.is_empty() {
            return self.parts(cluster, changes);
        }
        // Nodes that packets are wrapped for have other addresses, perhaps.
        let mut changes = changes.clone();
        let all = self.view.overlay.is_some();
        let tunnelled = cluster.services().filter(|(_, service)| all || service.asks_for_tunnel());
        let tunnelled = tunnelled.map(|(name, _)| name.clone());
        changes.services.extend(tunnelled);
        self.parts(cluster, &changes)
    }

    fn parts(&mut self, cluster: &ValidatedCluster, changes: &Changes) -> Change {
        let view = self.view.clone();
        let context = Context::new(cluster, &view);
        let mut change = Change::default();
        // Whether other addresses are here than before.
        let mut moved = false;
        let moved_in = if changes.balanced { self.assign(cluster) } else { BTreeSet::new() };
        for name in changes.services.union(&moved_in) {
            let new = self.compile(name, cluster, &context);
            let old = self.parts.remove(name).unwrap_or_default();
            moved |= recount(&mut self.here, &old.here, &new.here);
            self.fresh |= recount(&mut self.notices, &old.notices, &new.notices);
            self.replace(&old, &new, &mut change);
            self.health_checks.remove(name);
            if !new.health_checks.is_empty() {
                self.health_checks.insert(name.clone(), new.health_checks.clone());
            }
            if !new.is_nothing() {
                self.parts.insert(name.clone(), new);
            }
        }
        for name in &changes.pods {
            let pod = cluster.pod(name).filter(|pod| view.role == Role::Node && pod.node == view.node);
            let new = pod.map(|pod| pod.addresses.clone()).unwrap_or_default();
            let old = self.pods.remove(name).unwrap_or_default();
            moved |= recount(&mut self.here, &old, &new);
            if !new.is_empty() {
                self.pods.insert(name.clone(), new);
            }
        }
        if moved {
            change.local = Some(self.local());
        }
        if changes.service_cidrs {
            let given = view.service_cidrs.iter().map(IpNet::trunc);
            let ranges: BTreeSet<IpNet> = cluster.service_cidrs().copied().chain(given).collect();
            change.service_ranges = Some(Arc::new(ranges.into_iter().collect()));
        }
        change
    }

    /// Gives addresses to Services of files. Returns which have others than before.
    fn assign(&mut self, cluster: &ValidatedCluster) -> BTreeSet<ObjectName> {
        let (assigned, unassigned) = allocate::in_files(cluster.balanced(), self.view.class_required);
        self.fresh |= self.unassigned != unassigned;
        self.unassigned = unassigned;
        let before = std::mem::replace(&mut self.assigned, assigned);
        let names = before.keys().chain(self.assigned.keys());
        names.filter(|name| before.get(*name) != self.assigned.get(*name)).cloned().collect()
    }

    fn compile(&mut self, name: &ObjectName, cluster: &ValidatedCluster, context: &Context<'_>) -> Part {
        let mut part = Part::default();
        if self.view.role == Role::Node {
            // Pods need not be among the objects; endpoints that are here say as much about those that serve something, also
            // where there is no such Service.
            let endpoints = cluster.slices(name).flat_map(|slice| &slice.endpoints);
            let here = endpoints.filter(|endpoint| endpoint.node.as_deref() == Some(self.view.node.as_str()));
            part.here = here.map(|endpoint| endpoint.address).collect();
        }
        if let Some(object) = cluster.service(name) {
            self.compiled += 1;
            let mut object = Cow::Borrowed(object);
            if let Some(addresses) = self.assigned.get(name) {
                object.to_mut().load_balancer_ips.extend(addresses);
            }
            let CompiledService { services, vips, notices, health_checks } =
                service(name, &object, cluster.slices(name), context);
            part.health_checks = health_checks;
            part.services = services.into_iter().map(|service| Arc::new(service.canonical())).collect();
            part.vips = vips.into();
            part.notices = notices.into();
        }
        part
    }

    /// What a program has of a Service, in the place of what it had.
    fn replace(&mut self, old: &Part, new: &Part, change: &mut Change) {
        for service in &old.services {
            self.size.services -= 1;
            self.size.backends -= service.backends.len();
            change.services.insert(service.key(), None);
        }
        for service in &new.services {
            self.size.services += 1;
            self.size.backends += service.backends.len();
            change.services.insert(service.key(), Some(Arc::clone(service)));
        }
        for Vip { address, announce } in &new.vips {
            let [having, announcing] = self.vips.entry(*address).or_default();
            *having += 1;
            *announcing += usize::from(*announce);
        }
        for Vip { address, announce } in &old.vips {
            if let Some([having, announcing]) = self.vips.get_mut(address) {
                *having -= 1;
                *announcing -= usize::from(*announce);
                if *having == 0 {
                    self.vips.remove(address);
                }
            }
        }
        for Vip { address, .. } in old.vips.iter().chain(&new.vips) {
            // Services that share an address agree on announcing it, since only load-balancer addresses are shared; were it
            // ever otherwise, one entry for each address would still be what the dataplane needs, and announcing wins.
            change.vips.insert(*address, self.vips.get(address).map(|[_, announcing]| *announcing > 0));
        }
    }

    fn local(&self) -> Arc<Local> {
        Arc::new(local::local(&self.view, self.node.as_ref(), self.here.keys()))
    }

    /// What is worth telling, if it may be something else than when this was asked last.
    pub fn news(&mut self, cluster: &ValidatedCluster) -> Option<Vec<Notice>> {
        std::mem::take(&mut self.fresh).then(|| self.notices(cluster))
    }

    /// What is worth telling: about the cluster's objects, and about what came of them here.
    #[must_use]
    pub fn notices(&self, cluster: &ValidatedCluster) -> Vec<Notice> {
        let ours = local::notice(&self.view, self.node.as_ref());
        let all: BTreeSet<&Notice> =
            cluster.notices().iter().chain(self.notices.keys()).chain(&self.unassigned).chain(&ours).collect();
        all.into_iter().cloned().collect()
    }
}

impl Part {
    fn is_nothing(&self) -> bool {
        self.services.is_empty() && self.vips.is_empty() && self.notices.is_empty() && self.here.is_empty()
    }
}

/// Counts what there is instead of what there was. Returns whether something is there now that was not, or the other way.
fn recount<'a, K: Ord + Clone + 'a>(
    counts: &mut BTreeMap<K, usize>,
    old: impl IntoIterator<Item = &'a K>,
    new: impl IntoIterator<Item = &'a K>,
) -> bool {
    let mut moved = false;
    for key in new {
        match counts.get_mut(key) {
            Some(count) => *count += 1,
            None => {
                counts.insert(key.clone(), 1);
                moved = true;
            }
        }
    }
    // Afterwards, so that what stays is there all the time.
    for key in old {
        let Some(count) = counts.get_mut(key) else { continue };
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
            moved = true;
        }
    }
    moved
}
