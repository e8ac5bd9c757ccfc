//! Fragments beside Linux: the same ones on the same path, once through levee and once through the kernel's own NAT, which puts every
//! datagram together before it looks at it. What arrives at a real socket is the same datagrams, byte by byte; where it is not, the
//! table says why.
//!
//! They are sent as frames out of the client's interface, and then as answers out of the backend's, over routers that forward each
//! as it is. Behind each lot a datagram in one piece says that nothing more will come: order is kept by all on the way.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, UdpHeader};
use levee_api::net::{Family, Mac, Protocol};
use levee_api::program::Mode;
use levee_tests::Namespace;
use levee_tests::dual::of;
use levee_tests::inject::Injector;
use levee_tests::path::balanced::Balanced;
use levee_tests::path::{BACKEND, CLIENT, Path, VIP, kernel};

/// The Service's port.
const PORT: u16 = 53;
/// The client's.
const FROM: u16 = 40_053;

const UDP: u8 = 17;
/// IPv6: the fragment header, and destination options.
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;

/// How much of a datagram's fragments, in bytes; a datagram is three of them and a half.
const CUT: usize = 1_000;
const DATA: usize = 3_500;

/// A fragment of the datagram that a lot is about.
#[derive(Clone)]
struct Part {
    at: usize,
    data: Vec<u8>,
    more: bool,
    /// What its fragment header names; IPv6 alone.
    next: u8,
}

/// What arrives, in datagrams; and why levee's is another number, if it is.
#[derive(Clone, Copy)]
enum Arrives {
    Both(usize),
    Otherwise { linux: usize, levee: usize, why: &'static str },
}

use Arrives::{Both, Otherwise};

/// Fragments in the order in which they are sent.
struct Lot {
    name: String,
    parts: Vec<Part>,
    /// A pause in front of this one, in which levee gives up.
    pause: Option<usize>,
    arrives: Arrives,
}

/// Makes what is sent of a datagram, and says where to pause.
type Make<'a> = dyn Fn(&[u8]) -> (Vec<Part>, Option<usize>) + 'a;

/// From whom to whom fragments go.
#[derive(Clone, Copy)]
struct Ends {
    from: SocketAddr,
    to: SocketAddr,
}

/// A datagram with its UDP header; without a checksum where fragments of it may get mixed, and that is to be seen.
fn datagram(ends: Ends, length: usize, mark: usize, summed: bool) -> Vec<u8> {
    let data: Vec<u8> = (0..length).map(|index| (index * 7 + mark * 31 + index / 256) as u8).collect();
    let length = (8 + data.len()) as u16;
    let mut header = UdpHeader { source_port: ends.from.port(), destination_port: ends.to.port(), length, checksum: 0 };
    header.checksum = match (ends.from.ip(), ends.to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) if !summed => 0,
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &data).expect("it is short")
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &data).expect("it is short")
        }
        _ => unreachable!("both are of one family"),
    };
    [&header.to_bytes()[..], &data].concat()
}

fn cut(datagram: &[u8], size: usize) -> Vec<Part> {
    let last = datagram.len().div_ceil(size) - 1;
    let part =
        |(index, chunk): (usize, &[u8])| Part { at: index * size, data: chunk.to_vec(), more: index < last, next: UDP };
    datagram.chunks(size).enumerate().map(part).collect()
}

/// All orders of so many.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    shorter
        .iter()
        .flat_map(|order| {
            (0..count).map(|at| {
                let mut longer = order.clone();
                longer.insert(at, count - 1);
                longer
            })
        })
        .collect()
}

