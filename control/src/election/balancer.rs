//! Every decision of one balancer: a state machine without I/O, which is told the time, what is seen, and what came of what it asked
//! for. The rules are in the [module above](super).
//!
//! ```text
//!   an address, as one balancer has it
//!
//!               free, or its owner is over;          written, in this tenure
//!               and it is our turn
//!   not ours ──────────────────────────► Write(Take) ───────────────────────► ours: named in each term
//!      ▲                                                                        │ not fit, not wanted, or another
//!      │                                                                        │ should have it and is there for long
//!      └──── Write(Release) or Delete ◄──── the dataplane has withdrawn it ◄────┘ named in no term from now on
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use levee_api::term::Term;

use super::names::{About, Notes};
use super::rank;
use super::view::{Claim, Object, Seen, View};
use crate::lease::{Change, Elector, Moment, Outcome, Record, Step, Tenure, Terms, Write, name_in};

/// Who is further down the order waits for so long, each, before it takes what is free: those before it were there first.
const STAGGER: Duration = Duration::from_millis(150);

/// How long the Lease of an address that nobody wants is left to its holder before another deletes it.
const LEFTOVER: Duration = Duration::from_secs(10);

/// Requests for addresses that are under way at a time.
const AT_ONCE: usize = 16;

/// What an operator may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Times of the heartbeat.
    pub terms: Terms,
    /// How long a balancer must have been there and fit before it is given addresses that others own.
    pub settle: Duration,
    /// How long an owner that cannot reach the API server may go on, on its peers' promises.
    pub outage: Duration,
}

/// Something to do. Each is answered by the method that its comment names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Read or write our heartbeat: [`Balancer::beaten`].
    Heartbeat(Step, Notes),
    /// Read another's heartbeat from the API server itself: [`Balancer::verified`].
    Verify(String),
    /// Write an address's Lease: [`Balancer::written`].
    Write(IpAddr, Write),
    /// Delete it, at this version: [`Balancer::deleted`].
    Delete(IpAddr, String),
    /// Give the dataplane a term: [`Balancer::termed`].
    Term(Term),
    /// Ask a peer for a promise: [`Balancer::promised`], or nothing.
    Ask(Ask),
}

/// A question for a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose promise, by identity.
    pub of: String,
    /// How it is reached: what its heartbeat says.
    pub peer: String,
    /// Of this question alone.
    pub number: u64,
}

/// A heartbeat that was read from the API server itself.
#[derive(Debug)]
struct Verified {
    asked: Moment,
    version: Option<String>,
    holder: Option<String>,
}

