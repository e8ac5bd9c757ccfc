//! Real sockets over veth pairs. Each test has a network namespace of its own.

#![allow(unsafe_code)]

mod common;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use af_xdp::xdp::{Action, Attach, LinkMode, Program, TestRun, XskMap, redirect_all};
use af_xdp::{Error, Frame, Mode, Registration, RingSizes, Socket, SocketConfig, Statistics, UmemConfig, interface};
use common::{in_namespace, ip, number, numbered, receive_until, redirect, send_all, tap, umem, veth, wait_for};

/// Every frame is somewhere, and nobody dropped one.
#[track_caller]
fn assert_conserved(umem: &af_xdp::Umem, free: usize, hands: usize, sockets: &[&Socket]) {
    let held: u32 = sockets.iter().map(|socket| socket.held().total()).sum();
    assert_eq!(free + hands + held as usize + umem.lost() as usize, umem.frames() as usize, "frames are not conserved");
    assert_eq!(Frame::leaked(), 0, "frames were dropped");
}

#[test]
fn receives_what_the_other_end_sends() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(8192);
        let mut left = tap(&umem, &mut pool, "left");
        let mut right = tap(&umem, &mut pool, "right");
        assert_eq!(left.link.mode(), LinkMode::Native);
        assert!(!left.socket.zero_copy(), "veth has no zero-copy");

        let mut seen = 0;
        for round in 0..40u32 {
            let mut frames = numbered(&umem, &mut pool, round * 64..(round + 1) * 64, 60);
            send_all(&mut right.socket, &mut frames, &mut pool);
            let mut received = Vec::with_capacity(64);
            receive_until(&mut left.socket, &mut received, |frames| frames.len() == 64);
            for frame in &received {
                assert_eq!(number(&umem, frame), Some(seen), "out of order, or changed");
                assert_eq!((frame.len(), frame.start()), (60, umem.data_start()));
                seen += 1;
            }
            pool.give_all(&mut received);
            left.socket.fill(&mut pool);
        }
        assert_eq!(left.socket.counters().received, 2560);
        assert_eq!(right.socket.counters().transmitted, 2560);
        assert_eq!(left.socket.statistics().unwrap(), Statistics::default());
        assert_conserved(&umem, pool.free(), 0, &[&left.socket, &right.socket]);
    });
}

#[test]
fn a_frame_received_on_one_port_is_sent_on_another_without_a_copy() {
    in_namespace(|| {
        veth("a0", "a1", "");
        veth("b0", "b1", "");
        let (umem, mut pool) = umem(16_384);
        // a1 --> a0 (received) = b0 (sent) --> b1, all in one memory.
        let mut source = tap(&umem, &mut pool, "a1");
        let mut inside = tap(&umem, &mut pool, "a0");
        let outside = interface::index("b0").unwrap();
        let mut config = SocketConfig::new(outside, 0);
        config.mode = Mode::Copy;
        let mut outside = Socket::open(&umem, &config).unwrap();
        assert!(outside.shares_registration());
        let mut sink = tap(&umem, &mut pool, "b1");

        let mut frames = numbered(&umem, &mut pool, 0..500, 1000);
        send_all(&mut source.socket, &mut frames, &mut pool);
        let (mut batch, mut arrived) = (Vec::new(), Vec::new());
        wait_for("500 frames to cross", || {
            outside.complete(&mut pool);
            inside.socket.fill(&mut pool);
            inside.socket.receive(&mut batch, 64);
            for frame in &mut batch {
                umem.bytes_mut(frame)[5] = 0x77;
            }
            outside.transmit(&mut batch);
            outside.kick().unwrap();
            sink.socket.receive(&mut arrived, 64);
            arrived.len() == 500
        });
        for (expected, frame) in arrived.iter().enumerate() {
            assert_eq!(number(&umem, frame), Some(expected as u32));
            assert_eq!(umem.bytes(frame)[..6], [2, 0, 0, 0, 0, 0x77]);
        }
        wait_for("completion", || {
            outside.complete(&mut pool);
            outside.outstanding() == 0
        });
        assert_conserved(
            &umem,
            pool.free(),
            arrived.len() + batch.len(),
            &[&source.socket, &inside.socket, &outside, &sink.socket],
        );
        pool.give_all(&mut arrived);
    });
}

