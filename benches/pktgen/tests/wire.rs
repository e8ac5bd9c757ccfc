//! What the generator sends, as it is found at the other end of a wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use levee_api::net::{Mac, Protocol};
use levee_pktgen::{Config, Error, Generator, Received, Receiver, STAMP_MAGIC, Sent, Sizes, Traffic};
use levee_tests::{Captured, Lab, Namespace, Tap};

const MACS: (Mac, Mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));

/// Two namespaces and a wire, `g0` at one end and `s0` at the other.
struct Wire {
    source: Namespace,
    sink: Namespace,
    _lab: Lab,
}

impl Wire {
    fn build() -> Option<Wire> {
        let lab = Lab::start()?;
        let (source, sink) = (lab.namespace("source"), lab.namespace("sink"));
        source.ip(&format!("link add g0 type veth peer name s0 netns {}", sink.name()));
        source.ip("link set g0 up");
        sink.ip("link set s0 up");
        // Without it, or an XDP program here, a veth takes no XDP frames.
        sink.run("ethtool -K s0 gro on");
        Some(Wire { source, sink, _lab: lab })
    }

    /// Sends all of it, to a receiver that does nothing else.
    fn count(&self, config: Config) -> (Sent, Received) {
        let receiver = self.sink.enter(|| Receiver::attach("s0")).unwrap();
        let sent = self.source.enter(|| Generator::new(config)?.start()?.wait()).unwrap();
        // What has left is there: the wire's other end is served before the call returns, or soon after.
        let arrived = || receiver.received().unwrap();
        for _ in 0..100 {
            if arrived().frames >= sent.frames {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        (sent, arrived())
    }

    /// Sends all of it, to a tap.
    fn hear(&self, config: Config) -> (Sent, Vec<Captured>) {
        let tap = Tap::start(&self.sink);
        let sent = self.source.enter(|| Generator::new(config)?.start()?.wait()).unwrap();
        let mine = |frames: Vec<Captured>| {
            frames.into_iter().filter(|frame| frame.bytes.get(6..12) == Some(&MACS.0.0)).collect::<Vec<_>>()
        };
        let mut heard = Vec::new();
        for _ in 0..100 {
            heard = mine(tap.frames());
            if heard.len() as u64 >= sent.frames {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        (sent, heard)
    }
}

fn config(traffic: Traffic) -> Config {
    Config { catch_up: Duration::from_secs(10), ..Config::new("g0", MACS, traffic) }
}

fn four(protocol: Protocol) -> Traffic {
    Traffic { protocol, ..Traffic::tcp("198.18.0.0/15".parse().unwrap(), "10.96.0.1:80".parse().unwrap()) }
}

fn six(protocol: Protocol) -> Traffic {
    Traffic { protocol, ..Traffic::tcp("2001:2::/48".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()) }
}

/// Who a frame is from, as a parser that is not ours reads it, its checksums checked.
fn client(bytes: &[u8]) -> (IpAddr, u16, IpAddr) {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let (from, to) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "{bytes:02x?}");
            (IpAddr::from(header.source), IpAddr::from(header.destination))
        }
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        other => panic!("{other:?}"),
    };
    let payload = |payload: &[u8]| payload.to_vec();
    let (port, found, right) = match (packet.transport.as_ref().unwrap(), from, to) {
        (TransportSlice::Tcp(tcp), IpAddr::V4(from), IpAddr::V4(to)) => (
            tcp.source_port(),
            tcp.checksum(),
            tcp.to_header().calc_checksum_ipv4_raw(from.octets(), to.octets(), &payload(tcp.payload())).unwrap(),
        ),
        (TransportSlice::Tcp(tcp), IpAddr::V6(from), IpAddr::V6(to)) => (
            tcp.source_port(),
            tcp.checksum(),
            tcp.to_header().calc_checksum_ipv6_raw(from.octets(), to.octets(), &payload(tcp.payload())).unwrap(),
        ),
        (TransportSlice::Udp(udp), IpAddr::V4(from), IpAddr::V4(to)) => (
            udp.source_port(),
            udp.checksum(),
            udp.to_header().calc_checksum_ipv4_raw(from.octets(), to.octets(), &payload(udp.payload())).unwrap(),
        ),
        (TransportSlice::Udp(udp), IpAddr::V6(from), IpAddr::V6(to)) => (
            udp.source_port(),
            udp.checksum(),
            udp.to_header().calc_checksum_ipv6_raw(from.octets(), to.octets(), &payload(udp.payload())).unwrap(),
        ),
        (other, ..) => panic!("{other:?}"),
    };
    assert_eq!(found, right, "checksum of {bytes:02x?}");
    (from, port, to)
}

#[test]
fn as_many_arrive_as_were_sent() {
    let Some(wire) = Wire::build() else { return };
    // More than one system call's worth, and paced, so that no ring overflows however busy the machine is.
    let paced =
        Config { rate: Some(100_000.0), frames: Some(50_000), catch_up: Duration::ZERO, ..config(four(Protocol::Tcp)) };
    let (sent, received) = wire.count(paced);
    assert_eq!((sent.frames, sent.bytes), (50_000, 50_000 * 64));
    assert_eq!((received.frames, received.bytes), (sent.frames, sent.bytes));
    let unpaced = Config { frames: Some(300_000), ..config(four(Protocol::Udp)) };
    let (sent, received) = wire.count(unpaced);
    assert_eq!(sent.frames, 300_000);
    assert_eq!(received.frames, sent.frames, "the wire's other end is served on the generator's own core");
    assert_eq!(received.segments, 0);
}

#[test]
fn the_part_of_syns_is_right_and_sizes_are() {
    let Some(wire) = Wire::build() else { return };
    let sizes = [(64, 7), (594, 4), (1518, 1)];
    let mixed = Config {
        syn: 0.3,
        beginning: 5000..6000,
        sizes: Sizes::mix(sizes),
        rate: Some(50_000.0),
        frames: Some(20_000),
        ..config(four(Protocol::Tcp))
    };
    let (sent, received) = wire.count(mixed);
    assert_eq!((received.frames, received.bytes, received.syns), (sent.frames, sent.bytes, sent.begun));
    assert_eq!(received.segments, sent.frames);
    assert!(sent.begun.abs_diff(6000) <= 20, "{} of 20,000 frames are SYNs, where 30 % were asked for", sent.begun);
    let mean = sent.bytes as f64 / sent.frames as f64;
    let right = sizes.iter().map(|(bytes, weight)| f64::from(bytes * weight)).sum::<f64>() / 12.0;
    assert!((mean / right - 1.0).abs() < 0.005, "frames have {mean} bytes in the mean, not {right}");
}

#[test]
fn each_frame_is_right_and_flows_are_distinct() {
    let Some(wire) = Wire::build() else { return };
    let traffic = vec![four(Protocol::Tcp), six(Protocol::Tcp), four(Protocol::Udp), six(Protocol::Udp)];
    for sizes in [Sizes::fixed(64), Sizes::imix()] {
        let config = Config {
            traffic: traffic.clone(),
            established: 0..300,
            beginning: 1000..1100,
            syn: 0.25,
            sizes,
            rate: Some(20_000.0),
            frames: Some(3_600),
            stamp_every: 10,
            ..config(four(Protocol::Tcp))
        };
        let (sent, heard) = wire.hear(config);
        assert_eq!(heard.len() as u64, sent.frames);
        let mut flows: BTreeMap<(IpAddr, u8), BTreeSet<(IpAddr, u16)>> = BTreeMap::new();
        let mut stamps = Vec::new();
        for frame in &heard {
            let (from, port, to) = client(&frame.bytes);
            let protocol = if to.is_ipv4() { frame.bytes[23] } else { frame.bytes[20] };
            flows.entry((to, protocol)).or_default().insert((from, port));
            if let Some(at) = frame.bytes.windows(4).position(|bytes| bytes == STAMP_MAGIC) {
                stamps.push(u32::from_be_bytes(frame.bytes[at + 4..at + 8].try_into().unwrap()));
            }
        }
        assert_eq!(flows.len(), 4);
        // Of each traffic 675 frames of 300 flows, and 225 of 100 that begin.
        for (to, flows) in flows {
            assert_eq!(flows.len(), 400, "clients of {to:?}");
        }
        assert_eq!(stamps, (0..sent.stamps as u32).collect::<Vec<_>>());
        assert!(sent.stamps.abs_diff(360) <= 2, "{} stamps in 3,600 frames", sent.stamps);
    }
}

#[test]
fn many_servers_take_turns() {
    let Some(wire) = Wire::build() else { return };
    let traffic = Traffic { servers: 700, ..four(Protocol::Tcp) };
    let config = Config { rate: Some(20_000.0), frames: Some(1_400), established: 0..1_400, ..config(traffic) };
    let (_, heard) = wire.hear(config);
    let mut servers: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for frame in &heard {
        *servers.entry(client(&frame.bytes).2).or_default() += 1;
    }
    assert_eq!(servers.len(), 700);
    assert!(servers.values().all(|times| *times == 2), "{servers:?}");
    assert_eq!(servers.keys().next_back().unwrap().to_string(), "10.96.2.188");
}

#[test]
fn pace_is_right_in_the_mean() {
    let Some(wire) = Wire::build() else { return };
    for rate in [1_000.0, 10_000.0, 50_000.0] {
        let frames = (rate * 2.0) as u64;
        // What a busy machine takes away is made good: the mean is what is asked for here.
        let (sent, _) = wire.count(Config { rate: Some(rate), frames: Some(frames), ..config(four(Protocol::Tcp)) });
        assert_eq!(sent.frames, frames);
        assert!(
            (sent.rate() / rate - 1.0).abs() < 0.05,
            "{} frames a second, where {rate} were asked for",
            sent.rate()
        );
    }
}

#[test]
fn stamped_frames_are_timed() {
    let Some(wire) = Wire::build() else { return };
    let timed = Config { stamp_every: 4, rate: Some(10_000.0), frames: Some(10_000), ..config(four(Protocol::Udp)) };
    let (sent, received) = wire.count(timed);
    assert_eq!((received.stamps, received.latency.samples()), (sent.stamps, sent.stamps));
    assert!(sent.stamps.abs_diff(2_500) <= 3, "{}", sent.stamps);
    // A wire alone: less than a microsecond when the machine is idle, and no more than a time slice or two when it is not.
    let median = received.latency.quantile(0.5).unwrap();
    assert!(median > Duration::from_nanos(20) && median < Duration::from_millis(1), "{median:?}");
    assert!(received.latency.quantile(0.99).unwrap() >= median);
}

#[test]
fn a_stream_ends_when_it_is_told_to_or_when_its_time_is_over() {
    let Some(wire) = Wire::build() else { return };
    let _receiver = wire.sink.enter(|| Receiver::attach("s0")).unwrap();
    let stream = wire.source.enter(|| Generator::new(config(four(Protocol::Tcp)))?.start()).unwrap();
    while stream.sent().unwrap().frames < 100_000 {
        assert!(stream.age() < Duration::from_secs(20), "{:?}", stream.sent());
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = stream.stop().unwrap();
    assert!(sent.frames >= 100_000 && sent.rate() > 0.0);
    let short =
        Config { rate: Some(5_000.0), duration: Some(Duration::from_millis(700)), ..config(four(Protocol::Tcp)) };
    let sent = wire.source.enter(|| Generator::new(short)?.start()?.wait()).unwrap();
    let time = sent.time().as_secs_f64();
    assert!((0.65..3.0).contains(&time), "{time} s, where 0.7 were asked for");
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let Some(wire) = Wire::build() else { return };
    let nowhere = Config { interface: "g9".into(), ..config(four(Protocol::Tcp)) };
    let error = wire.source.enter(|| Generator::new(nowhere).err()).expect("there is no g9");
    assert!(matches!(error, Error::Kernel(_)) && error.to_string().contains("g9"), "{error}");
}
