//! Sources as tokens: comments and strings cannot break a rule, macros cannot hide from one.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The repository.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("this crate lies in the repository").to_owned()
}

/// All files below a directory that are ours: no build output, nothing fetched, nothing of git's.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if !["target", ".git", "corpus", "artifacts"].contains(&name.to_string_lossy().as_ref()) {
                found.extend(files(&path));
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All files below a directory with this ending.
pub(crate) fn files_ending(directory: &Path, ending: &str) -> Vec<PathBuf> {
    files(directory).into_iter().filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// A path as people write it.
pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The tokens of a file.
pub(crate) fn tokens(path: &Path) -> Vec<TokenTree> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stream = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    stream.into_iter().collect()
}

/// The same without what is compiled for tests only: items below `#[cfg(test)]`.
pub(crate) fn without_tests(tokens: Vec<TokenTree>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if is_punct(&token, '#') && rest.peek().is_some_and(|next| next.to_string().replace(' ', "") == "[cfg(test)]") {
            // An item ends with its block or its semicolon.
            for token in rest.by_ref() {
                let block = matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                if block || is_punct(&token, ';') {
                    break;
                }
            }
        } else {
            kept.push(token);
        }
    }
    kept
}

/// A path such as `std::time::Instant`, with the line it stands on. `use a::{b, c::d}` yields two.
pub(crate) struct PathUse {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl PathUse {
    /// Whether the path is or lies below `prefix`.
    pub(crate) fn starts_with(&self, prefix: &str) -> bool {
        let mut mine = self.segments.iter();
        prefix.split("::").all(|segment| mine.next().is_some_and(|mine| mine == segment))
    }
}

/// Every path with more than one segment, macros' insides included.
pub(crate) fn paths(tokens: &[TokenTree]) -> Vec<PathUse> {
    let mut found = Vec::new();
    collect(tokens, &[], &mut found);
    found
}

fn collect(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<PathUse>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                collect(&inner, &[], found);
                at += 1;
            }
            TokenTree::Ident(first) => {
                let line = first.span().start().line;
                let mut segments = prefix.to_vec();
                segments.push(first.to_string());
                at += 1;
                // `a :: b`, and `a :: { … }` in a use tree.
                while let (Some(colon), Some(second)) = (tokens.get(at), tokens.get(at + 1)) {
                    if !(is_punct(colon, ':') && is_punct(second, ':')) {
                        break;
                    }
                    match tokens.get(at + 2) {
                        Some(TokenTree::Ident(next)) => {
                            segments.push(next.to_string());
                            at += 3;
                        }
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            let inner: Vec<_> = group.stream().into_iter().collect();
                            for branch in inner.split(|token| is_punct(token, ',')) {
                                // What follows `as` is a new name, not a part of the path.
                                let renamed = branch.iter().position(|token| token.to_string() == "as");
                                collect(&branch[..renamed.unwrap_or(branch.len())], &segments, found);
                            }
                            segments.clear();
                            at += 3;
                            break;
                        }
                        _ => break,
                    }
                }
                if segments.len() > 1 {
                    found.push(PathUse { line, segments });
                }
            }
            _ => at += 1,
        }
    }
}

/// Every identifier with its line, macros' insides included; `name!` is told as such.
pub(crate) fn identifiers(tokens: &[TokenTree], found: &mut Vec<(usize, String)>) {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => identifiers(&group.stream().into_iter().collect::<Vec<_>>(), found),
            TokenTree::Ident(name) => {
                let is_macro = tokens.get(at + 1).is_some_and(|next| is_punct(next, '!'))
                    && !tokens.get(at + 2).is_some_and(|next| is_punct(next, '='));
                found.push((name.span().start().line, format!("{name}{}", if is_macro { "!" } else { "" })));
            }
            _ => {}
        }
    }
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

#[test]
fn paths_are_found_in_trees_and_macros_and_not_in_comments() {
    let text = "
        //! See [`crate::never`].
        use crate::{a, b::{self, c}, d as e};
        /// crate::neither
        fn f() { assert!(crate::g::h() == std::time::Instant::now(), \"crate::nor\"); }
        #[cfg(test)]
        mod tests { use crate::only_in_tests; }
        fn g() { super::x::<u8>(); }
    ";
    let tokens: Vec<_> = TokenStream::from_str(text).expect("valid tokens").into_iter().collect();
    let found: Vec<_> = paths(&without_tests(tokens)).iter().map(|path| path.segments.join("::")).collect();
    let expected =
        ["crate::a", "crate::b::self", "crate::b::c", "crate::d", "crate::g::h", "std::time::Instant::now", "super::x"];
    assert_eq!(found, expected);
}