#[test]
fn registrations_are_shared_where_that_gives_the_same_mode() {
    in_namespace(|| {
        veth("left", "right", "numtxqueues 2 numrxqueues 2");
        assert_eq!(interface::queues("left").unwrap(), 2);
        let (umem, _pool) = umem(64);
        let left = interface::index("left").unwrap();
        let right = interface::index("right").unwrap();
        let open = |interface, queue, change: fn(&mut SocketConfig)| {
            let mut config = SocketConfig::new(interface, queue);
            change(&mut config);
            let socket = Socket::open(&umem, &config).unwrap();
            let shares = socket.shares_registration();
            (socket, shares)
        };
        let (first, shares) = open(left, 0, |_| ());
        assert!(!shares, "there was nobody to share with");
        let (_second, shares) = open(left, 1, |_| ());
        assert!(shares, "same interface, same driver");
        let (third, shares) = open(right, 0, |_| ());
        assert!(!shares, "auto on another interface might be zero-copy there");
        drop(third);
        let (fourth, shares) = open(right, 0, |config| config.mode = Mode::Copy);
        assert!(shares, "copy is what the first has");
        drop(fourth);
        let (_fifth, shares) = open(right, 0, |config| config.need_wakeup = false);
        assert!(!shares, "need_wakeup differs");
        // The first may go; the others can still be shared with.
        drop(first);
        let (_again, shares) = open(left, 0, |_| ());
        assert!(shares);
        let (_own, shares) = open(right, 1, |config| config.registration = Registration::Own);
        assert!(!shares);
    });
}

#[test]
fn a_queue_is_busy_until_its_socket_is_closed_and_a_little_longer() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(4096);
        let mut config = SocketConfig::new(interface::index("left").unwrap(), 0);
        let mut socket = Socket::open(&umem, &config).unwrap();
        socket.fill(&mut pool);

        config.busy_retry = Duration::from_millis(20);
        let start = Instant::now();
        let error = Socket::open(&umem, &config).expect_err("bound twice");
        assert!(start.elapsed() >= config.busy_retry, "gave up at once");
        assert_eq!(error.errno(), Some(libc::EBUSY));
        assert!(error.to_string().contains("left queue 0") && error.help().is_some(), "{error}");

        config.busy_retry = Duration::from_secs(1);
        for _ in 0..10 {
            drop(socket);
            socket = Socket::open(&umem, &config).unwrap();
        }
        // Those that the first had in its fill ring are gone with it, and that is known.
        assert_eq!(umem.lost(), 2048);
        assert_conserved(&umem, pool.free(), 0, &[&socket]);
    });
}

