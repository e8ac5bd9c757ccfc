//! What a file is, by its content: names of files say little, and people name them as they like.

use std::fmt;

use levee_api::diagnostic::Diagnostic;
use levee_api::yaml;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::input::Input;

/// A kind of file that levee reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Objects with `apiVersion` and `kind`, address pools included.
    Kubernetes,
    /// The dataplane's configuration.
    Dataplane,
    /// The control process's configuration.
    Control,
    /// A program, as `levee program get` prints it.
    Program,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Kubernetes => "Kubernetes objects",
            Kind::Dataplane => "dataplane configuration",
            Kind::Control => "control configuration",
            Kind::Program => "program",
        })
    }
}

/// Keys at the top of each kind. A test holds them against what the readers themselves say that they expect.
const KEYS: [(Kind, &[&str]); 4] = [
    (Kind::Kubernetes, &["apiVersion", "kind", "metadata", "spec", "status", "items"]),
    (
        Kind::Dataplane,
        &[
            "ports",
            "host",
            "workers",
            "socket",
            "socket_group",
            "program_uids",
            "snat",
            "announce_interval",
            "multicast",
            "arp",
            "replies",
            "errors",
            "mss_clamp",
            "new_flows",
            "flows",
            "timeouts",
            "memory",
            "busy_poll",
            "idle",
            "scheduling",
            "rings",
            "metrics",
        ],
    ),
    (
        Kind::Control,
        &[
            "node",
            "role",
            "sources",
            "dataplane",
            "socket",
            "socket_group",
            "metrics",
            "announce",
            "service_cidrs",
            "drain",
            "mid_stream",
            "load_balancer_class_required",
            "allocate",
            "tunnels",
            "quic_lb",
            "overlay",
        ],
    ),
    (Kind::Program, &["generation", "local", "service_ranges", "vips", "announce_in_term", "services", "tunnels"]),
];

/// Says what a file is. The first document that can be read decides; the kind that knows most of its keys wins.
///
/// # Errors
/// Not a text; no document can be read; nothing that levee reads.
pub(super) fn recognise(input: &Input) -> Result<Kind, Diagnostic> {
    let file = input.name.as_str();
    let mut first_mistake = None;
    for document in yaml::documents(file, yaml::text(file, &input.bytes)?) {
        match document.read::<Keys>() {
            Ok(Keys(keys)) => {
                let (line, column) = (document.lines_before() + 1, 1);
                return of_keys(&keys).ok_or_else(|| unknown(file, &keys).at(line, column));
            }
            Err(mistake) => first_mistake = first_mistake.or(Some(mistake)),
        }
    }
    Err(first_mistake.unwrap_or_else(|| {
        Diagnostic::new(file, "the file has no content")
            .help("expected Kubernetes objects, a configuration or a program")
    }))
}

fn of_keys(keys: &[String]) -> Option<Kind> {
    let known = |names: &[&str]| keys.iter().filter(|key| names.contains(&key.as_str())).count();
    // Of equals, the first.
    KEYS.iter()
        .rev()
        .map(|(kind, names)| (known(names), *kind))
        .filter(|(known, _)| *known > 0)
        .max_by_key(|(known, _)| *known)
        .map(|(_, kind)| kind)
}

fn unknown(file: &str, keys: &[String]) -> Diagnostic {
    let found = match keys.first() {
        None => "this mapping is empty".to_owned(),
        Some(key) => format!(
            "a mapping that begins with the key `{}` is nothing that levee reads",
            key.chars().take(40).collect::<String>()
        ),
    };
    Diagnostic::new(file, found).help(
        "expected Kubernetes objects (`apiVersion`, `kind`), a dataplane configuration (`ports`, `workers`), a control \
         configuration (`sources`), or a program (`generation`, `services`)",
    )
}

/// The keys at the top of a document, in order; what they hold is passed over.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping: a Kubernetes object, a configuration or a program")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    map.next_value::<IgnoredAny>()?;
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<Kind> {
        recognise(&Input { name: "f.yaml".into(), bytes: text.into() }).ok()
    }

    #[test]
    fn content_says_what_a_file_is() {
        assert_eq!(kind("kind: Service\napiVersion: v1"), Some(Kind::Kubernetes));
        assert_eq!(kind("ports: []\nworkers: [1]\nservices: []"), Some(Kind::Dataplane));
        assert_eq!(kind("socket: /a\nsources: []"), Some(Kind::Control));
        assert_eq!(kind("{\"generation\": 1, \"services\": []}"), Some(Kind::Program));
        assert_eq!(kind("[1, 2"), None);
        // A document that cannot be read does not hide what the others are.
        assert_eq!(kind("a: [\n---\nkind: Service\napiVersion: v1"), Some(Kind::Kubernetes));
        for text in ["", "# nothing", "- a", "text", "a: 1", "{}", "\0"] {
            assert_eq!(kind(text), None, "{text}");
        }
    }

    #[test]
    fn keys_are_those_that_the_readers_expect() {
        // The word cannot be a key, so the answer lists those that can be.
        let expected = |message: &str| -> Vec<String> {
            message
                .split("expected one of ")
                .nth(1)
                .expect(message)
                .split(", ")
                .map(|key| key.replace('`', ""))
                .collect()
        };
        let keys = |kind| KEYS.iter().find(|(other, _)| *other == kind).expect("there").1.to_vec();
        let dataplane = levee_dataplane::config::check("f", b"nothing_like_it: 1");
        assert_eq!(expected(&dataplane[0].message), keys(Kind::Dataplane));
        let control = levee_control::config::read("f", b"nothing_like_it: 1", "host").expect_err("unknown");
        assert_eq!(expected(&control[0].message), keys(Kind::Control));
        let program = yaml::parse::<levee_api::program::Program>("f", b"nothing_like_it: 1").expect_err("unknown");
        assert_eq!(expected(&program.message), keys(Kind::Program));
    }
}
