//! Packets that cannot be decided on by their own headers: ICMP errors, which are about another packet, and fragments, which
//! are parts of one.
//!
//! ```text
//!   error ──► what does it quote? ──► decide_error ──► a flow's, here ──► translated, inside and outside
//!                                                  ├─► another worker's ──► its inbox
//!                                                  └─► anybody's ──► the next worker's inbox, once round
//!
//!   fragment ──► its keeper's inbox (by the client's address) ──► first? ── decided on as a whole packet; course noted
//!                                                            └─► later? ── the course of its first, or waits for it
//!                a course may lead on to the inbox of the worker that owns the flow
//! ```
//!
//! All that is cold: ordinary packets pay one compare for it. Queues between workers keep their order, so that a first fragment
//! that was handed over is there before the others.

use super::{Bench, Lane, Message};
use af_xdp::Frame;

use super::waiting::Wait;
use crate::classify::{Class, Plain, classify, classify_first};
use crate::decide::{Decision, Scene, Search, decide, decide_about_tunnel, decide_error, fits_in_tunnel, keeper};
use crate::flows::Millis;
use crate::fragments::{Begins, Course, Datagram, Follows};
use crate::headers::{Fragment, Headers, Ip, Network, Piece, Quote};
use crate::parse::{self, parse};
use crate::port::Port;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::verdict::{PortId, Rewrite, Verdict};