/// Who has 10.0.0.1? Asked by 10.0.0.2.
fn arp_request() -> [u8; 42] {
    let mut frame = [0u8; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[28..32].copy_from_slice(&[10, 0, 0, 2]);
    frame[38..42].copy_from_slice(&[10, 0, 0, 1]);
    frame
}

#[test]
fn when_the_socket_dies_the_kernel_answers() {
    in_namespace(|| {
        veth("left", "right", "");
        ip("address add 10.0.0.1/24 dev left");
        let (umem, mut pool) = umem(8192);
        let mut left = tap(&umem, &mut pool, "left");
        let mut right = tap(&umem, &mut pool, "right");
        let mut ask = |right: &mut common::Tap| {
            let mut request = pool.take().unwrap();
            umem.write(&mut request, &arp_request()).unwrap();
            send_all(&mut right.socket, &mut vec![request], &mut pool);
        };
        ask(&mut right);
        let mut received = Vec::new();
        receive_until(&mut left.socket, &mut received, |frames| !frames.is_empty());
        assert_eq!(umem.bytes(&received[0]), arp_request());

        // The program and its map stay; only the socket goes.
        let common::Tap { link: _link, program: _program, map: _map, socket } = left;
        drop(socket);
        let mut replies = Vec::new();
        wait_for("the kernel to answer", || {
            ask(&mut right);
            right.socket.receive(&mut replies, 64);
            let reply = |frame: &Frame| umem.bytes(frame).get(12..22) == Some(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
            replies.iter().any(reply)
        });
        pool.give_all(&mut received);
        pool.give_all(&mut replies);
    });
}

#[test]
fn the_kernel_says_what_it_dropped() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(8192);
        let mut config = SocketConfig::new(interface::index("left").unwrap(), 0);
        config.rings = RingSizes { fill: 64, rx: 32, tx: 32, completion: 32 };
        let mut small = Socket::open(&umem, &config).unwrap();
        let _attached = redirect(&small, config.interface, false);
        let mut right = tap(&umem, &mut pool, "right");

        // Nothing to fill: dropped.
        let mut frames = numbered(&umem, &mut pool, 0..10, 60);
        send_all(&mut right.socket, &mut frames, &mut pool);
        wait_for("the empty fill ring to be noticed", || small.statistics().unwrap().rx_fill_ring_empty == 10);

        // 64 to fill, 32 slots to show them in: the other 32 are dropped.
        small.fill(&mut pool);
        let mut frames = numbered(&umem, &mut pool, 10..74, 60);
        send_all(&mut right.socket, &mut frames, &mut pool);
        wait_for("the full rx ring to be noticed", || small.statistics().unwrap().rx_ring_full == 32);
        let mut received = Vec::new();
        receive_until(&mut small, &mut received, |frames| frames.len() == 32);
        assert_eq!(number(&umem, &received[0]), Some(10));
        assert_conserved(&umem, pool.free(), received.len(), &[&small, &right.socket]);
        pool.give_all(&mut received);
    });
}

#[test]
fn one_kick_sends_a_whole_budget() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(4096);
        let mut config = SocketConfig::new(interface::index("left").unwrap(), 0);
        let mut socket = Socket::open(&umem, &config).unwrap();
        if socket.tx_budget() == 32 {
            eprintln!("SKIPPED: XDP_MAX_TX_SKB_BUDGET needs Linux 6.17");
            return;
        }
        assert_eq!(socket.tx_budget(), 256);
        let mut frames = numbered(&umem, &mut pool, 0..200, 60);
        assert_eq!(socket.transmit(&mut frames), 200);
        socket.kick().unwrap();
        assert_eq!(socket.counters().kicks_again, 0);
        wait_for("completion", || {
            socket.complete(&mut pool);
            socket.outstanding() == 0
        });
        drop(socket);

        config.tx_budget = None;
        let mut socket = Socket::open(&umem, &config).unwrap();
        let mut frames = numbered(&umem, &mut pool, 0..200, 60);
        send_all(&mut socket, &mut frames, &mut pool);
        assert!(socket.counters().kicks_again > 0, "200 frames went in one kick of 32");
        assert_conserved(&umem, pool.free(), 0, &[&socket]);
    });
}

#[test]
fn a_program_is_tried_without_an_interface() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, _pool) = umem(64);
        let left = interface::index("left").unwrap();
        let map = XskMap::new("sockets", 2).unwrap();
        let program = Program::load("redirect_all", &redirect_all(&map).unwrap(), false).unwrap();
        let from = TestRun { from: Some((left, 0)), ..TestRun::default() };
        let outcome = program.test_run(&arp_request(), from).unwrap();
        assert_eq!((outcome.action, &outcome.frame[..]), (Action::Pass, &arp_request()[..]), "empty slot");

        let socket = Socket::open(&umem, &SocketConfig::new(left, 0)).unwrap();
        map.insert(0, &socket).unwrap();
        assert_eq!(program.test_run(&arp_request(), from).unwrap().action, Action::Redirect);
        map.remove(0).unwrap();
        map.remove(0).unwrap();
        assert_eq!(program.test_run(&arp_request(), from).unwrap().action, Action::Pass);
        assert_eq!(program.test_run(&[0; 13], TestRun::default()).expect_err("a runt").errno(), Some(libc::EINVAL));
    });
}

