//! How server IDs are written into connection IDs, and read out of them (draft-ietf-quic-load-balancers-21, 5.4 and 5.5).
//!
//! Without a key they stand there in the clear. With one, and 16 octets of server ID and nonce, those are one block of AES-128. With any
//! other number they are a Feistel network of four rounds over two halves, which share the octet in the middle if the number is odd:
//!
//! ```text
//!   left ──┬──────────────⊕──┬──────────────⊕──►      round: the half, zeroes, the number of octets, the round's own
//!          └─AES─┐    ┌AES┘  └─AES─┐    ┌AES┘                through AES, and as much of it as the half has
//!   right ───────⊕────┴────────────⊕────┴──────►
//! ```
//!
//! Key schedules are made once, with the table; reading allocates nothing and takes the same time for every ID.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Block};
use levee_api::quic::Config;

use super::{ConnectionId, MOST};

/// Half of server ID and nonce: at most 10 octets, behind them zeroes.
type Half = [u8; 16];

/// Which octets and rounds a configuration has.
pub struct Code {
    /// In the place of the first octet's first three bits.
    rotation: u8,
    server_id: usize,
    /// Of server ID and nonce: 5 to 19.
    length: usize,
    encodes_length: bool,
    /// AES-NI where the processor has it, else bit-sliced: neither looks into tables by what is secret.
    cipher: Option<Box<Aes128>>,
}

impl Code {
    /// Of a configuration that [`Config::check`] has nothing against.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Code {
            rotation: config.rotation,
            server_id: config.server_id_length.into(),
            length: config.length().into(),
            encodes_length: config.encodes_length,
            cipher: config.key.as_ref().and_then(|key| Some(Box::new(Aes128::new(key.octets()?.into())))),
        }
    }

    /// Which of the configurations of a service it is.
    #[must_use]
    pub fn rotation(&self) -> u8 {
        self.rotation
    }

    /// The server ID in a connection ID, as a number; `None` if it is not of this configuration (4.1).
    #[inline]
    #[must_use]
    pub fn server_id(&self, id: ConnectionId<'_>) -> Option<u128> {
        let (first, rest) = id.octets.split_first()?;
        let behind = usize::from(first & 0x1f);
        if first >> 5 != self.rotation {
            return None;
        }
        // Servers may append octets of their own (5.4).
        if self.encodes_length && (behind < self.length || id.exact && behind != rest.len()) {
            return None;
        }
        let mut body = [0; MOST];
        let (used, _) = body.split_at_mut_checked(self.length)?;
        used.copy_from_slice(rest.get(..self.length)?);
        match &self.cipher {
            None => {}
            Some(cipher) if self.length == 16 => {
                let (block, _) = body.split_first_chunk_mut::<16>()?;
                let mut deciphered = Block::from(*block);
                cipher.decrypt_block(&mut deciphered);
                *block = deciphered.into();
            }
            Some(cipher) => self.unscramble(cipher, &mut body),
        }
        let octets = body.get(..self.server_id)?;
        Some(octets.iter().fold(0, |number, octet| number << 8 | u128::from(*octet)))
    }

    /// What servers do, here for tests: the connection ID of a server, without octets of its own behind it. `random` gives the
    /// five bits that say nothing. `None` unless ID and nonce are as long as the configuration says.
    #[must_use]
    pub fn connection_id(&self, server_id: &[u8], nonce: &[u8], random: u8) -> Option<Vec<u8>> {
        let plain = [server_id, nonce].concat();
        if server_id.len() != self.server_id || plain.len() != self.length {
            return None;
        }
        let mut body = [0; MOST];
        body.get_mut(..self.length)?.copy_from_slice(&plain);
        match &self.cipher {
            None => {}
            Some(cipher) if self.length == 16 => {
                let (block, _) = body.split_first_chunk_mut::<16>()?;
                let mut enciphered = Block::from(*block);
                cipher.encrypt_block(&mut enciphered);
                *block = enciphered.into();
            }
            Some(cipher) => self.scramble(cipher, &mut body),
        }
        let behind = if self.encodes_length { self.length as u8 } else { random & 0x1f };
        Some([&[self.rotation << 5 | behind], body.get(..self.length)?].concat())
    }

    fn scramble(&self, cipher: &Aes128, body: &mut [u8; MOST]) {
        let (mut left, mut right) = self.split(body);
        for pass in [1, 3] {
            self.onto_right(cipher, pass, &left, &mut right);
            self.onto_left(cipher, pass + 1, &right, &mut left);
        }
        self.join(&left, &right, body);
    }

    /// The nonce is of no interest: the last round is only there for server IDs that reach into the right half.
    #[inline]
    fn unscramble(&self, cipher: &Aes128, body: &mut [u8; MOST]) {
        let (mut left, mut right) = self.split(body);
        self.onto_left(cipher, 4, &right, &mut left);
        self.onto_right(cipher, 3, &left, &mut right);
        self.onto_left(cipher, 2, &right, &mut left);
        if self.server_id > self.length / 2 {
            self.onto_right(cipher, 1, &left, &mut right);
        }
        self.join(&left, &right, body);
    }

    fn half(&self) -> usize {
        self.length.div_ceil(2)
    }

    fn is_odd(&self) -> bool {
        self.length % 2 == 1
    }

    #[inline]
    fn onto_left(&self, cipher: &Aes128, pass: u8, right: &Half, left: &mut Half) {
        self.round(cipher, pass, right, left);
        self.keep_left(left);
    }

    #[inline]
    fn onto_right(&self, cipher: &Aes128, pass: u8, left: &Half, right: &mut Half) {
        self.round(cipher, pass, left, right);
        self.keep_right(right);
    }

    #[inline]
    fn round(&self, cipher: &Aes128, pass: u8, from: &Half, into: &mut Half) {
        let mut block = *from;
        let [.., length, number] = &mut block;
        (*length, *number) = (self.length as u8, pass);
        let mut block = Block::from(block);
        cipher.encrypt_block(&mut block);
        for (octet, mask) in into.iter_mut().zip(block).take(self.half()) {
            *octet ^= mask;
        }
    }

    /// Of the octet in the middle, the left half has the first four bits.
    #[inline]
    fn keep_left(&self, left: &mut Half) {
        if let Some(last) = left.get_mut(self.half().saturating_sub(1)).filter(|_| self.is_odd()) {
            *last &= 0xf0;
        }
    }

    /// And the right half the last four.
    #[inline]
    fn keep_right(&self, right: &mut Half) {
        let [first, ..] = right;
        if self.is_odd() {
            *first &= 0x0f;
        }
    }

    #[inline]
    fn split(&self, body: &[u8; MOST]) -> (Half, Half) {
        let (mut left, mut right) = ([0; 16], [0; 16]);
        for (octet, from) in left.iter_mut().zip(body).take(self.half()) {
            *octet = *from;
        }
        for (octet, from) in right.iter_mut().zip(body.iter().skip(self.length / 2)).take(self.half()) {
            *octet = *from;
        }
        self.keep_left(&mut left);
        self.keep_right(&mut right);
        (left, right)
    }

    #[inline]
    fn join(&self, left: &Half, right: &Half, body: &mut [u8; MOST]) {
        *body = [0; MOST];
        for (octet, from) in body.iter_mut().zip(left).take(self.half()) {
            *octet = *from;
        }
        for (octet, from) in body.iter_mut().skip(self.length / 2).zip(right).take(self.half()) {
            *octet |= *from;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
