//! The talk with the kernel: two sockets, one to hear and one to ask.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::stream::{Stream, StreamExt as _};
use levee_api::net::Family;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, InetDevConf, LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use rtnetlink::{Handle, IpVersion, MulticastGroup, new_connection, new_multicast_connection};

use super::divert::{self, Diversion, Step, Way};
use super::view::{Keeper, MARK, View, read_address, read_link};
use super::wanted::Wanted;
use super::{Asked, Diverted, Host, Key, PortNames, Update};
use crate::config::Interface;

/// A notification, and who sent it.
type Heard<S> = (NetlinkMessage<RouteNetlinkMessage>, S);

/// Changes are gathered for this long before they are told: one `ip route` can make several.
const GATHER: Duration = Duration::from_millis(5);
/// Neighbours that the kernel refused are tried again this often; where it cannot manage any, so are all that are wanted, well within the
/// 15 s in which it takes an answer for fresh.
const REFRESH: Duration = Duration::from_secs(10);
/// Neighbours are installed so many at a time, and so often: 1,600 a second. Each costs a broadcast, and a node that starts in a large cluster
/// wants thousands.
const PORTION: usize = 32;
const PACE: Duration = Duration::from_millis(20);
/// How often neighbours are taken back at the end, at the pace above.
const TAKE_BACK_TRIES: usize = 10;
/// Pause before everything is read anew after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// Follows the kernel and serves what is asked for, until `stop`; then takes back the neighbours that it had the kernel
/// manage. `tell` may block: the thread is this room's own.
///
/// # Errors
/// No netlink socket at the start. Later failures are overcome by starting anew.
pub async fn run(
    names: Vec<PortNames>,
    host: Option<Host>,
    mut asked: Asked,
    mut tell: impl FnMut(Vec<Update>),
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let (ask, mut asking) = connect()?;
    let mut room = Room {
        ask,
        view: View::new(names),
        wanted: Wanted::new(Instant::now()),
        queue: VecDeque::new(),
        refused: BTreeSet::new(),
        manages: true,
        host,
        diversion: Diversion::default(),
        diverted: Ok(()),
    };
    let mut stop = std::pin::pin!(stop);
    let mut first = true;
    loop {
        let outcome = tokio::select! {
            () = &mut stop => break,
            outcome = room.follow(&mut asked, &mut tell, first) => outcome,
        };
        first = false;
        match outcome {
            Ok(()) => tracing::debug!("the kernel's routes and neighbours are read anew"),
            Err(error) => {
                tracing::warn!(%error, "cannot follow the kernel's routes and neighbours; trying again");
                tokio::time::sleep(RETRY).await;
                // It may be the socket that failed.
                if let Ok((ask, new)) = connect() {
                    room.ask = ask;
                    asking = new;
                }
            }
        }
    }
    room.give_back_routes().await;
    room.take_back().await;
    drop(asking);
    Ok(())
}

/// A socket to ask by, which lasts as long as the second value.
fn connect() -> io::Result<(Handle, Aborted)> {
    let (connection, ask, _) = new_connection()?;
    Ok((ask, Aborted(tokio::spawn(connection))))
}

struct Room {
    ask: Handle,
    view: View,
    wanted: Wanted,
    /// Wanted, and not installed yet.
    queue: VecDeque<Key>,
    /// Wanted, and refused by the kernel: its interface is down, mostly. Tried again later.
    refused: BTreeSet<Key>,
    /// Whether the kernel knows managed neighbours; known after the first.
    manages: bool,
    /// The port to this host's own stack.
    host: Option<Host>,
    /// What leads there.
    diversion: Diversion,
    /// What came of the last attempt to have it so.
    diverted: Result<(), String>,
}

