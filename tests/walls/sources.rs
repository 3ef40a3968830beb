//! The files of `src/`, and the crate paths that each of them names.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A source file.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) module: Vec<String>,
    pub(crate) text: String,
}

impl File {
    /// The file at this path below `src/`.
    pub(crate) fn new(path: &Path, text: String) -> Self {
        let relative = path.with_extension("");
        let parts = relative.iter();
        let mut module: Vec<String> = parts
            .map(|part| part.to_str().expect("a name in ASCII").to_owned())
            .collect();
        if module.last().is_some_and(|name| name == "mod") {
            module.pop();
        }
        let path = path.to_owned();
        Self { path, module, text }
    }

    /// Every path that the file names, from the crate's root.
    pub(crate) fn references(&self) -> Vec<Vec<String>> {
        let tokens = TokenStream::from_str(&self.text).expect("it is Rust");
        let mut found = Vec::new();
        walk(tokens, &self.module, &mut found);
        found
    }
}

fn walk(tokens: TokenStream, module: &[String], found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(word) if word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at), tokens.get(at + 1))
                {
                    let inner = [module, &[name.to_string()]].concat();
                    walk(body.stream(), &inner, found);
                    at += 2;
                }
            }
            TokenTree::Ident(word) if word == "crate" => {
                follow(&tokens, &mut at, Vec::new(), module, found);
            }
            TokenTree::Ident(word) if word == "super" => {
                let parent = module[..module.len() - 1].to_vec();
                follow(&tokens, &mut at, parent, module, found);
            }
            TokenTree::Group(group) => walk(group.stream(), module, found),
            _ => {}
        }
    }
}

/// Follows a path from `base`, whose next `::` is at `at`.
fn follow(
    tokens: &[TokenTree],
    at: &mut usize,
    mut base: Vec<String>,
    module: &[String],
    found: &mut Vec<Vec<String>>,
) {
    while is_punct(tokens.get(*at), ':') && is_punct(tokens.get(*at + 1), ':') {
        *at += 2;
        match tokens.get(*at) {
            Some(TokenTree::Ident(word)) if word == "super" => {
                base.pop();
            }
            Some(TokenTree::Ident(word)) => base.push(word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branch(group.stream(), &base, found);
                *at += 1;
                return;
            }
            Some(TokenTree::Group(group)) => walk(group.stream(), module, found),
            _ => {}
        }
        *at += 1;
    }
    found.push(base);
}

/// The paths in the `{…}` of a `use`.
fn branch(tokens: TokenStream, base: &[String], found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for part in tokens.split(|token| is_punct(Some(token), ',')) {
        let Some(TokenTree::Ident(first)) = part.first() else {
            continue;
        };
        let mut path = base.to_vec();
        match first.to_string().as_str() {
            "self" => {}
            "super" => _ = path.pop(),
            name => path.push(name.to_owned()),
        }
        follow(part, &mut 1, path, &[], found);
    }
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == c)
}

/// All of `src/` except the fuzzer's entry points, which are not a floor.
pub(crate) fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("it can be read");
                let path = path.strip_prefix(&root).expect("it is below src");
                files.push(File::new(path, text));
            }
        }
    }
    files.retain(|file| !matches!(file.module[0].as_str(), "invariants" | "main" | "lib"));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}