/// What is rewritten besides a packet's own headers.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// Nothing.
    Ordinary,
    /// An ICMP error: the packet that it quotes.
    Error(&'a Quote),
    /// A fragment: its identification, if its source address changes.
    Fragment(&'a Piece, u32),
}

/// How many workers have been asked for the flow that an ICMP error is about, and how many are left.
#[derive(Clone, Copy)]
struct Asked {
    before: usize,
    left: usize,
}

impl Bench {
    /// From the class to the end.
    #[cold]
    #[inline(never)]
    pub(super) fn special<P: Port>(
        &mut self,
        frame: Frame,
        headers: &Headers,
        class: &Class,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        match (class, &headers.network) {
            (Class::Error(plain), _) => {
                let left = self.shared.workers().saturating_sub(1);
                self.error(frame, headers, plain, scene, Asked { before: 0, left }, lanes);
            }
            (Class::Fragment, Network::Ip(ip)) => match keeper(ip, scene.tables) {
                keeper if keeper == self.worker => self.fragment(frame, headers, ip, scene, lanes),
                keeper => self.hand_over(keeper, Message::Fragment(scene.ingress, frame)),
            },
            _ => self.drop(frame, Reason::NotForwardable),
        }
    }

    /// An ICMP error whose flow the workers before have not had.
    pub(super) fn seek<P: Port>(
        &mut self,
        frame: Frame,
        ingress: PortId,
        left: usize,
        tables: &Tables,
        now: Millis,
        lanes: &mut [Lane<P>],
    ) {
        let scene = Scene { tables, ingress, worker: self.worker, now };
        match parse(self.umem.bytes(&frame)) {
            Ok(headers) => match classify(&headers, tables, ingress) {
                Class::Error(plain) => self.error(frame, &headers, &plain, &scene, Asked { before: 1, left }, lanes),
                // The tables have changed since.
                _ => self.conclude(frame, &headers, ingress, tables, now, lanes),
            },
            Err(reason) => self.drop(frame, reason),
        }
    }

    fn error<P: Port>(
        &mut self,
        frame: Frame,
        headers: &Headers,
        plain: &Plain,
        scene: &Scene<'_>,
        asked: Asked,
        lanes: &mut [Lane<P>],
    ) {
        let quote = match parse::quote(headers, self.umem.bytes(&frame)) {
            Ok(quote) => quote,
            Err(reason) => return self.drop(frame, reason),
        };
        let is_right = || parse::is_right(headers, self.umem.bytes(&frame));
        if let Some(decision) = decide_about_tunnel(&quote, headers, scene, &mut self.memory, is_right) {
            return self.follow(decision, frame, headers, Kind::Error(&quote), scene, lanes);
        }
        let search = Search { first: asked.before == 0, last: asked.left == 0 };
        let decision = decide_error(plain, &quote, headers, scene, &mut self.memory, search);
        // Summed up once, of what goes on: who asked before has done it.
        let ends = matches!(decision, Decision::Ends(Verdict::Drop(_)));
        if !ends && search.first && !parse::is_right(headers, self.umem.bytes(&frame)) {
            return self.drop(frame, Reason::IcmpMalformed);
        }
        match decision {
            Decision::Seek => {
                let next = (self.worker + 1) % self.shared.workers().max(1);
                self.hand_over(next, Message::Seek(scene.ingress, frame, asked.left.saturating_sub(1)));
            }
            decision => {
                let decision = self.fit(decision, headers, scene);
                self.follow(decision, frame, headers, Kind::Error(&quote), scene, lanes);
            }
        }
    }

    /// What is wrapped must fit then, also if it is no packet whose sender can be told.
    fn fit(&mut self, decision: Decision, headers: &Headers, scene: &Scene<'_>) -> Decision {
        match &headers.network {
            Network::Ip(ip) => fits_in_tunnel(decision, headers, ip, scene, &mut self.memory),
            _ => decision,
        }
    }

    /// A fragment that another worker has handed over: it is for this one to keep, or of a flow of this one.
    pub(super) fn keep<P: Port>(
        &mut self,
        frame: Frame,
        ingress: PortId,
        tables: &Tables,
        now: Millis,
        lanes: &mut [Lane<P>],
    ) {
        let scene = Scene { tables, ingress, worker: self.worker, now };
        match parse(self.umem.bytes(&frame)) {
            Ok(headers) => match (classify(&headers, tables, ingress), &headers.network) {
                (Class::Fragment, Network::Ip(ip)) => self.fragment(frame, &headers, ip, &scene, lanes),
                // The tables have changed since.
                _ => self.conclude(frame, &headers, ingress, tables, now, lanes),
            },
            Err(reason) => self.drop(frame, reason),
        }
    }

    fn fragment<P: Port>(
        &mut self,
        frame: Frame,
        headers: &Headers,
        ip: &Ip,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let piece = match parse::piece(headers, self.umem.bytes(&frame)) {
            Ok(piece) => piece,
            Err(reason) => return self.drop(frame, reason),
        };
        let datagram = Datagram::of(ip, &piece);
        if ip.fragment == Fragment::First {
            return self.first(frame, headers, &datagram, &piece, scene, lanes);
        }
        match self.fragments.follow(&datagram, &piece, scene.now) {
            Follows::Course(course) => self.go(course, frame, headers, &piece, scene, lanes),
            Follows::Drop(reason) => self.drop(frame, reason),
            Follows::Unknown => {
                if let Wait::Full(frame) = self.orphans.add(frame, scene.ingress, datagram, scene.now) {
                    self.drop(frame, Reason::FragmentQueueFull);
                }
            }
        }
    }

    /// A first fragment: what is decided for it is so for all.
    fn first<P: Port>(
        &mut self,
        frame: Frame,
        headers: &Headers,
        datagram: &Datagram,
        piece: &Piece,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let decision = match classify_first(headers, scene.tables, scene.ingress) {
            // No router makes an error so long that it must be fragmented (RFC 1812, 4.3.2.3).
            Class::Error(_) => Decision::Ends(Verdict::Drop(Reason::IcmpMalformed)),
            // The others would have to be turned round as well: memory for each, to tell somebody what a short ping tells him.
            Class::Ping => Decision::Ends(Verdict::Drop(Reason::VipPingFragment)),
            class => decide(&class, headers, scene, &mut self.memory),
        };
        let course = match decision {
            Decision::Ends(Verdict::Forward(port, rewrite)) => {
                Some(Course::Forward(port, rewrite, self.identification(headers, &rewrite)))
            }
            Decision::Ends(Verdict::Wrap(port, rewrite, outer)) => {
                Some(Course::Wrap(port, rewrite, outer, self.identification(headers, &rewrite)))
            }
            Decision::Ends(Verdict::Pass) => Some(Course::Pass),
            Decision::Ends(Verdict::Drop(reason)) => Some(Course::Drop(reason)),
            // The answer is about all of it.
            Decision::Ends(Verdict::Hairpin(_)) => Some(Course::Drop(Reason::NoReplyAllowed)),
            Decision::HandOver(worker) => Some(Course::Worker(worker)),
            // It comes again when its next hop is known.
            Decision::Awaits(_) | Decision::Seek | Decision::Unwrap(_) => None,
        };
        let Some(course) = course else {
            return self.follow(decision, frame, headers, Kind::Ordinary, scene, lanes);
        };
        match (self.fragments.begin(*datagram, piece, course, scene.now), decision) {
            (Begins::Drop(reason), _) => self.drop(frame, reason),
            (Begins::Course(_), Decision::Ends(Verdict::Hairpin(_))) => {
                self.follow(decision, frame, headers, Kind::Ordinary, scene, lanes);
            }
            (Begins::Course(course), _) => self.go(course, frame, headers, piece, scene, lanes),
        }
        self.reunite(datagram, scene, lanes);
    }

    /// Those that came before their first one.
    fn reunite<P: Port>(&mut self, datagram: &Datagram, scene: &Scene<'_>, lanes: &mut [Lane<P>]) {
        if self.orphans.len() == 0 {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        self.orphans.release(|waits_for| waits_for == datagram, &mut found);
        for (ingress, frame) in found.drain(..) {
            self.keep(frame, ingress, scene.tables, scene.now, lanes);
        }
        self.found = found;
    }

    fn go<P: Port>(
        &mut self,
        course: Course,
        frame: Frame,
        headers: &Headers,
        piece: &Piece,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let (verdict, identification) = match course {
            Course::Forward(port, rewrite, identification) => (Verdict::Forward(port, rewrite), identification),
            Course::Wrap(port, rewrite, outer, identification) => (Verdict::Wrap(port, rewrite, outer), identification),
            Course::Pass => (Verdict::Pass, 0),
            Course::Drop(reason) => (Verdict::Drop(reason), 0),
            Course::Worker(worker) => return self.hand_over(worker, Message::Fragment(scene.ingress, frame)),
        };
        let decision = self.fit(Decision::Ends(verdict), headers, scene);
        self.follow(decision, frame, headers, Kind::Fragment(piece, identification), scene, lanes);
    }

    /// One for all fragments of a datagram.
    fn identification(&mut self, headers: &Headers, rewrite: &Rewrite) -> u32 {
        if rewrite.source.is_some() { self.identifications.next(super::recipient(headers, rewrite)) } else { 0 }
    }
}