/// All that is sent between these ends.
fn lots(ends: Ends, mode: Mode, replies: bool) -> Vec<Lot> {
    let mut lots: Vec<Lot> = Vec::new();
    let mut add = |name: &str, summed: bool, arrives, make: &Make<'_>| {
        let (parts, pause) = make(&datagram(ends, DATA, lots.len(), summed));
        lots.push(Lot { name: name.into(), parts, pause, arrives });
    };
    // The SNAT address is the kernel's own, and shared: see docs/decisions/0018-fragments.md. A VIP's fragments are all levee's.
    let shared = mode == Mode::Nat && replies;
    let only_levees_own = |count: usize| {
        let why = "on an address shared with the kernel, fragments before their first, and extension headers, are the kernel's";
        if shared { Otherwise { linux: count, levee: 0, why } } else { Both(count) }
    };
    let once = |order: &[usize]| if order.first() == Some(&0) { Both(1) } else { only_levees_own(1) };
    // What lengths say that contradict each other.
    let why = "such a datagram ends, as in Linux's IPv4; in IPv6 Linux drops the fragment alone";
    let contradiction = if ends.from.is_ipv6() { Otherwise { linux: 1, levee: 0, why } } else { Both(0) };
    let in_order = |datagram: &[u8], order: &[usize]| -> Vec<Part> {
        let parts = cut(datagram, CUT);
        order.iter().map(|index| parts[*index].clone()).collect()
    };
    for order in permutations(4) {
        add(&format!("{order:?}"), true, once(&order), &|datagram| (in_order(datagram, &order), None));
    }
    let twice: [(&[usize], usize); 10] = [
        (&[0, 0, 1, 2, 3], 1),
        (&[0, 1, 0, 2, 3], 1),
        (&[0, 1, 2, 0, 3], 1),
        (&[1, 0, 2, 0, 3], 1),
        (&[0, 1, 1, 2, 3], 1),
        (&[0, 1, 2, 1, 3], 1),
        (&[1, 1, 0, 2, 3], 1),
        (&[3, 3, 2, 1, 0], 1),
        (&[0, 0, 0, 1, 1, 2, 2, 3], 1),
        (&[0, 1, 2, 3, 0, 1, 2, 3], 2),
    ];
    for (order, count) in twice {
        let arrives = if count == 1 { once(order) } else { Both(count) };
        add(&format!("twice {order:?}"), true, arrives, &|datagram| (in_order(datagram, order), None));
    }
    for order in [&[1, 2, 3][..], &[0, 2, 3], &[0, 1, 3], &[0, 1, 2], &[3, 2, 1], &[0], &[3]] {
        add(&format!("missing {order:?}"), true, Both(0), &|datagram| (in_order(datagram, order), None));
    }
    // What is put between the others, and whether it ends all of it.
    let other = |at: usize, length: usize, more: bool| Part { at, data: vec![0xee; length], more, next: UDP };
    let between: [(&str, usize, Part, Arrives); 10] = [
        ("the same part, other bytes", 2, other(1_000, 1_000, true), Both(1)),
        ("inside of another", 2, other(1_200, 200, true), Both(1)),
        ("inside of the first", 2, other(8, 200, true), Both(1)),
        ("over two that were there", 2, other(496, 1_000, true), Both(1)),
        ("overlaps the one before", 2, other(1_504, 1_000, true), Both(0)),
        ("overlaps the one behind", 1, other(1_504, 1_000, true), Both(0)),
        ("around another", 2, other(992, 1_016, true), Both(0)),
        ("the first's header once more", 1, other(0, 8, true), Both(1)),
        ("a longer first one", 1, other(0, 1_400, true), Both(0)),
        ("an end in the middle", 2, other(1_000, 400, false), contradiction),
    ];
    for (name, at, part, arrives) in between {
        add(name, false, arrives, &|datagram| {
            let mut parts = in_order(datagram, &[0, 1, 2, 3]);
            parts.insert(at, part.clone());
            (parts, None)
        });
    }
    let behind_the_last = [
        ("the last, other bytes", other(3_000, 508, false), Both(1)),
        ("a second end, inside of the last", other(3_000, 400, false), contradiction),
        ("data behind the end", other(4_000, 8, true), contradiction),
    ];
    for (name, part, arrives) in behind_the_last {
        add(name, false, arrives, &|datagram| {
            let mut parts = in_order(datagram, &[0, 3, 1, 2]);
            parts.insert(2, part.clone());
            (parts, None)
        });
    }
    add("in pieces of 8 bytes at the start", true, Both(1), &|datagram| {
        let mut parts = cut(&datagram[..CUT], 8);
        parts.last_mut().expect("there are many").more = true;
        parts.extend(in_order(datagram, &[1, 2, 3]));
        (parts, None)
    });
    if ends.from.is_ipv6() {
        let dressed = |datagram: &[u8], order: &[usize], names: [u8; 4]| -> Vec<Part> {
            let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], datagram].concat();
            let parts = cut(&options, CUT);
            order.iter().map(|index| Part { next: names[*index], ..parts[*index].clone() }).collect()
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]] {
            let name = format!("options in front of UDP {order:?}");
            add(&name, true, only_levees_own(1), &|datagram| (dressed(datagram, &order, [OPTIONS; 4]), None));
            let name = format!("each names another header {order:?}");
            add(&name, true, only_levees_own(1), &|datagram| (dressed(datagram, &order, [OPTIONS, UDP, 6, 58]), None));
        }
        let why = "an atomic fragment is a datagram of its own (RFC 6946); the kernel's NAT mixes it with the others";
        let arrives = Otherwise { linux: 1, levee: 2, why };
        add("a whole datagram of the same identification between", true, arrives, &|datagram| {
            let mut parts = in_order(datagram, &[0, 1, 2, 3]);
            let small = self::datagram(ends, 100, 99, true);
            parts.insert(2, Part { at: 0, data: small, more: false, next: UDP });
            (parts, None)
        });
    }
    let why = "no frame is kept for longer than half a second, and memory is for 128 that wait; Linux keeps megabytes for 30 s";
    add("the first one comes 0.8 s late", true, Otherwise { linux: 1, levee: 0, why }, &|datagram| {
        (in_order(datagram, &[1, 2, 3, 0]), Some(3))
    });
    let why = "what was seen is kept as six spans: eight holes at a time are an attack, or a path that is of no use";
    add("every other one first", true, Otherwise { linux: 1, levee: 0, why }, &|datagram| {
        let parts = cut(datagram, 200);
        (parts.iter().step_by(2).chain(parts.iter().skip(1).step_by(2)).cloned().collect(), None)
    });
    // With `dnat`, both are translated alike, and a request keeps its identification: the receiver's kernel believes the first.
    let why =
        "two first ones that differ are of two datagrams, for identifications come again; Linux believes the first";
    let arrives = if mode == Mode::Dnat { Both(1) } else { Otherwise { linux: 1, levee: 0, why } };
    add("a first one with another port", false, arrives, &|datagram| {
        let mut parts = in_order(datagram, &[0, 1, 0, 2, 3]);
        // Somebody else's port, of whoever asks or is asked.
        let at = if replies { 2 } else { 0 };
        parts[2].data[at + 1] ^= 1;
        (parts, None)
    });
    let why = "what cannot be a fragment ends alone: it costs no datagram that somebody else began";
    add("one byte in the middle", false, Otherwise { linux: 0, levee: 1, why }, &|datagram| {
        let mut parts = in_order(datagram, &[0, 1, 2, 3]);
        parts.insert(2, other(2_000, 1, true));
        (parts, None)
    });
    lots
}