#[test]
fn live_frames_are_a_generator() {
    in_namespace(|| {
        use af_xdp::xdp::asm::Assembler;
        use af_xdp::xdp::asm::Reg;
        veth("left", "right", "");
        let (umem, mut pool) = umem(4096);
        let mut right = tap(&umem, &mut pool, "right");
        // XDP_TX of a frame that seems to come from `left` goes out there, and arrives at the other end.
        let mut asm = Assembler::new();
        asm.mov(Reg::R0, Action::Transmit.number());
        asm.exit();
        let program = Program::load("reflect", &asm.finish().unwrap(), false).unwrap();
        let left = interface::index("left").unwrap();
        // A driver takes such frames only with a program of its own.
        let _link = program.attach(left, Attach::Native).unwrap();
        let mut bytes = [0u8; 60];
        bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
        let how = TestRun { repeat: 1000, from: Some((left, 0)), live_frames: true, batch: 0 };
        program.test_run(&bytes, how).unwrap();
        let mut received = Vec::new();
        receive_until(&mut right.socket, &mut received, |frames| frames.len() == 1000);
        assert!(received.iter().all(|frame| number(&umem, frame) == Some(0)));
        pool.give_all(&mut received);
    });
}

#[test]
fn refusals_name_the_cause_and_the_cure() {
    in_namespace(|| {
        veth("left", "right", "");
        // What a driver must hold is what the other end may send.
        ip("link set right mtu 9000");
        let (umem, _pool) = umem(64);
        let left = interface::index("left").unwrap();
        let refused = |change: fn(&mut SocketConfig)| {
            let mut config = SocketConfig::new(left, 0);
            change(&mut config);
            Socket::open(&umem, &config).expect_err("accepted")
        };
        let text = refused(|config| config.mode = Mode::ZeroCopy).to_string();
        assert!(text.contains("left queue 0") && text.contains("no zero-copy"), "{text}");
        let text = refused(|config| config.queue = 7).to_string();
        assert!(text.contains("left queue 7") && text.contains("does this queue exist"), "{text}");
        let text = refused(|config| config.rings.rx = 100).to_string();
        assert!(text.contains("rx ring size: expected a power of two") && text.contains("100"), "{text}");
        let text = interface::index("nobody").expect_err("found").to_string();
        assert!(text.contains("nobody") && text.contains("ip link"), "{text}");

        let map = XskMap::new("sockets", 1).unwrap();
        let program = Program::load("redirect_all", &redirect_all(&map).unwrap(), false).unwrap();
        let text = program.attach(left, Attach::NativeOrGeneric).expect_err("attached at MTU 9000").to_string();
        assert!(text.contains("left (native)") && text.contains("MTU"), "{text}");
        let large = Program::load("redirect_all", &redirect_all(&map).unwrap(), true).unwrap();
        let link = large.attach(left, Attach::NativeOrGeneric).unwrap();
        assert_eq!(link.mode(), LinkMode::Native);
        let text = large.attach(left, Attach::Native).expect_err("attached twice").to_string();
        assert!(text.contains("another XDP program"), "{text}");
        drop(link);
        let link = large.attach(left, Attach::Generic).unwrap();
        assert_eq!(link.mode(), LinkMode::Generic);
    });
}

