//! `rewrite::clamp`: the maximum segment size of SYNs, wherever it stands among the options.

use etherparse::{EtherType, IpNumber, TcpHeaderSlice, TcpOptionElement};
use levee_dataplane::headers::Network;
use levee_dataplane::parse::parse;
use levee_dataplane::rewrite::clamp;
use proptest::prelude::*;

use crate::build::*;
use crate::oracle;

fn syn(v4: bool, syn: bool, options: &[u8]) -> Vec<u8> {
    let segment = tcp_with(if v4 { V4 } else { V6 }, &[], |header| {
        header.syn = syn;
        header.set_options_raw(options).unwrap();
    });
    if v4 {
        ethernet(EtherType::IPV4, &ipv4(IpNumber::TCP, &segment))
    } else {
        ethernet(EtherType::IPV6, &ipv6(IpNumber::TCP, &segment))
    }
}

fn offered(frame: &[u8]) -> Option<u16> {
    let Network::Ip(ip) = parse(frame).unwrap().network else { panic!("IP went in") };
    let header = TcpHeaderSlice::from_slice(&frame[usize::from(ip.l4)..]).unwrap();
    header.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
        _ => None,
    })
}

proptest! {
    #[test]
    fn a_syn_offers_no_more_than_it_may(
        v4: bool, padding in 0usize..6, offer in 500u16..9000, most in 536u16..9000, opens: bool, other: bool,
    ) {
        let mut options = vec![1; padding];
        if other {
            options.extend([3, 3, 7]);
        }
        options.extend([2, 4]);
        options.extend(offer.to_be_bytes());
        options.extend([4, 2]);
        let frame = syn(v4, opens, &options);
        let mut out = frame.clone();
        clamp(&parse(&frame).unwrap(), most, &mut out).unwrap();
        let most = if v4 { most } else { most - 20 };
        prop_assert_eq!(offered(&out), Some(if opens { offer.min(most) } else { offer }));
        oracle::assert_checksums(&out);
        if !opens || offer <= most {
            prop_assert_eq!(out, frame);
        }
    }

    #[test]
    fn any_options_may_come(options in prop::collection::vec(any::<u8>(), 0..10)) {
        // In words of four bytes, as the header's length counts.
        let options: Vec<u8> = options.iter().flat_map(|byte| [*byte % 6, *byte, 2, 4]).collect();
        let mut frame = syn(true, true, &options[..options.len().min(40)]);
        let headers = parse(&frame).unwrap();
        clamp(&headers, 1000, &mut frame).unwrap();
        oracle::assert_checksums(&frame);
    }
}

#[test]
fn what_offers_nothing_stays() {
    let frame = syn(true, true, &[]);
    let mut out = frame.clone();
    clamp(&parse(&frame).unwrap(), 1000, &mut out).unwrap();
    assert_eq!(out, frame);
}
