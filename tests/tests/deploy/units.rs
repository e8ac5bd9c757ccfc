//! The systemd units, before systemd itself.

use std::process::Command;

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
