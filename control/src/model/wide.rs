//! What a Service serves besides its ports, by annotation: ranges of ports, and its addresses whole.
//!
//! ```text
//!   levee.dev/port-ranges: "rtp=10000-20000/UDP, 5060-5080"    [NAME=]FIRST-LAST[/PROTOCOL], separated by commas; TCP unless said
//!   levee.dev/whole-address: "true"                            all the rest, any protocol and any port
//! ```
//!
//! They are for its ClusterIPs and its load-balancer addresses; node ports are not affected. Every endpoint of the Service gets them, at
//! the port that the client has chosen. A port of `spec.ports` that lies in a range is served as that port, by whichever Service.

use std::collections::BTreeSet;
use std::fmt;

use levee_api::net::{PortRange, Protocol};

use super::annotations::{PORT_RANGES, WHOLE_ADDRESS};

/// More ranges are a mistake of whoever writes them: each is a service port of its own.
const MOST: usize = 64;

/// What a Service serves besides its ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wide {
    /// Everything to its addresses that nothing else is there for.
    pub whole: bool,
    /// Ranges, in order; those of one protocol do not overlap.
    pub ranges: Vec<NamedRange>,
}

/// A range of ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedRange {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its ports.
    pub ports: PortRange,
    /// As it was given, or else `FIRST-LAST`.
    pub name: String,
}

/// What two Services with one address both want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// The address whole.
    Whole,
    /// These ports.
    Ports(Protocol, PortRange),
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overlap::Whole => f.write_str("the address whole"),
            Overlap::Ports(protocol, ports) => write!(f, "{protocol} ports {ports}"),
        }
    }
}

impl Wide {
    /// Reads the annotations.
    ///
    /// # Errors
    /// What is wrong, and what was expected.
    pub(super) fn read(whole: Option<&str>, ranges: Option<&str>) -> Result<Self, String> {
        let whole = match whole.map(str::trim) {
            None | Some("" | "false") => false,
            Some("true") => true,
            Some(other) => {
                return Err(format!("annotation `{WHOLE_ADDRESS}` is `{}`; expected `true` or `false`", shown(other)));
            }
        };
        let mut wide = Wide { whole, ranges: Vec::new() };
        let text = ranges.map(str::trim).unwrap_or_default();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            if wide.ranges.len() >= MOST {
                return Err(format!("annotation `{PORT_RANGES}` has more than {MOST} ranges"));
            }
            wide.add(range(word.trim()).map_err(|why| format!("annotation `{PORT_RANGES}`: {why}"))?)?;
        }
        wide.ranges.sort();
        Ok(wide)
    }

    fn add(&mut self, range: NamedRange) -> Result<(), String> {
        for other in self.ranges.iter().filter(|other| other.protocol == range.protocol) {
            if overlaps(other.ports, range.ports) {
                return Err(format!(
                    "annotation `{PORT_RANGES}`: {} and {} of {} overlap; a port can be in one range only",
                    other.ports, range.ports, range.protocol
                ));
            }
            if other.name == range.name {
                return Err(format!(
                    "annotation `{PORT_RANGES}`: two ranges of {} are named `{}`",
                    range.protocol, range.name
                ));
            }
        }
        self.ranges.push(range);
        Ok(())
    }

    /// Whether it is more than nothing.
    #[must_use]
    pub fn is_something(&self) -> bool {
        self.whole || !self.ranges.is_empty()
    }

    /// Protocols that it has ranges of.
    #[must_use]
    pub fn protocols(&self) -> BTreeSet<Protocol> {
        self.ranges.iter().map(|range| range.protocol).collect()
    }

    /// What another on the same address wants too, if there is such a thing.
    #[must_use]
    pub fn overlap(&self, other: &Wide) -> Option<Overlap> {
        if self.whole && other.whole {
            return Some(Overlap::Whole);
        }
        self.protocols().into_iter().find_map(|protocol| self.overlap_of(other, protocol))
    }

    /// The same of the ranges of one protocol.
    pub(super) fn overlap_of(&self, other: &Wide, protocol: Protocol) -> Option<Overlap> {
        self.ranges.iter().filter(|range| range.protocol == protocol).find_map(|ours| {
            let theirs = other
                .ranges
                .iter()
                .find(|theirs| theirs.protocol == ours.protocol && overlaps(theirs.ports, ours.ports))?;
            let first = ours.ports.first.max(theirs.ports.first);
            let last = ours.ports.last.min(theirs.ports.last);
            Some(Overlap::Ports(ours.protocol, PortRange { first, last }))
        })
    }
}

