//! ARP beside Linux: the same requests to levee and to a kernel that proxies, and the same answers. `proxy_arp` is the reference; where
//! levee answers otherwise, the table says why.

use std::net::Ipv4Addr;
use std::time::Duration;

use levee_api::net::Mac;
use levee_tests::inject::{Injector, arp_request};
use levee_tests::levee::Take;
use levee_tests::{Arp, Direction, Scene, Tap};

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// On nobody's way.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 249);
/// What the twin proxies.
const PROXIED: Ipv4Addr = Ipv4Addr::new(10, 244, 9, 2);

/// Who is asked, and for what.
#[derive(Clone, Copy)]
struct Asked {
    station: Mac,
    target: Ipv4Addr,
}

/// How many answer: levee, and the kernel; and why it is not the same.
type Answered = (usize, usize, &'static str);

const BOTH: Answered = (1, 1, "");
const NONE: Answered = (0, 0, "");

/// The replies about an address that come to a station, within a third of a second.
fn replies(tap: &Tap, injector: &Injector, frame: &[u8], asker: Mac, about: Ipv4Addr) -> Vec<Arp> {
    tap.clear();
    injector.send(frame);
    std::thread::sleep(Duration::from_millis(350));
    let frames = tap.frames();
    let out = frames.iter().filter(|frame| frame.direction == Direction::Out);
    let told = out.filter_map(|frame| Arp::of(&frame.bytes));
    told.filter(|arp| arp.operation == 2 && arp.ethernet.1 == asker && arp.sender.1 == about).collect()
}

#[test]
fn the_fabric_is_answered_as_the_kernels_own_proxy_answers_it() {
    let Some(scene) = Scene::start(&[1], Take::Owned) else { return };
    let pod = scene.nodes[0].pods()[0].address;
    let (asker, twin) = (scene.host("asker", 201), scene.host("twin", 202));
    let (me, mine) = (asker.wire.mac, asker.address);
    twin.namespace.sysctl("net.ipv4.ip_forward", "1");
    twin.namespace.sysctl("net.ipv4.conf.eth0.proxy_arp", "1");
    twin.namespace.sysctl("net.ipv4.neigh.eth0.proxy_delay", "0");
    // It proxies what is behind another interface.
    twin.namespace.ip_batch(
        "link add name behind type veth peer name beyond
         link set beyond up
         link set behind up
         route add 10.244.9.0/24 dev behind",
    );
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let injector = Injector::new(&asker.namespace, "eth0");

    let plain = move |asked: Asked| arp_request(me, mine, asked.target);
    // Changes a byte of the ARP packet, which is at 14.
    let changed = move |asked: Asked, at: usize, to: u8| {
        let mut frame = plain(asked);
        frame[14 + at] = to;
        frame
    };
    let to_it = move |asked: Asked, mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&asked.station.0);
        frame
    };
    let taken = "it is in use, and a station that asks whether it is must be told (RFC 5227, 2.1.1); the kernel tells of its own alone";
    let claim = "somebody says to have it: a conflict, which is told and defended (RFC 5227, 2.4); the kernel answers as if asked";
    let ieee = "IEEE 802's hardware type of old; levee is on Ethernet, and reads 1 alone";
    type Question<'a> = Box<dyn Fn(Asked) -> Vec<u8> + 'a>;
    let cases: Vec<(&str, Answered, Question<'_>)> = vec![
        ("a request to all", BOTH, Box::new(plain)),
        ("a request to it alone", BOTH, Box::new(|asked| to_it(asked, plain(asked)))),
        ("a request, padded to 60 bytes", BOTH, Box::new(|asked| [plain(asked), vec![0xa5; 18]].concat())),
        ("target MAC filled in", BOTH, Box::new(|asked| changed(asked, 18, 2))),
        ("a probe", (1, 0, taken), Box::new(|asked| arp_request(me, NOBODY, asked.target))),
        ("an announcement", (0, 1, claim), Box::new(|asked| arp_request(me, asked.target, asked.target))),
        ("for the asker's own address", NONE, Box::new(|_| arp_request(me, mine, mine))),
        ("for nobody's address on the segment", NONE, Box::new(|_| arp_request(me, mine, ELSEWHERE))),
        ("for nobody's address behind it", NONE, Box::new(|_| arp_request(me, mine, Ipv4Addr::new(10, 244, 77, 7)))),
        ("for a group", NONE, Box::new(|_| arp_request(me, mine, Ipv4Addr::new(224, 0, 0, 1)))),
        ("for a loopback address", NONE, Box::new(|_| arp_request(me, mine, Ipv4Addr::LOCALHOST))),
        ("a reply instead", NONE, Box::new(|asked| changed(asked, 7, 2))),
        ("another operation", NONE, Box::new(|asked| changed(asked, 7, 3))),
        ("hardware type 6", (0, 1, ieee), Box::new(|asked| changed(asked, 1, 6))),
        ("hardware type 7", NONE, Box::new(|asked| changed(asked, 1, 7))),
        (
            "of IPv6",
            NONE,
            Box::new(|asked| {
                let mut frame = plain(asked);
                frame[16..18].copy_from_slice(&[0x86, 0xdd]);
                frame
            }),
        ),
        ("addresses of 5 bytes", NONE, Box::new(|asked| changed(asked, 4, 5))),
        ("addresses of 16 bytes", NONE, Box::new(|asked| changed(asked, 5, 16))),
        ("addresses of no length", NONE, Box::new(|asked| changed(asked, 5, 0))),
        ("cut off", NONE, Box::new(|asked| plain(asked)[..41].to_vec())),
    ];
    let (node, other) = (scene.nodes[0].wire().mac, twin.wire.mac);
    let mut wrong = Vec::new();
    println!("\n| question | levee | proxy_arp | |\n|---|---|---|---|");
    for (name, (ours, its, why), question) in &cases {
        let ask = |asked: Asked| replies(&tap, &injector, &question(asked), me, asked.target);
        let levee = ask(Asked { station: node, target: pod });
        let kernel = ask(Asked { station: other, target: PROXIED });
        println!("| {name} | {} | {} | {why} |", levee.len(), kernel.len());
        if (levee.len(), kernel.len()) != (*ours, *its) {
            wrong.push(format!("{name}: {levee:?}, {kernel:?}"));
        }
        // But for whose MAC and address it is, all is the same: who is told, as whom, by whom.
        for (arp, mac, target) in
            levee.iter().map(|arp| (arp, node, pod)).chain(kernel.iter().map(|arp| (arp, other, PROXIED)))
        {
            let asked_as = match *name {
                "a probe" => NOBODY,
                "an announcement" => target,
                _ => mine,
            };
            let expected = Arp { ethernet: (mac, me), operation: 2, sender: (mac, target), target: (me, asked_as) };
            assert_eq!(*arp, expected, "{name}");
        }
    }
    assert!(wrong.is_empty(), "levee first, then proxy_arp: {wrong:#?}");
    assert!(scene.dataplanes[0].counter("arp_conflict") > 0, "the announcement was seen for what it is");
}
