//! A page of `docs/performance` with figures in it: what is said about them is somebody's, they are a program's.
//!
//! ```text
//!   what stays true …
//!   <!-- figures: workers -->
//!   Made by `./scripts/bench workers --docs` …          ◄── this alone is written anew
//!   <!-- end of figures: workers -->
//!   what it means …
//! ```

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::peers::Machine;

/// Where figures go that are for people, and where they come from.
#[derive(Debug, Clone, Default, Args)]
pub struct Docs {
    /// The page whose figures are to be written anew
    #[arg(long, global = true, value_name = "FILE")]
    page: Option<PathBuf>,
    /// What was built
    #[arg(long, global = true, value_name = "COMMIT", default_value = "unknown")]
    commit: String,
    /// What was called
    #[arg(long, global = true, value_name = "COMMAND", default_value = "unknown")]
    command: String,
}

impl Docs {
    /// Writes figures into their place, below where they were made; nothing where there is no page.
    ///
    /// # Errors
    /// The page, and what is wrong with it.
    pub fn write(&self, name: &str, figures: &str) -> Result<(), String> {
        let Some(file) = &self.page else { return Ok(()) };
        let said = |problem: String| format!("{}: {problem}", file.display());
        let text = fs::read_to_string(file).map_err(|error| said(error.to_string()))?;
        let origin = Machine::here(&self.commit, &self.command).origin();
        let text = renewed(&text, name, &format!("{origin}\n\n{}", figures.trim())).map_err(said)?;
        fs::write(file, text).map_err(|error| said(error.to_string()))
    }
}

/// A page with other figures of this name.
fn renewed(text: &str, name: &str, figures: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- figures: {name} -->\n"), format!("<!-- end of figures: {name} -->"));
    let place = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let Some((before, after)) = place else {
        return Err(format!("expected the lines `{}` and `{end}`, between which figures go", begin.trim()));
    };
    Ok(format!("{before}{begin}\n{figures}\n\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# It\n\n<!-- figures: a -->\nold\n<!-- end of figures: a -->\nmeans.\n\n<!-- figures: b -->\n<!-- end of figures: b -->\n";

    #[test]
    fn figures_are_written_anew_and_nothing_else_is() {
        let once = renewed(PAGE, "a", "new").unwrap();
        assert_eq!(once, PAGE.replace("old", "\nnew\n"));
        assert_eq!(renewed(&once, "a", "new").unwrap(), once);
        let other = renewed(PAGE, "b", "new").unwrap();
        assert!(other.contains("old") && other.ends_with("<!-- figures: b -->\n\nnew\n\n<!-- end of figures: b -->\n"));
    }

    #[test]
    fn a_page_without_a_place_for_them_is_left_alone_and_named() {
        let file = std::env::temp_dir().join(format!("levee-page-{}.md", std::process::id()));
        let docs = Docs { page: Some(file.clone()), commit: "abc".into(), command: "./it --docs".into() };
        assert!(docs.write("a", "new").unwrap_err().starts_with(&file.display().to_string()));
        fs::write(&file, PAGE).unwrap();
        assert!(docs.write("c", "new").unwrap_err().contains("`<!-- figures: c -->`"));
        assert_eq!(fs::read_to_string(&file).unwrap(), PAGE);
        docs.write("a", "| new |").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("Made by `./it --docs`; not by hand.") && text.contains("commit abc, 2"), "{text}");
        assert!(text.contains("\n\n| new |\n\n<!-- end"), "{text}");
        assert_eq!(Docs::default().write("a", "new"), Ok(()));
        fs::remove_file(&file).unwrap();
    }

    /// Each page in the repository has the places that programs write into.
    #[test]
    fn pages_have_their_places() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance");
        for (page, names) in [
            ("workers.md", ["workers"].as_slice()),
            ("idle.md", &["idle"]),
            ("control.md", &["control"]),
            ("limits.md", &["throughput", "throughput of a mix", "connections"]),
        ] {
            let text = fs::read_to_string(directory.join(page)).unwrap();
            for name in names {
                assert!(renewed(&text, name, "new").is_ok(), "{page}: {name}");
            }
        }
    }
}