/// Whether an address's holder has it no more.
enum Over {
    /// Since then.
    Since(Moment),
    /// Not before this.
    NotBefore(Moment),
    /// To be read from the API server itself.
    Verify(String),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Balancer {
    name: String,
    settings: Settings,
    heartbeat: Elector,
    view: View,
    /// What there is to announce; unknown before the dataplane runs a program.
    wanted: Option<BTreeSet<IpAddr>>,
    excluded: Option<String>,
    dataplane: Result<(), String>,
    /// Whether it answered the last term at all.
    answers: bool,
    stopping: bool,
    peer: Option<String>,

    /// Confirmed as ours, in the tenure that began then.
    mine: BTreeMap<IpAddr, Moment>,
    giving: BTreeSet<IpAddr>,
    /// Requests, with the tenure in which they were sent.
    under_way: BTreeMap<IpAddr, Option<Moment>>,
    not_before: BTreeMap<IpAddr, Moment>,
    verified: BTreeMap<String, Verified>,
    verifying: BTreeMap<String, Moment>,

    term_number: u64,
    term_under_way: Option<(BTreeSet<IpAddr>, Moment)>,
    term_told: Option<BTreeSet<IpAddr>>,
    next_term: Moment,
    /// What the dataplane may be announcing, as far as we know: what it confirmed last, and what it did not answer.
    exposed: Vec<(BTreeSet<IpAddr>, Moment)>,

    /// Whom the last confirmed heartbeat names, and each that was tried since.
    named: Vec<BTreeSet<String>>,
    questions: BTreeMap<u64, (String, Moment)>,
    next_question: u64,
    next_ask: Moment,
    /// When the question was asked that a peer answered last.
    promises: BTreeMap<String, Moment>,
    /// What we have promised: not to take over from them before.
    promised: BTreeMap<String, Moment>,

    seen_changes: u64,
    tenure_since: Option<Moment>,
    dirty: bool,
    next_plan: Moment,
    /// Addresses taken, and given or lost, since the start.
    transitions: (u64, u64),
}

impl Balancer {
    /// The balancer of a Node, under an identity of its own. `peer` is where it answers questions for promises, if it does.
    #[must_use]
    pub fn new(name: &str, identity: String, settings: Settings, peer: Option<String>) -> Balancer {
        Balancer {
            name: name.to_owned(),
            heartbeat: Elector::new(identity, settings.terms),
            settings,
            view: View::default(),
            wanted: None,
            excluded: None,
            dataplane: Err("the dataplane has not been asked yet".to_owned()),
            answers: false,
            stopping: false,
            peer,
            mine: BTreeMap::new(),
            giving: BTreeSet::new(),
            under_way: BTreeMap::new(),
            not_before: BTreeMap::new(),
            verified: BTreeMap::new(),
            verifying: BTreeMap::new(),
            term_number: 0,
            term_under_way: None,
            term_told: None,
            next_term: Moment::default(),
            exposed: Vec::new(),
            named: Vec::new(),
            questions: BTreeMap::new(),
            next_question: 0,
            next_ask: Moment::default(),
            promises: BTreeMap::new(),
            promised: BTreeMap::new(),
            seen_changes: 0,
            tenure_since: None,
            dirty: true,
            next_plan: Moment::default(),
            transitions: (0, 0),
        }
    }

    // --- What it is told ---------------------------------------------------------------------------------------------

    /// These addresses are there to be announced; unknown while the dataplane runs no program.
    pub fn want(&mut self, wanted: Option<BTreeSet<IpAddr>>) {
        self.dirty |= self.wanted != wanted;
        self.wanted = wanted;
    }

    /// Somebody wants it to own nothing, and why; or nobody does.
    pub fn exclude(&mut self, why: Option<String>) {
        self.dirty |= self.excluded != why;
        self.excluded = why;
    }

    /// Where it answers questions for promises, and by which key; if it does.
    pub fn set_peer(&mut self, peer: Option<String>) {
        self.peer = peer;
    }

    /// Gives everything up, then its heartbeat.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.dirty = true;
    }

    /// The watch says this.
    pub fn see(&mut self, seen: Seen, now: Moment) {
        self.view.see(seen, now);
        self.check_mine();
    }

    /// The answer to [`Task::Heartbeat`].
    pub fn beaten(&mut self, outcome: Outcome, now: Moment) {
        if matches!(outcome, Outcome::Written(_))
            && let Some(last) = self.named.pop()
        {
            self.named = vec![last];
        }
        self.heartbeat.finished(now, outcome);
    }

    /// The answer to [`Task::Verify`]: the object or none; or no answer.
    pub fn verified(&mut self, name: &str, answer: Result<Option<Object>, ()>, now: Moment) {
        let Some(asked) = self.verifying.remove(name) else { return };
        self.dirty = true;
        let Ok(object) = answer else { return };
        let record = object.as_ref().map(|object| object.record.clone());
        if let Some(object) = object {
            self.view.put(object, now);
        }
        let (version, holder) = record.map_or((None, None), |record| (Some(record.version), record.holder));
        self.verified.insert(name.to_owned(), Verified { asked, version, holder });
    }

