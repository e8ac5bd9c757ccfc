//! `docs/metrics.md` is made from the declarations in the code, and this test keeps it so.
//!
//! `LEVEE_UPDATE_DOCS=1 cargo test -p levee --test metrics_document` writes it anew.

use std::path::Path;

use levee_api::metrics::{table, unconventional};
use levee_dataplane::intake::metrics as dataplane;

fn document() -> String {
    format!(
        "# Metrics\n\n\
         Made from `dataplane/src/intake/metrics.rs` and `control/src/daemon/metrics.rs`; do not edit it here.\n\n\
         `GET /metrics` on either daemon\'s socket answers with a page for Prometheus (text exposition format 0.0.4), and so does TCP \
         where the daemon\'s configuration has a `metrics` address, with the probes `/livez` and `/readyz` beside it and nothing else. That \
         listener has neither TLS nor passwords: keep it on an address that only the scraper reaches. `levee metrics` prints the same page.\n\n\
         Counters begin at zero with their process.\n\n\
         ## levee-dataplane\n\n{}\n\
         ## levee-control\n\n{}",
        table(dataplane::FAMILIES),
        table(levee_control::daemon::metrics::FAMILIES),
    )
}

#[test]
fn the_document_says_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("LEVEE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, document()).expect("docs/metrics.md can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == document(),
        "docs/metrics.md is not what the code says; run \
         `LEVEE_UPDATE_DOCS=1 cargo test -p levee --test metrics_document`"
    );
}

#[test]
fn names_are_conventional_and_the_daemons_do_not_share_any() {
    let all: Vec<_> = [dataplane::FAMILIES, levee_control::daemon::metrics::FAMILIES].concat();
    assert_eq!(unconventional(&all), Vec::<String>::new());
}
