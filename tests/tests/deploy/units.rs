//! The systemd units, before systemd itself.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use levee_tests::Scene;
use levee_tests::levee::binary;

use super::read;

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no systemd-analyze (Debian's package systemd)");
        return;
    }
    let directory = std::env::temp_dir().join(format!("levee-units-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let files = ["levee-dataplane", "levee-control"].map(|name| {
        let unit = read(&format!("configs/systemd/{name}.service"));
        let installed = format!("/usr/bin/{name} ");
        assert!(unit.contains(&installed), "{unit}");
        // It looks whether what is started is there.
        let here = format!("{} ", binary(name).display());
        let file = directory.join(format!("{name}.service"));
        std::fs::write(&file, unit.replace(&installed, &here)).unwrap();
        file
    });
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files).output().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("levee")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

/// What systemd hears within a time, up to so many signs of life.
fn heard(systemd: &UnixDatagram, signs: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(20);
    let mut heard: Vec<String> = Vec::new();
    let mut buffer = [0; 256];
    while Instant::now() < end && heard.iter().filter(|said| *said == "WATCHDOG=1").count() < signs {
        if let Ok(length) = systemd.recv(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..length]);
            heard.extend(said.lines().map(str::to_owned));
        }
    }
    heard
}

#[test]
fn both_daemons_tell_systemd_that_they_are_ready_and_alive_and_that_they_stop() {
    let Some(scene) = Scene::without_levee(&[1]) else { return };
    let (namespace, directory) = (scene.nodes[0].namespace(), scene.lab.directory());
    let dataplane =
        "ports: [{interface: eth0, role: uplink}]\nworkers: [0]\nflows: {capacity: 16384}\nmemory: {frames: 2048}\n";
    let control = format!("sources: [{{path: {}}}]\nnode: a\n", directory.join("objects").display());
    fs::create_dir(directory.join("objects")).unwrap();
    for (name, config) in [("levee-dataplane", dataplane), ("levee-control", control.as_str())] {
        let at = |ending: &str| directory.join(format!("{name}.{ending}"));
        fs::write(at("yaml"), format!("{config}socket: {}\n", at("sock").display())).unwrap();
        let systemd = UnixDatagram::bind(at("notify")).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut command = namespace.command(binary(name));
        command.arg("--config").arg(at("yaml")).env("NOTIFY_SOCKET", at("notify")).env("WATCHDOG_USEC", "600000");
        let start = Instant::now();
        let mut daemon = namespace.start(name, command);
        let said = heard(&systemd, 4);
        assert!(said.contains(&"READY=1".to_owned()), "{name}: {said:?}\n{}", daemon.log());
        // Thrice in each period: once more than systemd waits for, should one be late.
        assert_eq!(said.iter().filter(|said| *said == "WATCHDOG=1").count(), 4, "{name}: {said:?}");
        assert!(start.elapsed() >= Duration::from_millis(600), "not faster than it must");
        assert!(daemon.stop(Duration::from_secs(10)).success());
        systemd.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut rest = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(length) = systemd.recv(&mut buffer) {
            rest.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
        }
        assert!(rest.contains(&"STOPPING=1".to_owned()), "{name}: {rest:?}");
    }
}
