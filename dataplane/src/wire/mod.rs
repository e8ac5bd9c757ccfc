//! Views over the bytes of a frame: one file per protocol, all with the same words in the same order.
//!
//! ```text
//!  header! { Ipv4Header, LEN = 20 {          Ipv4Header::new_checked(bytes)      -> Option<view to read>
//!      2 total_length set_total_length: u16, Ipv4Header::new_checked_mut(bytes)  -> Option<view to read and write>
//!      …                                     view.total_length(), view.set_total_length(…)
//! ```
//!
//! A view holds a reference to an array of exactly the fixed part of its header, so its one length check is in
//! `new_checked`, and each getter and setter compiles to one load or store. A field that would reach past its header
//! does not compile. Getters give what stands in the packet, unjudged: versions, lengths and checksums are judged by
//! [`parse`](crate::parse). All numbers are in host order; addresses are [`u32`] and [`u128`], MACs six octets.
//!
//! Used by `parse`, `rewrite` and the XDP tests. Never: an allocation, a panic, a clock, or a word about tables.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod arp;
pub mod ethernet;
pub mod geneve;
pub mod gue;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod plain;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vxlan;

/// A value that stands in a header as `N` bytes, most significant first (RFC 791, appendix B).
pub trait Field<const N: usize>: Sized {
    /// From its bytes on the wire.
    fn from_wire(bytes: [u8; N]) -> Self;
    /// To its bytes on the wire.
    fn to_wire(self) -> [u8; N];
}

macro_rules! numbers {
    ($($number:ident: $len:literal),+) => {$(
        impl Field<$len> for $number {
            #[inline(always)]
            fn from_wire(bytes: [u8; $len]) -> Self {
                $number::from_be_bytes(bytes)
            }
            #[inline(always)]
            fn to_wire(self) -> [u8; $len] {
                self.to_be_bytes()
            }
        }
    )+};
}

numbers!(u8: 1, u16: 2, u32: 4, u128: 16);

/// A MAC address, or whatever is taken as it stands.
impl<const N: usize> Field<N> for [u8; N] {
    #[inline(always)]
    fn from_wire(bytes: [u8; N]) -> Self {
        bytes
    }
    #[inline(always)]
    fn to_wire(self) -> [u8; N] {
        self
    }
}

/// The field at byte `AT` of a header of `LEN` bytes.
#[inline(always)]
fn get<const AT: usize, const N: usize, const LEN: usize, F: Field<N>>(header: &[u8; LEN]) -> F {
    const { assert!(AT + N <= LEN, "the field reaches past its header") };
    // The assertion above makes the default unreachable, and the optimiser sees that.
    F::from_wire(header.get(AT..).and_then(|tail| tail.first_chunk()).copied().unwrap_or([0; N]))
}

/// Writes the field at byte `AT` of a header of `LEN` bytes.
#[inline(always)]
fn set<const AT: usize, const N: usize, const LEN: usize, F: Field<N>>(header: &mut [u8; LEN], value: F) {
    const { assert!(AT + N <= LEN, "the field reaches past its header") };
    if let Some(field) = header.get_mut(AT..).and_then(|tail| tail.first_chunk_mut()) {
        *field = value.to_wire();
    }
}

/// Declares a header: its length, and for each field its offset in bytes, getter, setter and type.
macro_rules! header {
    (
        $(#[$meta:meta])*
        $name:ident, $len:ident = $bytes:literal {
            $($(#[$field_meta:meta])* $at:literal $get:ident $set:ident: $type:ty,)+
        }
    ) => {
        #[doc = concat!("Length in bytes of the fixed part of a [`", stringify!($name), "`].")]
        pub const $len: usize = $bytes;

        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name<B>(B);

        impl<'a> $name<&'a [u8; $len]> {
            /// A view of the header that `bytes` start with, if they hold its fixed part.
            #[inline(always)]
            #[must_use]
            pub fn new_checked(bytes: &'a [u8]) -> Option<Self> {
                bytes.first_chunk().map($name)
            }
        }

        impl<'a> $name<&'a mut [u8; $len]> {
            /// A view that can write to the header that `bytes` start with, if they hold its fixed part.
            #[inline(always)]
            #[must_use]
            pub fn new_checked_mut(bytes: &'a mut [u8]) -> Option<Self> {
                bytes.first_chunk_mut().map($name)
            }
        }

        impl<B: core::borrow::Borrow<[u8; $len]>> $name<B> {
            /// The bytes of the fixed part.
            #[inline(always)]
            pub fn bytes(&self) -> &[u8; $len] {
                self.0.borrow()
            }

            $(
                $(#[$field_meta])*
                #[inline(always)]
                pub fn $get(&self) -> $type {
                    $crate::wire::get::<$at, _, $len, _>(self.0.borrow())
                }
            )+
        }

        impl<B: core::borrow::BorrowMut<[u8; $len]>> $name<B> {
            $(
                #[doc = concat!("Sets what [`", stringify!($get), "`](Self::", stringify!($get), ") gets.")]
                #[inline(always)]
                pub fn $set(&mut self, value: $type) {
                    $crate::wire::set::<$at, _, $len, _>(self.0.borrow_mut(), value);
                }
            )+
        }
    };
}
use header;