    /// The answer to [`Task::Write`].
    pub fn written(&mut self, address: IpAddr, write: &Write, outcome: &Outcome, now: Moment) {
        let tenure = self.under_way.remove(&address).flatten();
        self.dirty = true;
        match outcome {
            Outcome::Written(version) => {
                let duration = self.settings.terms.duration();
                let (version, holder) = (version.clone(), write.holder.clone());
                let record = Record { version, holder, duration, transitions: write.transitions };
                self.view.put(Object { about: About::Address(address), record, notes: BTreeMap::new() }, now);
                self.not_before.remove(&address);
                if write.change == Change::Take
                    && let Some(since) = tenure.filter(|since| self.tenure(now).is_some_and(|now| now.since == *since))
                {
                    self.mine.insert(address, since);
                    self.transitions.0 += 1;
                    self.check_mine();
                }
            }
            // The watch will say what is there.
            _ => drop(self.not_before.insert(address, now + self.settings.terms.retry() / 2)),
        }
    }

    /// The answer to [`Task::Delete`].
    pub fn deleted(&mut self, address: IpAddr, version: String, done: bool, now: Moment) {
        self.under_way.remove(&address);
        self.dirty = true;
        if done {
            self.view.see(Seen::Gone(About::Address(address), version), now);
        } else {
            self.not_before.insert(address, now + self.settings.terms.retry());
        }
    }

    /// The answer to [`Task::Term`]: what keeps the dataplane from serving (nothing: it is fit), or why there is none.
    pub fn termed(&mut self, answer: Result<Vec<String>, String>) {
        let Some(term) = self.term_under_way.take() else { return };
        let dataplane = match answer {
            Ok(problems) => {
                self.dirty |= !self.giving.is_empty() || self.exposed.len() > 1;
                self.exposed = vec![term];
                self.answers = true;
                if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
            }
            Err(why) => {
                // It may have been taken, and the one before may be in force.
                self.exposed.push(term);
                self.term_told = None;
                self.answers = false;
                Err(why)
            }
        };
        self.dirty |= self.dataplane.is_ok() != dataplane.is_ok();
        self.dataplane = dataplane;
    }

    /// A peer has promised, in answer to this question.
    pub fn promised(&mut self, of: &str, number: u64, now: Moment) {
        let Some((_, asked)) = self.questions.remove(&number).filter(|(identity, _)| identity == of) else { return };
        let promise = self.promises.entry(of.to_owned()).or_insert(asked);
        *promise = (*promise).max(asked);
        self.outlast(now);
    }

    /// A peer asks for a promise that we take nothing over from it, as long as its Lease would last. Given only by who is cut
    /// off as well: who is not is the better owner.
    #[must_use]
    pub fn asked(&mut self, from: &str, now: Moment) -> bool {
        let Some(duration) = self
            .view
            .member_of(from)
            .filter(|member| member.record.holder.as_deref() == Some(from))
            .map(|member| member.record.duration)
            .filter(|_| self.is_cut_off(now))
        else {
            return false;
        };
        self.promised.insert(from.to_owned(), now + duration);
        true
    }

    // --- What it says ------------------------------------------------------------------------------------------------

    /// What to do now, and when to ask again if nothing happens before.
    pub fn step(&mut self, now: Moment) -> (Vec<Task>, Moment) {
        let mut tasks = Vec::new();
        let mut wake = now + Terms::LONGEST;
        match self.heartbeat.step(now) {
            step @ (Step::Read | Step::Write(_)) => {
                let notes = self.notes(now);
                if matches!(step, Step::Write(_)) {
                    self.named.push(notes.members.clone());
                }
                tasks.push(Task::Heartbeat(step, notes));
            }
            Step::WaitUntil(at) => wake = wake.min(at),
            Step::WaitForAnswer => {}
        }
        self.ask(now, &mut tasks, &mut wake);
        let since = self.tenure(now).map(|tenure| tenure.since);
        if self.tenure_since != since {
            self.tenure_since = since;
            self.dirty = true;
            self.mine.retain(|_, confirmed| Some(*confirmed) == since);
        }
        if let Some(tenure) = self.tenure(now) {
            wake = wake.min(tenure.until);
        }
        if self.seen_changes != self.view.changes {
            self.seen_changes = self.view.changes;
            self.dirty = true;
        }
        if std::mem::take(&mut self.dirty) || now >= self.next_plan {
            self.next_plan = self.plan(now, &mut tasks);
        }
        wake = wake.min(self.next_plan);
        self.term(now, &mut tasks, &mut wake);
        (tasks, wake)
    }