#[test]
fn an_interface_without_native_xdp_gets_generic_if_that_is_allowed() {
    in_namespace(|| {
        ip("link add none type bridge");
        let none = interface::index("none").unwrap();
        let map = XskMap::new("sockets", 1).unwrap();
        let program = Program::load("redirect_all", &redirect_all(&map).unwrap(), false).unwrap();
        let text = program.attach(none, Attach::Native).expect_err("attached").to_string();
        assert!(text.contains("no native XDP"), "{text}");
        assert_eq!(program.attach(none, Attach::NativeOrGeneric).unwrap().mode(), LinkMode::Generic);
    });
}

#[test]
fn the_verifier_says_why() {
    in_namespace(|| {
        use af_xdp::xdp::asm::{Assembler, Reg};
        let mut asm = Assembler::new();
        asm.mov(Reg::R0, Reg::R7);
        asm.exit();
        let error = Program::load("wrong", &asm.finish().unwrap(), false).expect_err("verified");
        assert!(matches!(error, Error::Verifier { .. }));
        assert!(error.to_string().contains("R7 !read_ok"), "{error}");
    });
}

#[test]
fn packets_of_several_buffers_are_counted_and_their_frames_come_back() {
    in_namespace(|| {
        veth("left", "right", "mtu 9000");
        ip("address add 10.0.0.1/24 dev left");
        let (umem, mut pool) = umem(4096);
        let right = interface::index("right").unwrap();
        let mut config = SocketConfig::new(right, 0);
        config.multi_buffer = true;
        let mut socket = Socket::open(&umem, &config).unwrap();
        socket.fill(&mut pool);
        let _attached = redirect(&socket, right, true);
        ip("neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev left");
        let kernel = std::net::UdpSocket::bind("10.0.0.1:1000").unwrap();
        kernel.send_to(&[1; 8000], "10.0.0.2:1000").unwrap();
        kernel.send_to(&[2; 100], "10.0.0.2:1000").unwrap();
        let mut received = Vec::new();
        receive_until(&mut socket, &mut received, |frames| {
            frames.iter().any(|frame| umem.bytes(frame).get(42) == Some(&2))
        });
        assert!(socket.counters().pieces >= 2, "{:?}", socket.counters());
        let whole = |frame: &Frame| umem.bytes(frame).get(42) != Some(&1);
        assert!(received.iter().all(whole), "a piece was delivered as if it were a packet");
        socket.fill(&mut pool);
        assert_eq!(socket.held().returning, 0);
        assert_conserved(&umem, pool.free(), received.len(), &[&socket]);
        pool.give_all(&mut received);
    });
}

#[test]
fn a_link_that_is_down_is_an_error_that_mends_itself() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(4096);
        let mut right = tap(&umem, &mut pool, "right");
        ip("link set right down");
        let mut frames = numbered(&umem, &mut pool, 0..4, 60);
        right.socket.transmit(&mut frames);
        assert!(right.socket.kick().expect_err("sent").is_link_down());
        ip("link set right up");
        wait_for("frames to go out", || {
            right.socket.kick().unwrap();
            right.socket.complete(&mut pool);
            right.socket.outstanding() == 0
        });
        assert_conserved(&umem, pool.free(), 0, &[&right.socket]);
    });
}

