//! The demo runs to its end, and its verdict is good.

use std::process::Command;

use levee_tests::Lab;
use levee_tests::levee::binary;

#[test]
fn the_demo_ends_with_a_good_verdict() {
    // Only to know whether there can be a lab here, and to say so if not.
    let Some(_lab) = Lab::start() else { return };
    // A name that is reaped should this process be killed, and that no kept demo has.
    let name = format!("lv{}xdemo", std::process::id());
    let output = Command::new(binary("demo")).env("LEVEE_DEMO_NAME", &name).output().expect("it was built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().any(|line| line.starts_with("OK: ")), "{text}");
}
