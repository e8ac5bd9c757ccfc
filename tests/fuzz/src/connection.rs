//! QUIC connection IDs: as servers make them, and as the judge reads them.
//!
//! IDs without a key are read here by themselves. For the others the judge takes [`Code`]'s word, which the draft's own vectors
//! prove (`dataplane/src/quic/code/tests.rs`).

use std::net::IpAddr;

use arbitrary::{Result, Unstructured};
use levee_api::program::Service;
use levee_api::quic::{Config, ServerId};
use levee_dataplane::quic::{Code, ConnectionId};

use crate::cast::{BACKENDS, connections, twin};

/// What a client sends that has a connection with a server, or would like to: mostly the ID of one that could be a backend.
pub fn datagram(source: &mut Unstructured<'_>, six: bool) -> Result<Vec<u8>> {
    let configs = connections();
    let config = source.choose(&configs)?;
    let server = source.choose(&BACKENDS)?.0;
    let server = if six { twin(server).into() } else { IpAddr::from(server) };
    let nonce = vec![source.arbitrary()?; config.nonce_length.into()];
    let server = ServerId::of_address(server, config.server_id_length);
    let mut id = Code::new(config).connection_id(server.octets(), &nonce, source.arbitrary()?).unwrap_or_default();
    match source.int_in_range(0..=15u8)? {
        // Another rotation, perhaps one that nobody has.
        0 => {
            if let Some(first) = id.first_mut() {
                *first ^= *source.choose(&[0xe0, 0x20, 0x40, 0x05])?;
            }
        }
        1 => id.truncate(source.int_in_range(0..=id.len())?),
        2 => id.extend([1, 2, 3]),
        _ => {}
    }
    let mut datagram = if source.arbitrary()? {
        [&[0x40][..], &id].concat()
    } else {
        let length = if source.ratio(1, 16)? { source.arbitrary()? } else { id.len() as u8 };
        [&[0xc0, 0, 0, 0, 1, length][..], &id, &[0]].concat()
    };
    if source.ratio(1, 16)? {
        datagram.truncate(source.int_in_range(0..=datagram.len())?);
    }
    Ok(datagram)
}

/// The backend of a service that a datagram names.
#[must_use]
pub fn named(service: &Service, datagram: &[u8]) -> Option<IpAddr> {
    // RFC 8999, 5: the form of a header is its first bit; a long one has the version and the ID's length.
    let (first, rest) = datagram.split_first()?;
    let (id, exact) = if first & 0x80 == 0 {
        (rest.get(..20).unwrap_or(rest), false)
    } else {
        let length = usize::from(*rest.get(4)?);
        (rest.get(5..5 + length).filter(|id| id.len() <= 20)?, true)
    };
    let config = service.quic.iter().find(|config| id.first().is_some_and(|first| first >> 5 == config.rotation))?;
    let server = read(config, id, exact)?;
    let mut same = service.backends.iter().filter(|backend| config.server_ids(backend.address).any(|id| id == server));
    let backend = same.next()?.address;
    same.all(|other| other.address == backend).then_some(backend)
}

/// The server ID in a connection ID (draft-ietf-quic-load-balancers-21, 4.1 and 5.5).
fn read(config: &Config, id: &[u8], exact: bool) -> Option<ServerId> {
    let (server, length) = (usize::from(config.server_id_length), usize::from(config.length()));
    let octets = if config.key.is_none() {
        let behind = usize::from(id.first()? & 0x1f);
        if config.encodes_length && (behind < length || exact && behind != id.len() - 1) {
            return None;
        }
        id.get(1..1 + length)?.get(..server)?.to_vec()
    } else {
        let number = Code::new(config).server_id(ConnectionId { octets: id, exact })?;
        number.to_be_bytes()[16 - server..].to_vec()
    };
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast;
    use crate::script::{Edition, Scene};

    #[test]
    fn what_a_server_has_made_names_it() {
        let mut source = Unstructured::new(&[0; 64]);
        let scene = Scene { wide: true, ..Scene::draw(&mut source, Edition::Fourth).expect("enough bytes") };
        let program = cast::program(&scene);
        let of = |six: bool| {
            let quic = |service: &&Service| !service.quic.is_empty() && service.backends[0].address.is_ipv6() == six;
            program.services.iter().find(quic).expect("one of QUIC")
        };
        let mut seen = 0;
        for seed in 0..=255u8 {
            let bytes: Vec<u8> = (0..64u8).map(|index| index.wrapping_mul(37) ^ seed).collect();
            let six = seed % 2 == 0;
            let datagram = datagram(&mut Unstructured::new(&bytes), six).expect("enough bytes");
            seen += usize::from(named(of(six), &datagram).is_some());
            assert_eq!(named(of(!six), &datagram), None, "an ID of the other family's");
        }
        assert!(seen > 100, "{seen}");
    }
}