#[test]
fn a_successor_takes_over_memory_and_socket() {
    in_namespace(|| {
        veth("left", "right", "");
        let config =
            UmemConfig { frames: 4096, memfd: true, huge_pages: af_xdp::HugePages::No, ..UmemConfig::default() };
        let (umem, mut pool) = af_xdp::Umem::new(config).unwrap();
        let left = tap(&umem, &mut pool, "left");
        let mut other = common::umem(4096);
        let mut right = tap(&other.0, &mut other.1, "right");
        let mut frames = numbered(&other.0, &mut other.1, 0..5, 60);
        send_all(&mut right.socket, &mut frames, &mut other.1);

        let memfd = umem.memfd().unwrap().try_clone_to_owned().unwrap();
        let fd = left.socket.as_fd().try_clone_to_owned().unwrap();
        let (socket_config, _link, _map) = (SocketConfig::new(left.socket.interface(), 0), left.link, left.map);
        drop((left.socket, pool, umem));

        // SAFETY: the first user of the memory has just been dropped.
        let (umem, mut pool) = unsafe { af_xdp::Umem::adopt(memfd, config) }.unwrap();
        // SAFETY: bound to this memory, with the default ring sizes, and its first user has been dropped.
        let mut socket = unsafe { Socket::adopt(fd, &umem, &socket_config) }.unwrap();
        let mut received = Vec::new();
        receive_until(&mut socket, &mut received, |frames| frames.len() == 5);
        assert_eq!(received.iter().map(|frame| number(&umem, frame).unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(socket.held().fill, 2048 - 5);
        send_all(&mut socket, &mut received, &mut pool);
        let mut back = Vec::new();
        receive_until(&mut right.socket, &mut back, |frames| frames.len() == 5);
        assert_eq!(pool.free(), 5);
        other.1.give_all(&mut back);
    });
}

#[test]
fn poll_sleeps_until_a_frame_comes() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(8192);
        let left = tap(&umem, &mut pool, "left");
        let mut right = tap(&umem, &mut pool, "right");
        let start = Instant::now();
        assert!(!left.socket.poll(Duration::from_millis(30)).unwrap());
        assert!(start.elapsed() >= Duration::from_millis(29));
        let mut frames = numbered(&umem, &mut pool, 0..1, 60);
        send_all(&mut right.socket, &mut frames, &mut pool);
        assert!(left.socket.poll(Duration::from_secs(5)).unwrap());
        assert!(Arc::ptr_eq(left.socket.umem(), &umem));
    });
}

#[test]
fn driver_settings_are_put_back_as_they_were() {
    use af_xdp::ethtool::{Feature, driver, feature, set_feature};
    in_namespace(|| {
        veth("left", "right", "");
        assert_eq!(driver("left").unwrap(), "veth");
        let was = set_feature("left", Feature::TransmitChecksum, false).unwrap();
        assert!(was && !feature("left", Feature::TransmitChecksum).unwrap());
        assert!(!set_feature("left", Feature::TransmitChecksum, was).unwrap());
        assert!(feature("left", Feature::TransmitChecksum).unwrap());
        let gro = feature("left", Feature::GenericReceiveOffload).unwrap();
        assert_eq!(set_feature("left", Feature::GenericReceiveOffload, !gro).unwrap(), gro);
        assert_eq!(feature("left", Feature::GenericReceiveOffload).unwrap(), !gro);
        assert_eq!(driver("nobody").expect_err("found").errno(), Some(libc::ENODEV));
    });
}