/// A frame with one part in it.
fn frame(macs: (Mac, Mac), ends: Ends, part: &Part, identification: u16) -> Vec<u8> {
    let (ethertype, packet) = match (ends.from.ip(), ends.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = part.data.len() as u16;
            let mut ip = Ipv4Header::new(length, 64, IpNumber::UDP, from.octets(), to.octets()).expect("it is short");
            ip.identification = identification;
            ip.dont_fragment = false;
            ip.fragment_offset = ((part.at / 8) as u16).try_into().expect("it is small");
            ip.more_fragments = part.more;
            ip.header_checksum = ip.calc_header_checksum();
            ([0x08, 0x00], [&ip.to_bytes()[..], &part.data].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let field = (part.at as u16 | u16::from(part.more)).to_be_bytes();
            let identification = u32::from(identification).to_be_bytes();
            let rest = [&[part.next, 0, field[0], field[1]][..], &identification, &part.data].concat();
            let ip = Ipv6Header {
                payload_length: rest.len() as u16,
                next_header: IpNumber(FRAGMENT),
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            ([0x86, 0xdd], [&ip.to_bytes()[..], &rest].concat())
        }
        _ => unreachable!("both are of one family"),
    };
    [&macs.1.0[..], &macs.0.0, &ethertype, &packet].concat()
}

/// One direction of a path: fragments out of an interface, whole datagrams out of a socket, and who gets both.
struct Direction<'a> {
    mode: Mode,
    replies: bool,
    injector: Injector,
    macs: (Mac, Mac),
    ends: Ends,
    sender: &'a UdpSocket,
    receiver: &'a UdpSocket,
}

impl Direction<'_> {
    /// Sends a lot, and gives what arrives of it.
    fn send(&self, lot: &Lot, number: usize) -> Vec<Vec<u8>> {
        for (index, part) in lot.parts.iter().enumerate() {
            if lot.pause == Some(index) {
                std::thread::sleep(Duration::from_millis(800));
            }
            self.injector.send(&frame(self.macs, self.ends, part, 1_000 + number as u16));
        }
        let end = format!("end of {number}");
        self.sender.send_to(end.as_bytes(), self.ends.to).expect("it can be sent");
        let mut arrived = Vec::new();
        let mut buffer = [0; 65_536];
        loop {
            let length = self.receiver.recv(&mut buffer).unwrap_or_else(|error| panic!("{}: {end}: {error}", lot.name));
            let data = &buffer[..length];
            if data == end.as_bytes() {
                return arrived;
            }
            arrived.push(data.to_vec());
        }
    }

    fn send_all(&self) -> Vec<Vec<Vec<u8>>> {
        let lots = lots(self.ends, self.mode, self.replies);
        lots.iter().enumerate().map(|(number, lot)| self.send(lot, number)).collect()
    }
}

