//! Terms: which addresses a dataplane announces, and for how long.
//!
//! ```text
//!  who elects ──PUT /v1/term, several times a second──► dataplane   answers ARP for them, until `until`
//!                                                                    then, by its own clock: no more, whatever became
//!                                                                    of whoever elects
//! ```
//!
//! Where several dataplanes stand before one segment and an address must be announced by one of them, a program says so
//! ([`Program::announce_in_term`](crate::program::Program)), and its VIPs are announced only while a term names them. When no term is
//! left, they are withdrawn: no answer to ARP, no announcement. Traffic that still arrives is served as before.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `PUT /v1/term`: replaces the term before. Answered when every worker runs it: an address that it does not name is then
/// not answered for any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Who gives it, for people; another holder's term replaces it in any case.
    pub holder: String,
    /// Grows with each term of a holder. One that comes late, after a later one, is refused.
    pub number: u64,
    /// When it ends: milliseconds of `CLOCK_BOOTTIME` of the machine that both are on. Absolute, so that a term which lay in a socket while its
    /// reader stood still is not longer for that. In the past: nothing is announced any more.
    pub until: u64,
    /// What is announced: VIPs of the program that say `announce`. Others are not announced for being named here.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: BTreeSet<IpAddr>,
}

/// The answer, and that of `GET /v1/term`: how announcing stands, and whether this dataplane is fit to announce anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TermStatus {
    /// Whether the program's VIPs need a term.
    pub needed: bool,
    /// Who gave the term that runs; absent if none does.
    pub holder: Option<String>,
    /// Milliseconds for which it still runs.
    pub left_ms: Option<u64>,
    /// Number of addresses that are announced now, in a term or without.
    pub announced: usize,
    /// Terms that have run out while they named addresses: whoever elects was dead, stopped or cut off.
    pub lapses: u64,
    /// Addresses that terms have begun to name, since the start.
    pub gained: u64,
    /// Addresses that terms have stopped to name, lapses included.
    pub lost: u64,
    /// What keeps this dataplane from serving what it would announce; empty when it is fit.
    pub problems: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_written_as_it_is_read() {
        let text = r#"{"holder":"a_1","number":7,"until":123456,"addresses":["192.0.2.1","2001:db8::1"]}"#;
        let term: Term = serde_json::from_str(text).expect("good");
        assert_eq!(serde_json::to_string(&term).expect("can be written"), text);
        assert!(serde_json::from_str::<Term>(r#"{"holder":"a","number":1,"until":1,"address":[]}"#).is_err());
    }
}
