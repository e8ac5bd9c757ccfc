//! The packet's way allocates nothing, whatever it does with a packet: after start all memory is there.

use levee_api::program::Mode;
use levee_benches::frames;
use levee_benches::rig::{GATEWAY_MAC, NODE_MAC, PODS, Rig, UPLINK, VIP, acks, from_pod, syns};
use levee_dataplane::verdict::PortId;

/// Plays the frames, and says how many allocations that made besides the test's own.
fn allocations(rig: &mut Rig, port: PortId, frames: &[Vec<u8>]) -> u64 {
    allocation_counter::measure(|| {
        rig.run(port, frames, frames.len() as u64);
    })
    .count_total
}

#[test]
fn the_measure_measures() {
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(Box::new(7)))).count_total, 1);
}

#[test]
fn established_flows_of_every_mode() {
    for mode in [Mode::Nat, Mode::Dnat, Mode::Dsr] {
        let mut rig = Rig::new(mode, 10, 4096);
        rig.run(UPLINK, &syns(0..1000), 1000);
        let forwarded = rig.forwarded();
        assert_eq!(allocations(&mut rig, UPLINK, &acks(0..1000)), 0, "{mode}");
        assert_eq!(rig.forwarded() - forwarded, 1000, "{mode}: {:?}", rig.drops());
    }
}

#[test]
fn new_flows_into_a_table_that_fills_and_overflows() {
    for mode in [Mode::Nat, Mode::Dnat, Mode::Dsr] {
        let mut rig = Rig::new(mode, 10, 1024);
        assert_eq!(allocations(&mut rig, UPLINK, &syns(0..3000)), 0, "{mode}");
        assert_eq!(rig.forwarded(), 3000, "{mode}: {:?}", rig.drops());
        // And when their time is up.
        rig.wait(3_600_000);
        assert_eq!(allocations(&mut rig, UPLINK, &syns(3000..7000)), 0, "{mode}");
    }
}

#[test]
fn mac_rewriting_refusals_answers_and_rubbish() {
    let mut rig = Rig::new(Mode::Nat, 10, 1024);
    assert_eq!(allocations(&mut rig, PODS, &from_pod(0..1000)), 0);
    assert_eq!(rig.forwarded(), 1000, "{:?}", rig.drops());
    let closed: Vec<_> =
        (0..1000).map(|flow| frames::tcp((GATEWAY_MAC, NODE_MAC), frames::client(flow), (VIP, 81), true)).collect();
    assert_eq!(allocations(&mut rig, UPLINK, &closed), 0, "refused");
    let rubbish: Vec<_> =
        acks(0..1000).into_iter().enumerate().map(|(cut, frame)| frame[..cut % 60].to_vec()).collect();
    assert_eq!(allocations(&mut rig, UPLINK, &rubbish), 0, "rubbish");
    rig.master.set_neighbour(UPLINK, [192, 0, 2, 254].into(), None);
    rig.publisher.publish(rig.master.snapshot());
    assert_eq!(allocations(&mut rig, PODS, &from_pod(0..1000)), 0, "nobody knows the next hop");
}
