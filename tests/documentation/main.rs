//! The documentation, as far as it can be judged without a server: links, sizes, which commands are run, and
//! whether the messages that it explains exist. `tests/acceptance/documentation.rs` runs the commands.

#[path = "support/pages.rs"]
#[cfg(test)]
mod pages;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::pages::{Block, Mark, Page, RUN, root};

    /// Every page, by its path below the root.
    fn pages() -> BTreeMap<PathBuf, Page> {
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

    fn in_docs() -> Vec<String> {
        let files = fs::read_dir(root().join("docs")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        // The others are plots.
        let pages = names.filter(|name| name.ends_with(".md"));
        pages.map(|name| format!("docs/{name}")).collect()
    }

    #[test]
    fn every_link_leads_to_a_file_and_to_a_heading_in_it() {
        let pages = pages();
        let mut dead = Vec::new();
        let mut checked = 0;
        for page in pages.values() {
            for link in &page.links {
                if link.to.starts_with("https://") {
                    continue;
                }
                checked += 1;
                if let Err(why) = follow(&pages, &page.name, &link.to) {
                    dead.push(format!("{}:{}: {}: {why}", page.name, link.line, link.to));
                }
            }
        }
        assert!(checked > 60, "{checked} links");
        assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
    }

    fn follow(pages: &BTreeMap<PathBuf, Page>, from: &str, to: &str) -> Result<(), String> {
        let (file, anchor) = match to.split_once('#') {
            Some((file, anchor)) => (file, Some(anchor)),
            None => (to, None),
        };
        let path = match file {
            "" => PathBuf::from(from),
            _ => normal(&Path::new(from).parent().unwrap().join(file))
                .ok_or("leads out of the repository")?,
        };
        if !root().join(&path).exists() {
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

    /// Without `..`; nothing if it leads above the root.
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

    #[test]
    fn every_shell_block_is_run_or_says_why_not() {
        let (mut runs, mut marked) = (0, 0);
        for page in pages().values() {
            // tests/acceptance/rehearsal.rs runs its commands.
            if page.name == "tests/simulator/README.md" {
                continue;
            }
            let named = |block: &&Block| ["bash", "sh", "console"].contains(&&*block.language);
            // tests/acceptance/consumers/leased/command_line.rs runs the session of docs/concepts.md.
            let misnamed = page.blocks.iter().find(named);
            assert!(
                page.name == "docs/concepts.md" || misnamed.is_none(),
                "{}: call commands shell",
                page.name
            );
            for block in page.shell() {
                let at = format!("{}:{}", page.name, block.line);
                match block.mark() {
                    Mark::NotRun(reason) => {
                        marked += 1;
                        assert!(reason.len() > 20, "{at}: `{reason}` is no reason");
                    }
                    mark => {
                        runs += 1;
                        if let Mark::Fails(message) = mark {
                            assert!(message.len() > 20, "{at}: `{message}` fits too much");
                        }
                        assert!(RUN.contains(&page.name.as_str()), "{at} is not run");
                    }
                }
            }
        }
        assert!(runs > 50, "{runs} blocks are run");
        assert!(marked < runs / 2, "{marked} blocks are not run");
    }

    #[test]
    fn every_message_that_is_explained_is_one_of_the_plugins() {
        let source = source();
        let page = Page::read("docs/troubleshooting.md");
        let mut messages = 0;
        for section in ["## Errors of the engine\n", "## Log messages\n"] {
            let (_, table) = page.text.split_once(section).unwrap();
            let table = table.split("\n## ").next().unwrap();
            for row in table.lines().filter(|line| line.starts_with("| `")) {
                let cell = row.split(" | ").next().unwrap();
                for message in cell.split('`').skip(1).step_by(2) {
                    messages += 1;
                    // Between the texts that vary.
                    for part in message.split('…').map(str::trim) {
                        assert!(
                            source.contains(part),
                            "nothing says `{part}` of `{message}`"
                        );
                    }
                }
            }
        }
        assert!(messages > 30, "{messages} messages");
    }

    /// The source of the plugin, with texts that go over several lines in one.
    fn source() -> String {
        let mut source = String::new();
        let mut folders = vec![root().join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    source.push_str(&fs::read_to_string(path).unwrap());
                }
            }
        }
        let lines: Vec<&str> = source.split("\\\n").collect();
        let joined: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
        joined.concat().replace("\\\"", "\"")
    }
}
