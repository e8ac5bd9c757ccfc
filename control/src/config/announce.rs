//! `announce`: how several balancers settle who announces an address.

use std::net::IpAddr;
use std::time::Duration;

use levee_api::diagnostic::Diagnostic;
use serde::Deserialize;

use crate::election::Settings;
use crate::lease::Terms;
use crate::model::{Origin, Placed, is_object_name};

/// The section as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    elect: Option<Placed<bool>>,
    namespace: Option<Placed<String>>,
    duration: Option<Placed<String>>,
    deadline: Option<Placed<String>>,
    retry: Option<Placed<String>>,
    settle: Option<Placed<String>>,
    outage: Option<Placed<String>>,
    peer_address: Option<Placed<String>>,
    peer_port: Option<Placed<u16>>,
}

/// The section, without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// `namespace`: where the Leases are. Default `levee-system`.
    pub namespace: String,
    /// `duration`, `deadline`, `retry`: times of a balancer's Lease, see [`Terms`]. Default 1 s, 750 ms, 200 ms: somebody else
    /// begins within 1.2 s of a death. `settle`: how long a balancer must have been there before it is given addresses that
    /// others own; default 30 s. `outage`: how long balancers go on by each other's promises while the API server is gone;
    /// default 15 min. One that came to the cluster since waits as long before it takes over from a dead one.
    pub settings: Settings,
    /// `peer_address`: where the others reach this balancer to be asked for promises. Default: its Node's `InternalIP`.
    pub peer_address: Option<IpAddr>,
    /// `peer_port`: the UDP port for that. Default 9466; 0: no promises, so that addresses lapse when the API server is gone for
    /// longer than `deadline`.
    pub peer_port: u16,
}

impl Default for Announce {
    fn default() -> Self {
        Announce {
            namespace: "levee-system".to_owned(),
            settings: Settings {
                terms: Terms::balancer(),
                settle: Duration::from_secs(30),
                outage: Duration::from_secs(15 * 60),
            },
            peer_address: None,
            peer_port: 9466,
        }
    }
}

