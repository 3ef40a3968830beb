//! The length of the pages, and whether the README links to all of them.

use crate::links::{in_docs, pages};
use crate::pages::Page;

#[test]
fn no_page_is_longer_than_a_person_reads() {
    for (path, page) in pages() {
        let longest = match path.to_str().unwrap() {
            "README.md" => 9 * 1024,
            "docs/reference.md" => usize::MAX,
            name if name.starts_with("docs/") => 20 * 1024,
            _ => 24 * 1024,
        };
        let length = page.text.len();
        assert!(
            length <= longest,
            "{} has {length} bytes, {longest} at the most",
            page.name
        );
    }
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = Page::read("README.md");
    for page in in_docs() {
        let linked = readme.links.iter().any(|link| link.to == page);
        assert!(linked, "README.md has no link to {page}");
    }
}