#[test]
fn a_tap_device_is_a_way_into_the_kernel() {
    use af_xdp::tap::TapDevice;
    in_namespace(|| {
        let device = TapDevice::create("levee%d").unwrap();
        assert_eq!(device.name(), "levee0");
        assert_eq!(interface::index("levee0").unwrap(), device.index());
        assert_eq!(interface::queues("levee0").unwrap(), 1);
        std::fs::write("/proc/sys/net/ipv6/conf/levee0/disable_ipv6", "1").unwrap();
        assert_eq!(device.read(&mut [0; 2048]).unwrap(), None, "down");
        assert!(!device.write(&arp_request()).unwrap(), "down");
        device.set_mac([2, 0, 0, 0, 0, 1]).unwrap();
        device.set_mtu(1400).unwrap();
        device.set_up().unwrap();
        ip("address add 10.0.0.1/24 dev levee0");

        assert!(device.write(&arp_request()).unwrap());
        let mut reply = [0; 2048];
        wait_for("the kernel to answer", || device.read(&mut reply).unwrap().is_some());
        assert_eq!(reply[12..32], [8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
        assert!(device.write(&[0; 5]).is_err(), "a runt");

        let text = TapDevice::create("levee0").expect_err("made twice").to_string();
        assert!(text.contains("levee0") && text.contains("choose another name"), "{text}");
        assert!(device.set_mac([1, 0, 0, 0, 0, 0]).is_err(), "a group address");
        for name in ["", "sixteen-letters-", "a\0b"] {
            assert!(matches!(TapDevice::create(name), Err(Error::Invalid { .. })), "{name}");
        }
        drop(device);
        assert!(interface::index("levee0").is_err());
    });
}

#[test]
fn maps_hold_what_they_are_given() {
    use af_xdp::xdp::{Array, Counters, HashMap, LpmTrie};
    in_namespace(|| {
        let array = Array::<4>::new("array", 3).unwrap();
        array.set(2, &[1, 2, 3, 4]).unwrap();
        assert_eq!((array.get(2).unwrap(), array.get(1).unwrap()), (Some([1, 2, 3, 4]), Some([0; 4])));
        assert_eq!(array.get(3).unwrap(), None);
        assert!(array.set(3, &[0; 4]).expect_err("set").to_string().contains("map array"));

        let hash = HashMap::<4, 1>::new("hash", 2).unwrap();
        hash.insert(b"left", &[1]).unwrap();
        hash.insert(b"rght", &[2]).unwrap();
        assert!(hash.insert(b"more", &[3]).expect_err("inserted").to_string().contains("the map is full"));
        let mut keys = hash.keys().unwrap();
        keys.sort_unstable();
        assert_eq!(keys, [*b"left", *b"rght"]);
        assert!(hash.remove(b"left").unwrap() && !hash.remove(b"left").unwrap());
        assert_eq!((hash.get(b"left").unwrap(), hash.get(b"rght").unwrap()), (None, Some([2])));

        let trie = LpmTrie::<8, 1>::new("trie", 8).unwrap();
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
        trie.insert(address("10.0.0.0"), 8, &[8]).unwrap();
        trie.insert(address("10.1.0.0"), 16, &[16]).unwrap();
        assert_eq!(trie.find(address("10.1.2.3")).unwrap(), Some([16]));
        assert_eq!(trie.find(address("10.2.2.3")).unwrap(), Some([8]));
        assert_eq!(trie.find(address("11.2.2.3")).unwrap(), None);
        assert!(trie.remove(address("10.1.0.0"), 16).unwrap() && !trie.remove(address("10.1.0.0"), 16).unwrap());
        assert_eq!(trie.find(address("10.1.2.3")).unwrap(), Some([8]));

        assert_eq!(Counters::new("counters", 5).unwrap().read().unwrap(), [0; 5]);
        let fd = || array.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(Array::<4>::from_fd(fd()).unwrap().get(2).unwrap(), Some([1, 2, 3, 4]));
        let text = Array::<8>::from_fd(fd()).expect_err("taken").to_string();
        assert!(text.contains("values of 8 bytes, got type 2 with 4 and 4"), "{text}");
        assert!(HashMap::<4, 4>::from_fd(fd()).is_err() && XskMap::from_fd(fd()).is_err());
    });
}

/// Takes all capabilities but these (of the first 32) from this thread, for good.
fn keep_capabilities(kept: u32) {
    // `struct __user_cap_header_struct` (version 3, this thread) and two `__user_cap_data_struct`: effective,
    // permitted, inheritable.
    let (header, data) = ([0x2008_0522u32, 0], [kept, kept, 0, 0, 0, 0]);
    // SAFETY: both have the sizes of the kernel's structures, which are only read.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(done, 0, "capset: {}", std::io::Error::last_os_error());
}

#[test]
fn once_open_nothing_needs_a_capability() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(8192);
        let mut left = tap(&umem, &mut pool, "left");
        let mut right = tap(&umem, &mut pool, "right");
        let hash = af_xdp::xdp::HashMap::<4, 1>::new("hash", 8).unwrap();

        keep_capabilities(0);
        let error = Socket::open(&umem, &SocketConfig::new(1, 0)).expect_err("opened without a capability");
        assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
        let error = XskMap::new("sockets", 1).expect_err("made without a capability");
        assert!(error.to_string().contains("CAP_BPF"), "{error}");

        let mut frames = numbered(&umem, &mut pool, 0..100, 60);
        send_all(&mut right.socket, &mut frames, &mut pool);
        let mut received = Vec::new();
        receive_until(&mut left.socket, &mut received, |frames| frames.len() == 100);
        left.socket.fill(&mut pool);
        assert_eq!(left.socket.statistics().unwrap(), Statistics::default());
        hash.insert(b"left", &[1]).unwrap();
        assert!(hash.remove(b"left").unwrap());
        left.map.remove(0).unwrap();
        left.map.insert(0, &left.socket).unwrap();
        pool.give_all(&mut received);
    });
}