fn overlaps(a: PortRange, b: PortRange) -> bool {
    a.first <= b.last && b.first <= a.last
}

fn range(word: &str) -> Result<NamedRange, String> {
    let expected = "expected `[NAME=]FIRST-LAST[/PROTOCOL]`, such as `rtp=10000-20000/UDP`";
    let (name, rest) = word.split_once('=').map_or((None, word), |(name, rest)| (Some(name.trim()), rest.trim()));
    let (ports, protocol) =
        rest.split_once('/').map_or((rest, "TCP"), |(ports, protocol)| (ports.trim(), protocol.trim()));
    let protocol = match protocol.to_ascii_uppercase().as_str() {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return Err(format!("`{}` is no protocol with ports: TCP, UDP or SCTP; {expected}", shown(protocol))),
    };
    let ports: PortRange = shown(ports).parse().map_err(|why: String| format!("{why}; {expected}"))?;
    if let Some(name) = name
        && (name.is_empty() || !is_port_name(name))
    {
        return Err(format!("`{}` is no name for ports: lower-case letters, digits and `-`; {expected}", shown(name)));
    }
    Ok(NamedRange { protocol, ports, name: name.map_or_else(|| ports.to_string(), str::to_owned) })
}

/// Whether this may name ports: what Kubernetes allows, and a bit more.
pub(super) fn is_port_name(name: &str) -> bool {
    name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Wide, String> {
        Wide::read(None, Some(text))
    }

    #[test]
    fn what_an_operator_writes_is_read() {
        let wide = read(" sip=5060-5080, rtp = 10000-20000/udp,7000-7001/SCTP ,9/UDP").expect("ranges");
        let seen: Vec<String> =
            wide.ranges.iter().map(|range| format!("{}={}/{}", range.name, range.ports, range.protocol)).collect();
        assert_eq!(seen, ["sip=5060-5080/tcp", "9=9/udp", "rtp=10000-20000/udp", "7000-7001=7000-7001/sctp"]);
        assert_eq!(read("").map(|wide| wide.is_something()), Ok(false));
        assert_eq!(Wide::read(Some("true"), None).map(|wide| wide.whole), Ok(true));
        assert_eq!(Wide::read(Some("false"), None).map(|wide| wide.is_something()), Ok(false));
    }

    #[test]
    fn near_misses_say_what_was_expected() {
        for (text, words) in [
            ("5060", ""),
            ("5080-5060", "`5080-5060` is not a port range"),
            ("0-80", "`0-80` is not a port range"),
            ("1-65536", "not a port range"),
            ("1-2,", "`` is not a port range"),
            ("1-2/ICMP", "`ICMP` is no protocol with ports"),
            ("SIP=1-2", "`SIP` is no name for ports"),
            ("=1-2", "`` is no name for ports"),
            ("1-5,5-9", "1-5 and 5-9 of tcp overlap"),
            ("a=1-2, a=3-4", "two ranges of tcp are named `a`"),
            ("a=1-2, a=3-4/UDP", ""),
            ("1-5,5-9/UDP", ""),
        ] {
            match read(text) {
                Ok(_) => assert_eq!(words, "", "{text}"),
                Err(why) => assert!(!words.is_empty() && why.contains(words), "{text}: {why}"),
            }
        }
        let why = Wide::read(Some("yes"), None).expect_err("no word that is known");
        assert!(why.contains("is `yes`; expected `true` or `false`"), "{why}");
        let many: Vec<String> = (1..=65).map(|port| port.to_string()).collect();
        assert!(read(&many.join(",")).expect_err("too many").contains("more than 64"));
    }

    proptest! {
        #[test]
        fn any_text_is_ranges_or_an_error(text in "\\PC*") {
            let _ = read(&text);
        }

        #[test]
        fn two_overlap_if_a_port_is_in_both(a in 1u16..50, b in 0u16..20, c in 1u16..50, d in 0u16..20) {
            let wide = |first: u16, more: u16| read(&format!("{first}-{}", first + more)).expect("a range");
            let both = (1..80).find(|port| (a..=a + b).contains(port) && (c..=c + d).contains(port));
            let overlap = wide(a, b).overlap(&wide(c, d));
            prop_assert_eq!(overlap.is_some(), both.is_some());
            if let (Some(Overlap::Ports(_, ports)), Some(first)) = (overlap, both) {
                prop_assert_eq!(ports.first, first);
            }
        }
    }
}
