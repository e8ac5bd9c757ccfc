//! Frames as they are written: rewritten in place, turned round, wrapped and unwrapped.
//!
//! Everything that changes bytes is in `rewrite`; here is what it is given, and where the frame begins and ends afterwards.

use af_xdp::Frame;

use super::special::Kind;
use super::{Bench, Lane, look_again, recipient};
use crate::counters::Counter;
use crate::decide::Scene;
use crate::headers::{Headers, Network};
use crate::parse::tunnelled;
use crate::port::Port;
use crate::reason::Reason;
use crate::rewrite::{self, Groups, PacketBuf};
use crate::tables::Hop;
use crate::tables::tunnel::INSIDE;
use crate::verdict::{Outer, PortId, Reply, Rewrite};

impl Bench {
    /// Turns a frame into its own answer, and says which way it goes: back where the frame came in; or, if it came through a
    /// tunnel, straight to its sender, like everything that is said to it.
    pub(super) fn turn_round(
        &self,
        reply: &Reply,
        frame: &mut Frame,
        headers: &Headers,
        scene: &Scene<'_>,
    ) -> Result<PortId, Reason> {
        let way = match (&headers.network, scene.ingress) {
            (Network::Ip(ip), PortId::TUNNEL) => match scene.tables.hop(ip.source) {
                Hop::To(port, mac) => Some((port, mac)),
                Hop::Unresolved(_) => return Err(Reason::NextHopUnresolved),
                Hop::Kernel | Hop::Broadcast | Hop::NoRoute => return Err(Reason::NoRoute),
            },
            _ => None,
        };
        let port = way.map_or(scene.ingress, |(port, _)| port);
        self.reshape(frame, |packet| {
            rewrite::reply(headers, reply, packet)?;
            if let Some((_, mac)) = way {
                let source = scene.tables.port(port).ok_or(Reason::NoRoute)?.mac;
                rewrite::address(packet.frame_mut(), mac, source)?;
            }
            look_again(packet.frame(), port, scene.tables, Groups::Refused)
        })?;
        Ok(port)
    }

    /// Writes into a frame what was decided.
    #[inline(always)]
    pub(super) fn rewrite(
        &mut self,
        rewrite: &Rewrite,
        frame: &mut Frame,
        headers: &Headers,
        kind: Kind<'_>,
        mss_clamp: u16,
    ) -> Result<(), Reason> {
        let bytes = self.umem.bytes_mut(frame);
        // A sender on this host, a pod behind a bridge or a node in a container, may have left its checksum to hardware that
        // the frame never meets; what is sent by AF_XDP must have it.
        rewrite::complete(headers, bytes)?;
        match kind {
            Kind::Error(quote) => rewrite::error(headers, quote, rewrite, bytes)?,
            _ => rewrite::forward(headers, rewrite, bytes)?,
        }
        if mss_clamp != 0 && rewrite.decrement_ttl {
            rewrite::clamp(headers, mss_clamp, bytes)?;
        }
        match (rewrite.source, kind) {
            (None, _) => Ok(()),
            (_, Kind::Fragment(piece, as_decided)) => rewrite::identify(headers, Some(piece), bytes, || as_decided),
            _ => rewrite::identify(headers, None, bytes, || self.identifications.next(recipient(headers, rewrite))),
        }
    }

    /// Rewrites a frame and puts its packet into another one.
    pub(super) fn wrap(
        &mut self,
        (port, rewrite, outer): (PortId, &Rewrite, &Outer),
        frame: &mut Frame,
        headers: &Headers,
        kind: Kind<'_>,
        scene: &Scene<'_>,
    ) -> Result<(), Reason> {
        self.rewrite(rewrite, frame, headers, kind, scene.tables.mss_clamp)?;
        self.reshape(frame, |packet| {
            rewrite::wrap(headers, outer, packet)?;
            look_again(packet.frame(), port, scene.tables, Groups::Refused)
        })
    }

    /// Makes a frame of what a tunnel's packet carries, and begins again with that. What comes out is never unwrapped again:
    /// `classify` knows no tunnel inside of one.
    pub(super) fn unwrap<P: Port>(
        &mut self,
        tunnel: u8,
        mut frame: Frame,
        headers: &Headers,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let unwrapped = scene.tables.tunnels.get(usize::from(tunnel)).ok_or(Reason::NoTunnel).and_then(|tunnel| {
            let carried = tunnelled(headers, self.umem.bytes(&frame), tunnel.kind, tunnel.network)?;
            self.reshape(&mut frame, |packet| rewrite::unwrap(&carried, INSIDE, INSIDE, packet))
        });
        match unwrapped {
            Ok(()) => {
                self.counters.add(Counter::Unwrapped, 1);
                self.process(frame, PortId::TUNNEL, scene.tables, scene.now, lanes);
            }
            Err(reason) => self.drop(frame, reason),
        }
    }

    /// Changes a frame that may begin or end elsewhere afterwards.
    fn reshape(
        &self,
        frame: &mut Frame,
        change: impl FnOnce(&mut PacketBuf<'_>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let (start, length) = (frame.start(), frame.len());
        let mut packet = PacketBuf::new(self.umem.chunk_mut(frame), start, length).ok_or(Reason::Runt)?;
        change(&mut packet)?;
        let (start, length) = (packet.start(), packet.len());
        frame.set_range(start, length).map_err(|_| Reason::Giant)
    }
}
