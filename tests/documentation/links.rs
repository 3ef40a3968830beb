//! Every link leads to a file and to a heading in it, in the repository and in a release archive.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pages::{Page, root};

/// Every page, by its path below the root.
pub(crate) fn pages() -> BTreeMap<PathBuf, Page> {
    let mut names = vec![
        "CHANGELOG.md".to_owned(),
        "CONTRIBUTING.md".to_owned(),
        "README.md".to_owned(),
        "SECURITY.md".to_owned(),
        "samples/README.md".to_owned(),
        "tests/simulator/BEHAVIOR.md".to_owned(),
        "tests/simulator/README.md".to_owned(),
    ];
    names.extend(in_docs());
    let read = |name: String| (PathBuf::from(&name), Page::read(&name));
    names.into_iter().map(read).collect()
}

pub(crate) fn in_docs() -> Vec<String> {
    let files = fs::read_dir(root().join("docs")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    // The others are plots.
    let pages = names.filter(|name| name.ends_with(".md"));
    pages.map(|name| format!("docs/{name}")).collect()
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_in_it() {
    let (checked, dead) = dead_links(&pages());
    assert!(checked > 60, "{checked} links");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn a_dead_link_is_noticed() {
    let mut pages = pages();
    let good = "# A page\n\n## With `code` in it\n\n[itself](#with-code-in-it), [a page](install.md#upgrade), \
                [a file](../LICENSE), [elsewhere](https://example.com)\n";
    let name = PathBuf::from("docs/made-up.md");
    let page = |text: &str| Page::of("docs/made-up.md", text.to_owned());
    pages.insert(name.clone(), page(good));
    assert_eq!(dead_links(&pages).1, [""; 0]);
    for dead in [
        "no-such-page.md",
        "install.md#no-such-heading",
        "#no-such-heading",
        "../LICENSE#upgrade",
        "../../elsewhere.md",
    ] {
        pages.insert(name.clone(), page(&format!("# A page\n\n[dead]({dead})\n")));
        let found = dead_links(&pages).1;
        assert_eq!(found.len(), 1, "{dead}: {found:?}");
        let place = format!("docs/made-up.md:3: {dead}: ");
        assert!(found[0].starts_with(&place), "{found:?}");
    }
}

/// How many links lead into the repository, and those that lead nowhere.
fn dead_links(pages: &BTreeMap<PathBuf, Page>) -> (usize, Vec<String>) {
    let mut dead = Vec::new();
    let mut checked = 0;
    for page in pages.values() {
        for link in &page.links {
            if link.to.starts_with("https://") {
                continue;
            }
            checked += 1;
            if let Err(why) = follow(pages, &page.name, &link.to) {
                dead.push(format!("{}:{}: {}: {why}", page.name, link.line, link.to));
            }
        }
    }
    (checked, dead)
}

fn follow(pages: &BTreeMap<PathBuf, Page>, from: &str, to: &str) -> Result<(), String> {
    let anchor = to.split_once('#').map(|(_, anchor)| anchor);
    let path = destination(from, to).ok_or("leads out of the repository")?;
    if !pages.contains_key(&path) && !root().join(&path).exists() {
        return Err("there is no such file".to_owned());
    }
    let Some(anchor) = anchor else {
        return Ok(());
    };
    let page = pages.get(&path).ok_or("an anchor in what is no page")?;
    let found = page.anchors.iter().any(|known| known == anchor);
    found
        .then_some(())
        .ok_or_else(|| "there is no such heading".to_owned())
}

/// The file to which a link in a page leads, below the root; `None` if it leads outside.
fn destination(from: &str, to: &str) -> Option<PathBuf> {
    match to.split('#').next().unwrap_or_default() {
        "" => Some(PathBuf::from(from)),
        file => normal(&Path::new(from).parent().unwrap().join(file)),
    }
}

/// The path without `..`; `None` if it leads above the root.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path {
        if part == ".." {
            normal.pop().then_some(())?;
        } else if part != "." {
            normal.push(part);
        }
    }
    Some(normal)
}

#[test]
fn no_link_of_a_page_in_a_release_archive_leads_out_of_it() {
    let script = fs::read_to_string(root().join("scripts/release")).unwrap();
    let (_, packed) = script.split_once("\npages=(\n").unwrap();
    let (packed, _) = packed.split_once("\n)\n").unwrap();
    let packed: Vec<&Path> = packed.split_whitespace().map(Path::new).collect();
    assert!(packed.len() > 5, "{packed:?}");
    let is_packed = |path: &Path| packed.iter().any(|folder| path.starts_with(folder));
    let pages = pages();
    let in_archive = pages
        .values()
        .filter(|page| is_packed(Path::new(&page.name)));
    let mut checked = 0;
    for page in in_archive {
        for link in &page.links {
            if link.to.starts_with("https://") {
                continue;
            }
            checked += 1;
            let to = destination(&page.name, &link.to).unwrap();
            assert!(
                is_packed(&to),
                "{}:{}: {} is not packed",
                page.name,
                link.line,
                link.to
            );
        }
    }
    assert!(checked > 60, "{checked} links");
}
