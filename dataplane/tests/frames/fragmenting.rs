//! `parse::piece` and `rewrite::identify`: the fields that only fragments have, as etherparse reads them.

use etherparse::{EtherType, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice};
use levee_dataplane::headers::{Network, Piece};
use levee_dataplane::parse::{parse, piece};
use levee_dataplane::reason::Reason;
use levee_dataplane::rewrite::identify;
use proptest::prelude::*;

use crate::build::*;
use crate::oracle::plain_sum;

/// A fragment; `extensions` before its fragment header, if it is IPv6.
fn fragment(v4: bool, offset: u16, more: bool, data: usize, extensions: usize) -> Vec<u8> {
    let data = if offset == 0 { udp(if v4 { V4 } else { V6 }, &payload(data)) } else { payload(data) };
    if v4 {
        ethernet(
            EtherType::IPV4,
            &ipv4_with(IpNumber::UDP, &data, |header| {
                header.dont_fragment = false;
                header.fragment_offset = offset.try_into().unwrap();
                header.more_fragments = more;
            }),
        )
    } else {
        let mut rest = ipv6_fragment(IpNumber::UDP, offset, more, &data);
        let mut next = IpNumber::IPV6_FRAGMENTATION_HEADER;
        for _ in 0..extensions {
            rest = extension(next, &PADDING, &rest);
            next = IpNumber::IPV6_DESTINATION_OPTIONS;
        }
        ethernet(EtherType::IPV6, &ipv6(next, &rest))
    }
}

proptest! {
    #[test]
    fn the_fields_of_fragments_are_read_and_their_identification_is_changed_and_nothing_else(
        v4: bool, offset in prop::sample::select(vec![0u16, 1, 185, 8000]), more: bool, units in 1usize..40,
        odd in 0usize..8, extensions in 0usize..3, identification: u32,
    ) {
        // With the 8 bytes of a UDP header in front, where it is the first.
        let data = units * 8 + odd;
        let frame = fragment(v4, offset, more, data, extensions);
        let headers = parse(&frame).unwrap();
        let length = if offset == 0 { data + 8 } else { data } as u32;
        let read = piece(&headers, &frame);
        if offset == 0 && !more || more && odd != 0 {
            prop_assert_eq!(read, Err(Reason::FragmentMalformed));
            return Ok(());
        }
        let header = if v4 { 14 } else { 14 + 40 + 8 * extensions as u16 };
        let was = if v4 { 0x1234 } else { 0x1234_5678 };
        let expected = Piece { identification: was, offset: u32::from(offset) * 8, length, more, header };
        prop_assert_eq!(read, Ok(expected));

        let mut out = frame.clone();
        identify(&headers, Some(&expected), &mut out, || identification).unwrap();
        if v4 {
            let ip = Ipv4HeaderSlice::from_slice(&out[14..]).unwrap();
            prop_assert_eq!(ip.identification(), identification as u16);
            prop_assert_eq!(plain_sum(ip.slice()), 0xffff);
            out[18..20].copy_from_slice(&frame[18..20]);
            out[24..26].copy_from_slice(&frame[24..26]);
        } else {
            let at = usize::from(header);
            prop_assert_eq!(Ipv6FragmentHeaderSlice::from_slice(&out[at..]).unwrap().identification(), identification);
            out[at + 4..at + 8].copy_from_slice(&frame[at + 4..at + 8]);
        }
        prop_assert_eq!(out, frame);
    }
}

#[test]
fn what_is_whole_is_no_piece_and_what_may_not_be_cut_keeps_its_identification() {
    let frame = ethernet(EtherType::IPV4, &ipv4(IpNumber::UDP, &udp(V4, &payload(9))));
    let headers = parse(&frame).unwrap();
    assert!(matches!(headers.network, Network::Ip(_)));
    assert_eq!(piece(&headers, &frame), Err(Reason::FragmentMalformed));
    let mut out = frame.clone();
    identify(&headers, None, &mut out, || 7).unwrap();
    assert_eq!(out, frame, "don't fragment");
    let frame = ethernet(EtherType::IPV6, &ipv6(IpNumber::UDP, &udp(V6, &payload(9))));
    let mut out = frame.clone();
    identify(&parse(&frame).unwrap(), None, &mut out, || 7).unwrap();
    assert_eq!(out, frame, "IPv6 has none");
}