impl Room {
    /// One reading of everything, and all that follows it. Ends when a new reading is needed.
    async fn follow(&mut self, asked: &mut Asked, tell: &mut impl FnMut(Vec<Update>), first: bool) -> io::Result<()> {
        // Heard from before anything is read, so that nothing falls between.
        let (connection, _handle, mut heard) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
            MulticastGroup::Neigh,
        ])?;
        let _hearing = Aborted(tokio::spawn(connection));
        self.begin(asked, tell, first).await?;
        let mut refresh = tokio::time::interval(REFRESH);
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = heard.next() => {
                    let Some(moved) = self.gather(message, &mut heard).await else { return Ok(()) };
                    self.tell_changes(moved, asked, tell).await;
                    if self.view.take_stale() {
                        return Ok(());
                    }
                }
                Ok(()) = asked.standing.changed() => {
                    let standing = asked.standing.borrow_and_update().clone();
                    self.stand(&standing).await;
                }
                Ok(()) = asked.diverted.changed() => {
                    let diverted = asked.diverted.borrow_and_update().clone();
                    self.divert(&diverted, tell).await;
                }
                Some(key) = asked.resolve.recv() => {
                    let (now, dropped) = self.wanted.ask(key, Instant::now());
                    if now {
                        self.want(key).await;
                    }
                    if let Some(dropped) = dropped {
                        self.drop_neighbour(dropped).await;
                    }
                }
                _ = pace.tick(), if !self.queue.is_empty() => {
                    for _ in 0..PORTION {
                        let Some(key) = self.queue.pop_front() else { break };
                        if self.wanted.contains(&key) {
                            self.want(key).await;
                        }
                    }
                }
                _ = refresh.tick() => {
                    let again = std::mem::take(&mut self.refused);
                    if self.manages { self.queue.extend(again) } else { self.queue = self.wanted.iter().collect() }
                    if self.diverted.is_err() {
                        let diverted = asked.diverted.borrow().clone();
                        self.divert(&diverted, tell).await;
                    }
                }
            }
        }
    }

    /// Reads everything, and wants anew whatever is wanted.
    async fn begin(&mut self, asked: &mut Asked, tell: &mut impl FnMut(Vec<Update>), first: bool) -> io::Result<()> {
        self.view.restart();
        self.diversion = Diversion::default();
        self.read_all().await.map_err(io::Error::other)?;
        self.view.take_stale();
        let mut updates = self.view.updates();
        if !first {
            updates.push(Update::Resynchronised);
        }
        self.give_up_failed(&updates).await;
        tell(updates);
        self.queue = self.wanted.iter().collect();
        self.refused.clear();
        let standing = asked.standing.borrow_and_update().clone();
        self.stand(&standing).await;
        let diverted = asked.diverted.borrow_and_update().clone();
        self.divert(&diverted, tell).await;
        Ok(())
    }

    /// Takes a notification, and those that come soon after it. Says whether any is about what leads to levee; `None` if some were lost
    /// (ENOBUFS), or the socket.
    async fn gather<S>(
        &mut self,
        first: Option<Heard<S>>,
        heard: &mut (impl Stream<Item = Heard<S>> + Unpin),
    ) -> Option<bool> {
        let (mut next, mut moved) = (first, false);
        let until = tokio::time::Instant::now() + GATHER;
        loop {
            match next.map(|(message, _)| message.payload)? {
                NetlinkPayload::InnerMessage(message) => {
                    self.view.apply(&message);
                    moved |= self.diversion.apply(&message);
                }
                NetlinkPayload::Overrun(_) => return None,
                _ => {}
            }
            match tokio::time::timeout_at(until, heard.next()).await {
                Ok(message) => next = message,
                Err(_) => return Some(moved),
            }
        }
    }

    /// Tells what has changed, and does what follows from it.
    async fn tell_changes(&mut self, mut moved: bool, asked: &Asked, tell: &mut impl FnMut(Vec<Update>)) {
        let updates = self.view.updates();
        self.give_up_failed(&updates).await;
        self.want_lost(&updates);
        moved |= updates.iter().any(|update| matches!(update, Update::Addresses(_)));
        if !updates.is_empty() {
            tell(updates);
        }
        if moved {
            let diverted = asked.diverted.borrow().clone();
            self.divert(&diverted, tell).await;
        }
    }

    async fn read_all(&mut self) -> Result<(), rtnetlink::Error> {
        let mut links = self.ask.link().get().execute();
        while let Some(link) = links.next().await {
            self.view.apply(&RouteNetlinkMessage::NewLink(link?));
        }
        let mut addresses = std::pin::pin!(self.ask.address().get().execute());
        while let Some(address) = addresses.next().await {
            self.view.apply(&RouteNetlinkMessage::NewAddress(address?));
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut ask = RouteMessage::default();
            ask.header.address_family = family;
            let mut routes = std::pin::pin!(self.ask.route().get(ask).execute());
            while let Some(route) = routes.next().await {
                let route = RouteNetlinkMessage::NewRoute(route?);
                self.view.apply(&route);
                self.diversion.apply(&route);
            }
            let neighbours = self.ask.neighbours().get().set_address_family(family);
            let mut neighbours = std::pin::pin!(neighbours.execute());
            while let Some(neighbour) = neighbours.next().await {
                self.view.apply(&RouteNetlinkMessage::NewNeighbour(neighbour?));
            }
        }
        for family in [IpVersion::V4, IpVersion::V6] {
            let mut rules = std::pin::pin!(self.ask.rule().get(family).execute());
            while let Some(rule) = rules.next().await {
                self.diversion.apply(&RouteNetlinkMessage::NewRule(rule?));
            }
        }
        Ok(())
    }

    async fn stand(&mut self, standing: &BTreeSet<Key>) {
        let (add, drop) = self.wanted.stand(standing.clone());
        self.queue.extend(add);
        for key in drop {
            self.drop_neighbour(key).await;
        }
        // What a daemon before this one left behind, if it was killed; taken over where it is wanted again.
        if !standing.is_empty() {
            for key in self.view.marked().into_iter().filter(|key| !self.wanted.contains(key)).collect::<Vec<_>>() {
                self.drop_neighbour(key).await;
            }
        }
    }

    /// Has what this host sends to Services be led to levee, or, without a port for it, what a daemon before this one left behind be
    /// taken away.
    async fn divert(&mut self, diverted: &Diverted, tell: &mut impl FnMut(Vec<Update>)) {
        let outcome = self.try_divert(diverted).await;
        if outcome != self.diverted {
            tell(vec![Update::Diverted(outcome.clone().err())]);
        }
        self.diverted = outcome;
    }

    async fn try_divert(&mut self, diverted: &Diverted) -> Result<(), String> {
        let Some(host) = self.host.clone() else { return self.make_ways(&BTreeSet::new(), 0).await };
        self.accept_from(host.index).await?;
        let source = |family| {
            let preferred = host.sources.iter().copied().find(|address| Family::of(*address) == family);
            self.view.source(&host.uplinks, preferred, family)
        };
        let sources: Vec<IpAddr> = [Family::Ipv4, Family::Ipv6].into_iter().filter_map(source).collect();
        self.make_ways(&divert::ways(diverted, &host.inward, &sources), host.index).await?;
        if sources.is_empty() {
            return Err(
                "no uplink has an address that what this node itself sends to Services could come from: give it \
                        one, or set `host: false`"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Has the kernel take what comes from the port to it: packets from addresses to which its routes lead elsewhere (`rp_filter` 2),
    /// and from its own ones, which node ports are on (`accept_local`). See Documentation/networking/ip-sysctl.rst.
    async fn accept_from(&self, device: u32) -> Result<(), String> {
        let mut settings = InetDevConf::default();
        settings.rp_filter = 2;
        settings.accept_local = 1;
        let mut message = LinkMessage::default();
        message.header.index = device;
        let settings = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(settings)]);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![settings]));
        let set = self.ask.link().set(message).execute().await;
        set.map_err(|error| format!("the kernel cannot be had to take packets from the port to it: {error}"))
    }

    /// Does what is missing; stops at the first step that cannot be done.
    async fn make_ways(&mut self, wanted: &BTreeSet<Way>, device: u32) -> Result<(), String> {
        for step in self.diversion.steps(wanted) {
            let done = match &step {
                Step::Add(way) => self.add_way(way.message(device)).await,
                Step::Remove(way) => self.remove_way(way.message(device)).await,
                Step::Clear(rule) => self.ask.rule().del((**rule).clone()).execute().await,
            };
            // Somebody else has done it, which is as good.
            let there = [rustix::io::Errno::EXIST, rustix::io::Errno::NOENT, rustix::io::Errno::SRCH];
            match done {
                Err(error) if !there.iter().any(|known| errno(&error) == Some(known.raw_os_error())) => {
                    return Err(format!(
                        "what this node itself sends to Services is not led to levee: {step:?}: {error}"
                    ));
                }
                _ => self.diversion.done(&step),
            }
        }
        Ok(())
    }

    async fn add_way(&self, message: divert::Message) -> Result<(), rtnetlink::Error> {
        match message {
            divert::Message::Route(route) => self.ask.route().add(*route).execute().await,
            divert::Message::Rule(rule) => {
                let mut request = self.ask.rule().add();
                *request.message_mut() = *rule;
                request.execute().await
            }
        }
    }

    async fn remove_way(&self, message: divert::Message) -> Result<(), rtnetlink::Error> {
        match message {
            divert::Message::Route(route) => self.ask.route().del(*route).execute().await,
            divert::Message::Rule(rule) => self.ask.rule().del(*rule).execute().await,
        }
    }

    /// Leaves rules and routes as they were found.
    async fn give_back_routes(&mut self) {
        let device = self.host.as_ref().map_or(0, |host| host.index);
        if let Err(error) = self.make_ways(&BTreeSet::new(), device).await {
            tracing::warn!(error, "rules stay, and lead nowhere (`ip rule`, proto 76)");
        }
    }

    /// What a packet asked for and nobody answers to is not kept: the kernel would broadcast for it for ever.
    async fn give_up_failed(&mut self, updates: &[Update]) {
        for update in updates {
            if let Update::Neighbour { key, state: Some("failed"), .. } = update
                && self.wanted.failed(key)
            {
                self.drop_neighbour(*key).await;
            }
        }
    }

    /// What is wanted and somebody else removed, a link that went down or a person, is wanted again.
    fn want_lost(&mut self, updates: &[Update]) {
        for update in updates {
            if let Update::Neighbour { key, state: None, .. } = update
                && self.wanted.contains(key)
            {
                self.queue.push_back(*key);
            }
        }
    }

    /// Has the kernel resolve a neighbour, and keep it.
    async fn want(&mut self, key: Key) {
        let (port, address) = key;
        let Some(link) = self.view.neighbour_link(port) else { return };
        // A static neighbour needs no care, and asking for it would make it an ordinary one (`__neigh_update`, net/core/neighbour.c).
        if self.view.keeper(link, address) == Keeper::Other {
            return;
        }
        if self.manages {
            match self.install(link, address, NeighbourFlags::empty(), NeighbourExtFlags::Managed).await {
                Ok(()) => return,
                Err(error) if errno(&error) == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                    tracing::info!(
                        "this kernel does not know managed neighbours (Linux 5.16); they are refreshed by asking"
                    );
                    self.manages = false;
                }
                Err(error) => {
                    tracing::debug!(%error, %address, "a neighbour could not be installed");
                    self.refused.insert(key);
                    return;
                }
            }
        }
        if let Err(error) = self.install(link, address, NeighbourFlags::Use, NeighbourExtFlags::empty()).await {
            tracing::debug!(%error, %address, "a neighbour could not be asked for");
        }
    }

    async fn install(
        &self,
        link: u32,
        address: IpAddr,
        flags: NeighbourFlags,
        extended: NeighbourExtFlags,
    ) -> Result<(), rtnetlink::Error> {
        let mut request = self.ask.neighbours().add(link, address).replace().state(NeighbourState::None).flags(flags);
        if !extended.is_empty() {
            let attributes = &mut request.message_mut().attributes;
            attributes.extend([NeighbourAttribute::ExtFlags(extended), NeighbourAttribute::Protocol(MARK)]);
        }
        request.execute().await
    }

    async fn drop_neighbour(&self, (port, address): Key) {
        let Some(link) = self.view.neighbour_link(port) else { return };
        if self.view.keeper(link, address) == Keeper::Other {
            return;
        }
        let mut message = NeighbourMessage::default();
        let (family, destination) = match address {
            IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
        };
        message.header.family = family;
        message.header.ifindex = link;
        message.attributes.push(NeighbourAttribute::Destination(destination));
        if let Err(error) = self.ask.neighbours().del(message).execute().await {
            // ENOENT: somebody else has removed it, which is as good.
            tracing::debug!(%error, %address, "a neighbour could not be removed");
        }
    }

    /// Leaves the kernel's table as it was found: nothing in it bears our mark.
    async fn take_back(&mut self) {
        // Read anew: this may come in the middle of a reading. And again: an entry that is in use just then stays.
        for _ in 0..TAKE_BACK_TRIES {
            self.view.restart();
            if let Err(error) = self.read_all().await {
                tracing::warn!(%error, "neighbours stay as they are, managed by the kernel (`ip neigh`, proto 76)");
                return;
            }
            let ours = self.view.marked();
            if ours.is_empty() {
                return;
            }
            for key in ours {
                self.drop_neighbour(key).await;
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

/// A task that ends with this.
struct Aborted(tokio::task::JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

/// The interfaces of this thread's network namespace, with as many queues each as `queues` says.
///
/// # Errors
/// Netlink.
pub async fn interfaces(queues: impl Fn(&str) -> u32) -> io::Result<Vec<Interface>> {
    let (ask, _asking) = connect()?;
    let mut interfaces = Vec::new();
    let mut links = ask.link().get().execute();
    while let Some(link) = links.next().await {
        let link = link.map_err(io::Error::other)?;
        let Some(facts) = read_link(&link) else { continue };
        interfaces.push(Interface {
            queues: queues(&facts.name),
            name: facts.name,
            index: link.header.index,
            mac: facts.mac,
            mtu: facts.mtu,
            up: facts.up,
            addresses: Vec::new(),
            peer: facts.peer,
        });
    }
    let mut addresses = std::pin::pin!(ask.address().get().execute());
    while let Some(address) = addresses.next().await {
        let address = address.map_err(io::Error::other)?;
        // Of IPv6, what the kernel would not choose for long: temporary ones (RFC 8981; the flag is that of IPv4's secondary ones),
        // deprecated ones, and those that are somebody else's.
        let passing = AddressHeaderFlags::Secondary | AddressHeaderFlags::Deprecated | AddressHeaderFlags::Dadfailed;
        if address.header.family == AddressFamily::Inet6 && address.header.flags.intersects(passing) {
            continue;
        }
        let of = interfaces.iter_mut().find(|interface| interface.index == address.header.index);
        if let (Some(of), Some(address)) = (of, read_address(&address)) {
            of.addresses.push(address);
        }
    }
    Ok(interfaces)
}