/// Whether and how addresses are elected: by default where a balancer watches a cluster, since there may be others.
pub(super) fn read(
    section: Option<&Placed<Section>>,
    watched_by_balancer: bool,
    origin: &Origin,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Announce> {
    let default = Announce::default();
    let Some(Placed { value: section, place }) = section else { return watched_by_balancer.then_some(default) };
    if section.elect.as_ref().is_some_and(|elect| !elect.value) {
        return None;
    }
    if !watched_by_balancer {
        mistakes.push(
            origin
                .diagnostic(*place, "`announce` is for a balancer that watches a cluster: Leases are kept there")
                .help("set `role: balancer` and a source `kubernetes`, or leave `announce` out"),
        );
        return None;
    }
    let mut time = |value: &Option<Placed<String>>, default: Duration, least: Duration| {
        let Some(Placed { value, place }) = value else { return default };
        match humantime::parse_duration(value) {
            Ok(time) if time >= least && time <= Duration::from_secs(24 * 3600) => time,
            _ => {
                let shown: String = value.chars().take(60).collect();
                let message = format!("`{shown}` is not a time here");
                let help = format!("expected one with its unit, such as `750ms` or `15m`, from {least:?} to 24h");
                mistakes.push(origin.diagnostic(*place, message).help(help));
                default
            }
        }
    };
    let terms = default.settings.terms;
    let least = Duration::from_millis(10);
    let duration = time(&section.duration, terms.duration(), Duration::from_secs(1));
    // Of a longer duration, as large a part.
    let part = |of: Duration| of * u32::try_from(duration.as_secs()).unwrap_or(1);
    let deadline = time(&section.deadline, part(terms.deadline()), least);
    let retry = time(&section.retry, part(terms.retry()).min(Duration::from_secs(2)), least);
    let settle = time(&section.settle, default.settings.settle, Duration::ZERO);
    let outage = time(&section.outage, default.settings.outage, Duration::from_secs(1));
    let terms = Terms::new(duration, deadline, retry).unwrap_or_else(|why| {
        let at = [&section.deadline, &section.retry, &section.duration].into_iter().flatten().next();
        let at = at.map_or(*place, |value| value.place);
        mistakes.push(origin.diagnostic(at, format!("these times make no Lease: {why}")).help(
            "`duration` is what others wait, in whole seconds; `deadline` is when the owner ends by itself; `retry` is how often it renews",
        ));
        terms
    });
    let namespace = match &section.namespace {
        Some(Placed { value, .. }) if is_object_name(value) && !value.contains('.') => value.clone(),
        Some(Placed { value, place }) => {
            let shown: String = value.chars().take(60).collect();
            mistakes.push(origin.diagnostic(*place, format!("`{shown}` is no name of a namespace")));
            default.namespace
        }
        None => default.namespace,
    };
    let peer_address = section.peer_address.as_ref().and_then(|Placed { value, place }| {
        let address =
            value.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified() && !address.is_multicast());
        if address.is_none() {
            let shown: String = value.chars().take(60).collect();
            mistakes.push(
                origin
                    .diagnostic(*place, format!("`{shown}` is not an address that peers could reach"))
                    .help("expected one of this host's addresses, such as `192.0.2.11`"),
            );
        }
        address
    });
    let peer_port = section.peer_port.as_ref().map_or(default.peer_port, |port| port.value);
    Some(Announce { namespace, settings: Settings { terms, settle, outage }, peer_address, peer_port })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::config::read as read_config;

    const BALANCER: &str = "role: balancer\nsources: [{kubernetes: {}}]\n";

    fn announce(yaml: &str) -> Option<Announce> {
        read_config("control.yaml", yaml.as_bytes(), "lb-1").unwrap_or_else(|mistakes| panic!("{mistakes:?}")).announce
    }

    #[test]
    fn a_balancer_of_a_cluster_elects_and_others_do_not() {
        assert_eq!(announce(BALANCER), Some(Announce::default()));
        assert_eq!(announce(&format!("{BALANCER}announce: {{elect: false}}\n")), None);
        assert_eq!(announce("role: balancer\nsources: [{path: /a}]\n"), None);
        assert_eq!(announce("sources: [{kubernetes: {}}]\n"), None);
        let view = |yaml: &str| read_config("control.yaml", yaml.as_bytes(), "lb-1").expect("good").view;
        assert!(view(BALANCER).elected && !view("role: balancer\nsources: [{path: /a}]\n").elected);
    }

    #[test]
    fn times_that_are_not_given_follow_the_duration() {
        let yaml =
            format!("{BALANCER}announce: {{duration: 15s, settle: 1min, outage: 1h, peer_port: 0, namespace: lb}}\n");
        let announce = announce(&yaml).expect("elected");
        let terms = announce.settings.terms;
        assert_eq!(
            (terms.duration().as_secs(), terms.deadline().as_millis(), terms.retry().as_secs()),
            (15, 11_250, 2)
        );
        assert_eq!(
            (announce.settings.outage.as_secs(), announce.peer_port, announce.namespace.as_str()),
            (3600, 0, "lb")
        );
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (yaml, expected) in [
            ("announce: {deadline: 900ms}", "3:22: these times make no Lease: a holder must end by itself by 850 ms"),
            ("announce: {duration: 1500ms}", "3:22: these times make no Lease: a Lease lasts whole seconds"),
            ("announce: {retry: 600ms}", "3:19: these times make no Lease: a renewal must come at least 2 times"),
            ("announce: {settle: soon}", "3:20: `soon` is not a time here"),
            ("announce: {peer_address: 0.0.0.0}", "3:26: `0.0.0.0` is not an address that peers"),
            ("announce: {namespace: A_b}", "3:23: `A_b` is no name of a namespace"),
            ("announce: {wait: 1s}", "unknown key `wait`"),
        ] {
            let mistakes =
                read_config("control.yaml", format!("{BALANCER}{yaml}\n").as_bytes(), "lb-1").expect_err(yaml);
            let told = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(told.contains(expected), "{yaml}\n--- told:\n{told}");
        }
        let mistakes =
            read_config("control.yaml", b"sources: [{path: /a}]\nannounce: {}\n", "lb-1").expect_err("no cluster");
        assert!(mistakes[0].to_string().contains("`announce` is for a balancer that watches a cluster"));
    }
}
