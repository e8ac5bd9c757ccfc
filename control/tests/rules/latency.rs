//! Rule 40: from when on a change of endpoints is waited for.

use std::time::{Duration, SystemTime};

use levee_control::model::Sourced;
use levee_control::watch::{Event, Store, read};

/// A slice of one endpoint, which its controller changed for something that happened at this time.
fn slice(name: &str, last: u8, triggered: Option<SystemTime>) -> Box<Sourced> {
    let annotation = triggered.map_or_else(String::new, |at| {
        let at = humantime::format_rfc3339_nanos(at);
        format!("  annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{at}'}}\n")
    });
    let yaml = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  \
         labels: {{kubernetes.io/service-name: web}}\n{annotation}addressType: IPv4\n\
         ports: [{{name: http, port: 8080}}]\nendpoints: [{{addresses: [10.244.0.{last}]}}]\n"
    );
    let mut reading = read("t.yaml", yaml.as_bytes());
    assert!(reading.mistakes.is_empty(), "{:?}", reading.mistakes);
    Box::new(reading.objects.remove(0))
}

#[test]
fn rule_40_latency_is_counted_from_what_triggered_a_change_of_endpoints() {
    let start = SystemTime::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut store = Store::new(1);
    store.count_triggers(start);
    let list = |store: &mut Store, slices: Vec<Box<Sourced>>| {
        store.handle(0, Event::ListBegins);
        for slice in slices {
            store.handle(0, Event::Listed(slice));
        }
        store.handle(0, Event::ListComplete);
        store.take_triggers()
    };
    assert_eq!(list(&mut store, vec![slice("a", 1, Some(at(1)))]), [], "what was there when we came");
    let change = |store: &mut Store, slice| {
        store.handle(0, Event::Changed(slice));
        store.take_triggers()
    };
    assert_eq!(change(&mut store, slice("a", 2, Some(at(2)))), [at(2)]);
    assert_eq!(change(&mut store, slice("b", 1, Some(at(3)))), [at(3)], "a new slice");
    assert_eq!(change(&mut store, slice("a", 2, Some(at(4)))), [], "the endpoints are what they were");
    assert_eq!(change(&mut store, slice("a", 3, None)), [], "nobody says when");
    assert_eq!(
        change(&mut store, slice("a", 4, Some(start - Duration::from_secs(1)))),
        [],
        "before we were there to be waited for"
    );
    // After 410, of all that is listed only what is another counts.
    assert_eq!(list(&mut store, vec![slice("a", 4, Some(at(5))), slice("b", 2, Some(at(6)))]), [at(6)]);
    // Slices that are deleted carry the time of the change before.
    store.handle(0, Event::Gone(slice("b", 2, None).key()));
    assert_eq!(store.take_triggers(), []);
    // What is no time is no reason to refuse a slice.
    let mut odd = slice("c", 1, None);
    let levee_control::model::Object::EndpointSlice(object) = &mut odd.object else { panic!("a slice") };
    object.metadata.annotations.insert("endpoints.kubernetes.io/last-change-trigger-time".into(), "yesterday".into());
    assert!(store.handle(0, Event::Changed(odd)));
    assert_eq!(store.take_triggers(), []);
}
