//! `levee drain`: it ends when the control process has.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::server::{Directory, levee_at, said};

fn drain(control: &Path, at_most: &str) -> (Output, Duration) {
    let start = Instant::now();
    let arguments = ["drain", "--at-most", at_most];
    let output = levee_at(Path::new("/nowhere/dataplane.sock"), control, &arguments).output().expect("levee runs");
    (output, start.elapsed())
}

#[test]
fn nobody_there_is_done_at_once() {
    let directory = Directory::new();
    let socket = directory.path("control.sock");
    let (output, took) = drain(&socket, "60s");
    assert!(output.status.success() && took < Duration::from_secs(30), "{took:?}: {}", said(&output));
    // One that was killed leaves its socket.
    drop(UnixListener::bind(&socket).expect("bound"));
    assert!(socket.exists());
    let (output, took) = drain(&socket, "60s");
    assert!(output.status.success() && took < Duration::from_secs(30), "{took:?}: {}", said(&output));
}

#[test]
fn it_waits_for_the_end_and_not_for_ever() {
    let directory = Directory::new();
    let socket = directory.path("control.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let (output, took) = drain(&socket, "300ms");
    assert_eq!(output.status.code(), Some(1));
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(said(&output).contains("levee-control still answers after 300ms\n  help: "), "{}", said(&output));

    let path = socket.clone();
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(listener);
        std::fs::remove_file(path).expect("it was there");
    });
    let (output, took) = drain(&socket, "60s");
    ends.join().expect("no panic");
    assert!(output.status.success(), "{}", said(&output));
    assert!((Duration::from_millis(400)..Duration::from_secs(30)).contains(&took), "{took:?}");
}