#[test]
fn every_kind_of_memory_and_waking_carries_frames() {
    use af_xdp::{BusyPoll, FrameSize, HugePages};
    in_namespace(|| {
        veth("left", "right", "");
        let left = interface::index("left").unwrap();
        let memories = [
            (FrameSize::Bytes2048, HugePages::No, 0, false),
            (FrameSize::Bytes4096, HugePages::Prefer, 128, false),
            (FrameSize::Bytes2048, HugePages::Prefer, 64, true),
        ];
        for (frame_size, huge_pages, headroom, memfd) in memories {
            let (umem, mut pool) =
                af_xdp::Umem::new(UmemConfig { frames: 6000, frame_size, headroom, huge_pages, memfd }).unwrap();
            let mut right = tap(&umem, &mut pool, "right");
            for (need_wakeup, busy_poll) in
                [(true, None), (false, None), (true, Some(BusyPoll { micros: 20, budget: 64 }))]
            {
                let mut config = SocketConfig::new(left, 0);
                config.rings = RingSizes { fill: 64, rx: 64, tx: 64, completion: 64 };
                (config.need_wakeup, config.busy_poll) = (need_wakeup, busy_poll);
                let mut socket = Socket::open(&umem, &config).unwrap();
                socket.fill(&mut pool);
                let _attached = redirect(&socket, left, false);
                // Several times round rings of 64, and back with every frame as long as it may be.
                for round in 0..4 {
                    let mut frames = numbered(&umem, &mut pool, round * 50..round * 50 + 50, 1500);
                    send_all(&mut right.socket, &mut frames, &mut pool);
                    let mut received = Vec::new();
                    receive_until(&mut socket, &mut received, |frames| frames.len() == 50);
                    assert!(received.iter().all(|frame| frame.start() == 256 + usize::from(headroom)));
                    assert_eq!(number(&umem, &received[49]), Some(round * 50 + 49));
                    send_all(&mut socket, &mut received, &mut pool);
                    receive_until(&mut right.socket, &mut received, |frames| frames.len() == 50);
                    assert_eq!(number(&umem, &received[0]), Some(round * 50));
                    pool.give_all(&mut received);
                    right.socket.fill(&mut pool);
                    socket.fill(&mut pool);
                }
                assert_conserved(&umem, pool.free(), 0, &[&socket, &right.socket]);
            }
        }
    });
}

#[test]
fn too_little_lockable_memory_is_said_so() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, _pool) = umem(1024);
        // Root's CAP_IPC_LOCK would lift the limit. In `cargo test` other tests share the limit, and have the capability.
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        // SAFETY: reads the structure.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }, 0);
        keep_capabilities(1 << 13); // CAP_NET_RAW
        let text = Socket::open(&umem, &SocketConfig::new(interface::index("left").unwrap(), 0)).expect_err("opened");
        let text = text.to_string();
        assert!(text.contains("1024 frames of 2048 bytes (2 MiB)") && text.contains("RLIMIT_MEMLOCK"), "{text}");
    });
}
