//! The draft's own vectors, and what must hold of all others.

use levee_api::quic::{MOST_ID, ServerId, connection_id};
use proptest::prelude::*;

use super::*;

fn config(rotation: u8, server_id_length: usize, nonce_length: usize, key: Option<&str>) -> Config {
    Config {
        rotation,
        server_id_length: server_id_length as u8,
        nonce_length: nonce_length as u8,
        key: key.map(|key| key.parse().expect("a key")),
        encodes_length: true,
        servers: Vec::new(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    connection_id(text).expect(text)
}

/// As a long header and as a short one have it, with more of the packet behind.
fn read(code: &Code, id: &[u8]) -> [Option<u128>; 2] {
    let long = code.server_id(ConnectionId { octets: id, exact: true });
    let mut packet = [id, &[0x5a; MOST]].concat();
    packet.truncate(MOST);
    [long, code.server_id(ConnectionId { octets: &packet, exact: false })]
}

fn number(server_id: &[u8]) -> u128 {
    server_id.iter().fold(0, |number, octet| number << 8 | u128::from(*octet))
}

/// Both ways: (rotation, server ID, nonce, key, connection ID).
fn answers(vectors: &[(u8, &str, &str, Option<&str>, &str)]) {
    for (rotation, server_id, nonce, key, expected) in vectors {
        let (server_id, nonce, expected) = (hex(server_id), hex(nonce), hex(expected));
        let config = config(*rotation, server_id.len(), nonce.len(), *key);
        config.check().expect("the draft's own");
        let code = Code::new(&config);
        assert_eq!(code.connection_id(&server_id, &nonce, 0), Some(expected.clone()));
        assert_eq!(read(&code, &expected), [Some(number(&server_id)); 2]);
    }
}

/// Appendix B. Two of its six lines are misprinted, in the draft itself:
///
/// - the second of B.1 (`1 350d28b420 3487d970b 20a350d28b4203487d970b`) has a nonce of nine digits, so nobody can say what it is to
///   be: it is left out;
/// - the last of B.2 is said to be of rotation 3, but its connection ID begins with `12`, which is rotation 0 and the right length:
///   it is taken as what it is.
#[test]
fn the_drafts_vectors() {
    const KEY: Option<&str> = Some("8f95f09245765f80256934e50c66207f");
    answers(&[
        (0, "c4605e", "4504cc4f", None, "07c4605e4504cc4f"),
        (0, "ed793a", "ee080dbf", KEY, "0720b1d07b359d3c"),
        (1, "ed793a51d49b8f5fab65", "ee080dbf48", KEY, "2fcc381bc74cb4fbad2823a3d1f8fed2"),
        (2, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", KEY, "504dd2d05a7b0de9b2b9907afb5ecf8cc3"),
        (0, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", KEY, "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc"),
    ]);
}

/// The worked example of 5.4.2, whose octets in the middle are shared.
#[test]
fn the_drafts_example() {
    answers(&[(0, "31441a", "9c69c275", Some("fdf726a9893ec05c0632d3956680baf0"), "0767947d29be054a")]);
}

/// The functions of 5.4.2, by the values that the draft prints on the way.
#[test]
fn the_rounds_of_the_example() {
    let code = Code::new(&config(0, 3, 4, Some("fdf726a9893ec05c0632d3956680baf0")));
    let cipher = code.cipher.as_ref().expect("it has a key");
    let mut body = [0; MOST];
    body[..7].copy_from_slice(&hex("31441a9c69c275"));
    let (mut left, mut right) = code.split(&body);
    assert_eq!((&left[..4], &right[..4]), (&hex("31441a90")[..], &hex("0c69c275")[..]));
    code.onto_right(cipher, 1, &left, &mut right);
    assert_eq!(right[..4], hex("0e3c1ff9"));
    code.onto_left(cipher, 2, &right, &mut left);
    assert_eq!(left[..4], hex("d4a04850"));
    code.onto_right(cipher, 3, &left, &mut right);
    assert_eq!(right[..4], hex("09be054a"));
    code.onto_left(cipher, 4, &right, &mut left);
    assert_eq!(left[..4], hex("67947d20"));
}

#[test]
fn what_is_not_of_the_configuration_has_no_server() {
    let code = Code::new(&config(1, 4, 4, None));
    let id = code.connection_id(&[10, 0, 0, 1], &[1, 2, 3, 4], 0).expect("as long as it says");
    assert_eq!(read(&code, &id), [Some(0x0a00_0001); 2]);
    let mut other = id.clone();
    other[0] = 2 << 5 | 8;
    assert_eq!(read(&code, &other), [None; 2], "another rotation");
    other[0] = 7 << 5 | 8;
    assert_eq!(read(&code, &other), [None; 2], "not routable");
    other[0] = 1 << 5 | 7;
    assert_eq!(read(&code, &other), [None; 2], "too short by its own word");
    other[0] = 1 << 5 | 9;
    assert_eq!(read(&code, &other), [None, Some(0x0a00_0001)], "another length than its packet says");
    assert_eq!(code.server_id(ConnectionId { octets: &id[..8], exact: true }), None, "cut short");
    assert_eq!(code.server_id(ConnectionId { octets: &id[..8], exact: false }), None, "cut short");
    // Octets of the server's own behind it, in its length.
    let mut longer = [&id[..], &[9, 9]].concat();
    longer[0] = 1 << 5 | 10;
    assert_eq!(read(&code, &longer), [Some(0x0a00_0001); 2]);
    assert_eq!(code.connection_id(&[10, 0, 0], &[1, 2, 3, 4], 0), None);
}

fn configs() -> impl Strategy<Value = Config> {
    (0..7u8, 1..=MOST_ID, 4..=18u8, any::<Option<[u8; 16]>>(), any::<bool>()).prop_map(
        |(rotation, id, nonce, key, encodes_length)| Config {
            rotation,
            server_id_length: id,
            nonce_length: nonce.min(19 - id),
            key: key.map(levee_api::quic::Key::new),
            encodes_length,
            servers: Vec::new(),
        },
    )
}

proptest! {
    #[test]
    fn what_a_server_writes_a_balancer_reads(
        config in configs(),
        id in any::<[u8; 15]>(),
        nonce in any::<[u8; 18]>(),
        random in any::<u8>(),
    ) {
        prop_assert_eq!(config.check(), Ok(()));
        let code = Code::new(&config);
        let id = ServerId::new(&id[..config.server_id_length.into()]);
        let nonce = &nonce[..config.nonce_length.into()];
        let cid = code.connection_id(id.octets(), nonce, random).expect("as long as it says");
        prop_assert_eq!(cid.len(), usize::from(config.length()) + 1);
        prop_assert_eq!(read(&code, &cid), [Some(number(id.octets())); 2]);
        let plain = cid[1..] == [id.octets(), nonce].concat();
        // Five octets or more stay what they are with a probability of 2⁻⁴⁰.
        prop_assert_eq!(plain, config.key.is_none());
    }

    /// Whatever a sender makes up: a number that a server ID can be, or none.
    #[test]
    fn anything_is_read(config in configs(), octets in proptest::collection::vec(any::<u8>(), 1..=MOST), exact: bool) {
        if let Some(id) = Code::new(&config).server_id(ConnectionId { octets: &octets, exact }) {
            prop_assert_eq!(id >> (8 * u32::from(config.server_id_length)), 0);
            prop_assert!(octets.len() > config.length().into());
        }
    }
}