    /// Whether it has stopped: nothing is its any more, as far as it could be said.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.heartbeat.is_released()
    }

    /// What it sees.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Its identity.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.heartbeat.me()
    }

    /// What it may do now, if anything.
    #[must_use]
    pub fn tenure(&self, now: Moment) -> Option<Tenure> {
        self.heartbeat.tenure(now)
    }

    /// What is there to be announced.
    #[must_use]
    pub fn wanted(&self) -> Option<&BTreeSet<IpAddr>> {
        self.wanted.as_ref()
    }

    /// What it announces now.
    #[must_use]
    pub fn announced(&self, now: Moment) -> BTreeSet<IpAddr> {
        let Some(tenure) = self.tenure(now) else { return BTreeSet::new() };
        let mine =
            self.mine.iter().filter(|(address, since)| **since == tenure.since && !self.giving.contains(address));
        mine.map(|(address, _)| *address).collect()
    }

    /// Addresses taken, and given or lost, since the start.
    #[must_use]
    pub fn transitions(&self) -> (u64, u64) {
        self.transitions
    }

    /// Whether it outlasts its Lease on its peers' promises.
    #[must_use]
    pub fn is_outlasting(&self, now: Moment) -> bool {
        let lease = self.heartbeat.confirmed().map(|sent| sent + self.settings.terms.deadline());
        self.tenure(now).is_some() && lease.is_some_and(|until| until <= now)
    }

    /// Why it takes nothing now, if it does not.
    ///
    /// # Errors
    /// The reason.
    pub fn ready(&self) -> Result<(), String> {
        if self.stopping {
            return Err("it is stopping".to_owned());
        }
        if let Some(why) = &self.excluded {
            return Err(why.clone());
        }
        if self.wanted.is_none() {
            return Err("its dataplane runs no program of ours yet".to_owned());
        }
        self.dataplane.clone()
    }

    // --- How it comes to it ------------------------------------------------------------------------------------------

    fn notes(&self, now: Moment) -> Notes {
        let others = self.view.members.iter().filter(|(name, _)| **name != self.name);
        let alive = others.filter(|(_, member)| self.view.is_alive(member, now));
        Notes {
            ready: self.ready(),
            members: alive.filter_map(|(_, member)| member.record.holder.clone()).collect(),
            keeps: if self.peer.is_some() { self.settings.outage } else { Duration::ZERO },
            peer: self.peer.clone(),
        }
    }

    /// What was confirmed and is another's by now, against the rules: somebody has edited the Lease. It is so, then.
    fn check_mine(&mut self) {
        let (claims, me, before) = (&self.view.claims, self.heartbeat.me(), self.mine.len());
        self.mine
            .retain(|address, _| claims.get(address).is_some_and(|claim| claim.record.holder.as_deref() == Some(me)));
        let lost = before - self.mine.len();
        self.transitions.1 += lost as u64;
        self.dirty |= lost > 0;
    }

    /// The API server has not confirmed anything for longer than it should take.
    fn is_cut_off(&self, now: Moment) -> bool {
        let retry = self.settings.terms.retry();
        self.heartbeat.confirmed().is_none_or(|sent| now.since(sent) > retry + retry / 2)
    }

    fn named(&self) -> BTreeSet<&String> {
        self.named.iter().flatten().collect()
    }

    /// Asks for promises while it is cut off.
    fn ask(&mut self, now: Moment, tasks: &mut Vec<Task>, wake: &mut Moment) {
        if self.peer.is_none() || self.stopping || !self.is_cut_off(now) || self.tenure(now).is_none() {
            if let Some(sent) = self.heartbeat.confirmed().filter(|_| self.tenure(now).is_some()) {
                let retry = self.settings.terms.retry();
                *wake = (*wake).min((sent + retry + retry / 2 + Duration::from_millis(1)).max(now + retry / 4));
            }
            return;
        }
        if now < self.next_ask {
            *wake = (*wake).min(self.next_ask);
            return;
        }
        self.next_ask = now + self.settings.terms.retry() / 2;
        *wake = (*wake).min(self.next_ask);
        let horizon = self.settings.terms.duration();
        self.questions.retain(|_, (_, asked)| now.since(*asked) < horizon);
        let named: Vec<String> = self.named().into_iter().cloned().collect();
        for of in named {
            let peer = self.view.member_of(&of).filter(|member| member.record.holder.as_ref() == Some(&of));
            let Some(peer) = peer.and_then(|member| member.notes.peer.clone()) else { continue };
            self.next_question += 1;
            self.questions.insert(self.next_question, (of.clone(), now));
            tasks.push(Task::Ask(Ask { of, peer, number: self.next_question }));
        }
        self.outlast(now);
    }

    /// Counts what peers have promised: as long as the promise that was asked for first holds, and no longer than the limit.
    fn outlast(&mut self, now: Moment) {
        let Some(confirmed) = self.heartbeat.confirmed().filter(|_| self.peer.is_some() && !self.stopping) else {
            return;
        };
        if !self.is_cut_off(now) {
            return;
        }
        let mut first = now;
        for of in self.named() {
            match self.promises.get(of) {
                Some(asked) => first = first.min(*asked),
                None => return,
            }
        }
        let until = (first + self.settings.terms.deadline()).min(confirmed + self.settings.outage);
        self.heartbeat.extend(until, now);
    }

    fn candidates(&self, now: Moment, ready: bool) -> Vec<(String, Moment)> {
        let alive = self.view.members.iter().filter(|(name, member)| {
            **name != self.name && member.notes.ready.is_ok() && self.view.is_alive(member, now)
        });
        let mut candidates: Vec<(String, Moment)> =
            alive.map(|(name, member)| (name.clone(), member.ready_since.unwrap_or(now))).collect();
        if ready {
            candidates.push((self.name.clone(), Moment::default()));
        }
        candidates
    }

    /// Decides for every address. Returns when to do so again if nothing happens.
    fn plan(&mut self, now: Moment, tasks: &mut Vec<Task>) -> Moment {
        let mut next = now + Terms::LONGEST;
        let tenure = self.tenure(now);
        let ready = self.ready().is_ok() && tenure.is_some();
        let candidates = self.candidates(now, ready);
        for member in self.view.members.values().filter(|member| self.view.is_alive(member, now)) {
            let contact = self.view.contact().unwrap_or(now);
            next = next.min(contact.max(member.since) + member.record.duration);
        }
        let settled = |since: Moment| since + self.settings.settle;
        for (_, since) in candidates.iter().filter(|(_, since)| settled(*since) > now) {
            next = next.min(settled(*since));
        }
        let addresses: BTreeSet<IpAddr> =
            self.view.claims.keys().copied().chain(self.wanted.iter().flatten().copied()).collect();
        self.giving.clear();
        let mut ours = false;
        for address in addresses {
            let claim = self.view.claims.get(&address);
            let holder = claim.and_then(|claim| claim.record.holder.as_deref());
            let held = holder == Some(self.heartbeat.me());
            ours |= held;
            let wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.contains(&address));
            let better = || {
                let others = candidates.iter().filter(|(name, since)| *name == self.name || settled(*since) <= now);
                rank::preferred(address, others.map(|(name, _)| name.as_str())).is_some_and(|name| name != self.name)
            };
            let keeps = held && ready && wanted && !better();
            if held && !keeps {
                self.giving.insert(address);
            }
            if self.under_way.contains_key(&address) || keeps && self.mine.contains_key(&address) {
                continue;
            }
            if let Some(at) = self.not_before.get(&address).filter(|at| **at > now) {
                next = next.min(*at);
                continue;
            }
            if self.under_way.len() >= AT_ONCE {
                continue;
            }
            let decided = if held {
                self.decide_held(address, keeps, wanted, now)
            } else if ready {
                self.decide_other(address, claim, wanted, &candidates, now)
            } else {
                Err(next)
            };
            match decided {
                Ok(task) => {
                    match &task {
                        Task::Verify(name) => {
                            if self.verifying.contains_key(name) {
                                continue;
                            }
                            self.verifying.insert(name.clone(), now);
                        }
                        _ => drop(self.under_way.insert(address, tenure.map(|tenure| tenure.since))),
                    }
                    if !keeps && held && self.mine.remove(&address).is_some() {
                        self.transitions.1 += 1;
                    }
                    tasks.push(task);
                }
                Err(at) => next = next.min(at),
            }
        }
        if self.stopping && !ours && self.under_way.is_empty() && !self.is_exposed_at_all(now) {
            self.heartbeat.release();
            next = next.min(now);
        }
        next
    }

    /// An address whose Lease names us.
    fn decide_held(&self, address: IpAddr, keeps: bool, wanted: bool, now: Moment) -> Result<Task, Moment> {
        let later = now + self.settings.terms.retry();
        let Some(claim) = self.view.claims.get(&address) else { return Err(later) };
        if keeps {
            // From an earlier tenure: in between it could have been anybody's.
            return Ok(Task::Write(address, self.write(Some(claim), Change::Take)));
        }
        if let Some(until) = self.exposure(address, now) {
            return Err(until.min(later));
        }
        if wanted || self.wanted.is_none() || self.stopping {
            return Ok(Task::Write(address, self.write(Some(claim), Change::Release)));
        }
        Ok(Task::Delete(address, claim.record.version.clone()))
    }

    /// An address whose Lease names another or nobody, or that has none.
    fn decide_other(
        &self,
        address: IpAddr,
        claim: Option<&Claim>,
        wanted: bool,
        candidates: &[(String, Moment)],
        now: Moment,
    ) -> Result<Task, Moment> {
        let never = now + Terms::LONGEST;
        let Some(contact) = self.view.contact() else { return Err(never) };
        // Those who start at the same time are seen by then.
        let seen = contact + self.settings.terms.duration();
        if now < seen {
            return Err(seen);
        }
        let free = match claim.and_then(|claim| claim.record.holder.as_deref().map(|holder| (claim, holder))) {
            None => claim.map_or(contact, |claim| claim.since.max(contact)),
            Some((claim, holder)) => match self.is_over(claim, holder, now) {
                Over::Since(since) => since,
                Over::NotBefore(at) => return Err(at.max(now + Duration::from_millis(1))),
                Over::Verify(name) => return Ok(Task::Verify(name)),
            },
        };
        let names = || candidates.iter().map(|(name, _)| name.as_str());
        if wanted {
            let turn = free + STAGGER.saturating_mul(rank::rank(address, &self.name, names()));
            return if now < turn { Err(turn) } else { Ok(Task::Write(address, self.write(claim, Change::Take))) };
        }
        // Left over: by a holder that is no more. One of us is enough.
        let Some(claim) = claim else { return Err(never) };
        if names().min() != Some(&self.name) {
            return Err(never);
        }
        let at = claim.since.max(free) + LEFTOVER;
        if now < at { Err(at) } else { Ok(Task::Delete(address, claim.record.version.clone())) }
    }

    fn write(&self, claim: Option<&Claim>, change: Change) -> Write {
        let record = claim.map(|claim| &claim.record);
        let me = self.heartbeat.me();
        let moves = record.is_some_and(|record| record.holder.as_deref() != Some(me)) && change == Change::Take;
        Write {
            version: record.map(|record| record.version.clone()),
            change,
            holder: (change != Change::Release).then(|| me.to_owned()),
            transitions: record.map_or(0, |record| record.transitions).saturating_add(u32::from(moves)),
        }
    }

    /// Rules 2 and 4.
    fn is_over(&self, claim: &Claim, holder: &str, now: Moment) -> Over {
        if let Some(until) = self.promised.get(holder).filter(|until| **until > now) {
            return Over::NotBefore(*until);
        }
        let name = name_in(holder);
        // When it had been quiet for long enough, and what the API server must say of it since.
        let (quiet_since, version) = match self.view.members.get(name) {
            Some(member) if member.record.holder.as_deref() == Some(holder) => {
                let quiet = self.view.quiet(member, now);
                let outlasts = !member.notes.keeps.is_zero() && !member.notes.members.contains(self.heartbeat.me());
                // 4 % for clocks that drift apart meanwhile.
                let keeps = if outlasts { member.notes.keeps + member.notes.keeps / 25 } else { Duration::ZERO };
                let needed = member.record.duration + keeps;
                if quiet < needed {
                    return Over::NotBefore(now + (needed - quiet));
                }
                (Some((now, quiet - needed)), Some(&member.record.version))
            }
            // Let go, or taken by a later process of the same balancer: over, whoever has it now.
            Some(_) => (None, None),
            None => {
                let (absence, needed) = (self.view.absence(name, now), self.settings.terms.duration());
                if absence < needed {
                    return Over::NotBefore(now + (needed - absence));
                }
                (Some((now, absence - needed)), None)
            }
        };
        let good = self.verified.get(name).filter(|verified| {
            // Read after this claim was, or what the holder wrote in between could be overwritten …
            let after_claim = verified.asked >= claim.since;
            let fits = match quiet_since {
                // … after it had been quiet for long enough, and unchanged.
                Some((at, for_so_long)) => {
                    at.since(verified.asked) <= for_so_long && verified.version.as_ref() == version
                }
                None => verified.holder.as_deref() != Some(holder),
            };
            after_claim && fits
        });
        match good {
            Some(verified) => Over::Since(verified.asked),
            None => Over::Verify(name.to_owned()),
        }
    }

    /// Until when the dataplane may announce it, if it may.
    fn exposure(&self, address: IpAddr, now: Moment) -> Option<Moment> {
        let named = |(addresses, until): &&(BTreeSet<IpAddr>, Moment)| *until > now && addresses.contains(&address);
        self.exposed.iter().chain(&self.term_under_way).filter(named).map(|(_, until)| *until).max()
    }

    fn is_exposed_at_all(&self, now: Moment) -> bool {
        self.exposed.iter().chain(&self.term_under_way).any(|(addresses, until)| *until > now && !addresses.is_empty())
    }

    /// Gives the dataplane what it may announce now. Also when that is nothing: the answer says whether it is fit.
    fn term(&mut self, now: Moment, tasks: &mut Vec<Task>, wake: &mut Moment) {
        if self.term_under_way.is_some() {
            return;
        }
        let addresses = self.announced(now);
        let news = self.term_told.as_ref() != Some(&addresses);
        // What was not answered is tried again at leisure.
        if now < self.next_term && !(news && self.answers) {
            *wake = (*wake).min(self.next_term);
            return;
        }
        let until = self.tenure(now).map_or(Moment::default(), |tenure| tenure.until);
        self.exposed.retain(|(_, until)| *until > now);
        self.term_number += 1;
        self.next_term = now + self.settings.terms.retry();
        self.term_told = Some(addresses.clone());
        self.term_under_way = Some((addresses.clone(), until));
        let (holder, number) = (self.heartbeat.me().to_owned(), self.term_number);
        tasks.push(Task::Term(Term { holder, number, until: until.millis(), addresses }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