fn socket(namespace: &Namespace, at: (IpAddr, u16)) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind(at).expect("the port is free"));
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("it is a duration");
    socket
}

/// Everything in both directions, through whatever is on the balancer.
fn arrivals(path: &Path, mode: Mode, family: Family) -> [Vec<Vec<Vec<u8>>>; 2] {
    let (client_at, vip, backend_at) = (of(family, CLIENT), of(family, VIP), of(family, BACKEND));
    let client = socket(&path.client, (client_at, FROM));
    let backend = socket(&path.backend, (backend_at, PORT));
    let service = SocketAddr::new(vip, PORT);
    client.send_to(b"hello", service).expect("it can be sent");
    let (_, peer) = backend.recv_from(&mut [0; 100]).expect("the question comes");
    backend.send_to(b"welcome", peer).expect("it can be sent");
    assert_eq!(client.recv_from(&mut [0; 100]).expect("the answer comes").1, service);
    let (outer, beyond) = path.gateways();
    let mac = |namespace: &Namespace| -> Mac {
        namespace.run("cat /sys/class/net/eth0/address").trim().parse().expect("an interface has a MAC")
    };
    let requests = Direction {
        mode,
        replies: false,
        injector: Injector::new(&path.client, "eth0"),
        macs: (mac(&path.client), outer),
        ends: Ends { from: SocketAddr::new(client_at, FROM), to: service },
        sender: &client,
        receiver: &backend,
    };
    let replies = Direction {
        mode,
        replies: true,
        injector: Injector::new(&path.backend, "eth0"),
        macs: (mac(&path.backend), beyond),
        ends: Ends { from: SocketAddr::new(backend_at, PORT), to: peer },
        sender: &backend,
        receiver: &client,
    };
    [requests.send_all(), replies.send_all()]
}

#[test]
fn the_same_datagrams_arrive_as_behind_the_kernels_nat() {
    let both = [Family::Ipv4, Family::Ipv6];
    let mut wrong = String::new();
    for (mode, family) in [Mode::Nat, Mode::Dnat].into_iter().flat_map(|mode| both.map(|family| (mode, family))) {
        let Some(path) = Path::start(1) else { return };
        if !kernel::can_be_asked(&path) {
            return;
        }
        let by_levee = {
            let _dataplane = Balanced { mode, family, protocol: Protocol::Udp, ports: (PORT, PORT) }.start(&path);
            arrivals(&path, mode, family)
        };
        drop(path);
        let path = Path::start(1).expect("there was one");
        kernel::nat(&path, mode, family, PORT);
        let by_linux = arrivals(&path, mode, family);
        for (replies, (by_levee, by_linux)) in by_levee.iter().zip(&by_linux).enumerate() {
            let way = if replies == 1 { "answers" } else { "requests" };
            println!("\n{mode}, {family:?}, {way}\n| fragments | levee | Linux | |\n|---|---|---|---|");
            // Names and numbers alone; the ends are of no account.
            let ends = Ends { from: (of(family, CLIENT), FROM).into(), to: (of(family, VIP), PORT).into() };
            let lots = lots(ends, mode, replies == 1);
            assert_eq!((lots.len(), lots.len()), (by_levee.len(), by_linux.len()));
            for ((lot, levee), linux) in lots.iter().zip(by_levee).zip(by_linux) {
                let (right, why) = match lot.arrives {
                    Both(count) => (levee == linux && linux.len() == count, ""),
                    Otherwise { linux: its, levee: ours, why } => ((linux.len(), levee.len()) == (its, ours), why),
                };
                println!("| {} | {} | {} | {why} |", lot.name, levee.len(), linux.len());
                if !right {
                    let same = levee == linux;
                    let counts = (levee.len(), linux.len());
                    let _ = writeln!(wrong, "{mode}, {family:?}, {way}: {}: {counts:?}, the same: {same}", lot.name);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "levee on the left, Linux on the right\n{wrong}");
}
