//! What is made from the command line's declaration, and how it takes what it is given.

use std::process::{Command, Output};

fn levee(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_levee")).args(arguments).output().expect("levee runs")
}

#[test]
fn there_are_completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = levee(&["completions", shell]);
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).expect("text");
        for word in ["explain", "--cluster", "flush"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
    // And bash takes them.
    let script = levee(&["completions", "bash"]).stdout;
    let checked = Command::new("bash").args(["-n", "-c", &String::from_utf8_lossy(&script)]).status();
    assert!(checked.expect("bash runs").success());
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let directory = std::env::temp_dir().join(format!("levee-man-{}", std::process::id()));
    let path = directory.display().to_string();
    assert!(levee(&["man", "--out", &path]).status.success());
    for page in ["levee", "levee-status", "levee-vip-list", "levee-flow-watch", "levee-program-apply", "levee-explain"]
    {
        let text = std::fs::read_to_string(directory.join(format!("{page}.1"))).expect(page);
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    std::fs::remove_dir_all(&directory).expect("removed");
    let page = String::from_utf8(levee(&["man"]).stdout).expect("text");
    assert!(page.contains(".TH levee 1"));
    let output = levee(&["man", "--out", "/proc/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_command_line_that_makes_no_sense_is_bad_input() {
    for arguments in [
        &[][..],
        &["flows"],
        &["vip"],
        &["flow", "list", "--client", "x"],
        &["flow", "list", "--port", "65536"],
        &["drops", "--watch", "fast"],
        &["status", "-o", "xml"],
        &["check"],
        &["explain"],
    ] {
        let output = levee(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(levee(&["--version"]).status.success());
    assert!(levee(&["help", "flow", "list"]).status.success());
}
