//! Every sample is run or checked by a command that it names. The test fails for a sample that nothing
//! checks, and for a container image, of a sample or of a release, that is not pinned by its digest.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// JSON has no comments: the command that checks each of these files.
    const WITHOUT_COMMENTS: [(&str, &str); 3] = [
        ("sdk/package.json", "scripts/sdks"),
        ("sdk/package-lock.json", "scripts/sdks"),
        ("prometheus/dashboard.json", "scripts/test prometheus"),
    ];

    #[test]
    fn every_sample_names_a_check_that_knows_it() {
        let samples = samples();
        assert!(samples.len() > 25, "{samples:?}");
        let unchecked: Vec<String> = samples
            .iter()
            .filter_map(|sample| what_is_wrong_with(sample).map(|why| format!("{sample}: {why}")))
            .collect();
        assert!(unchecked.is_empty(), "{}", unchecked.join("\n"));
    }

    #[test]
    fn the_page_of_the_samples_names_every_folder() {
        let page = text("samples/README.md");
        for sample in samples() {
            let (folder, _) = sample.split_once('/').expect("every sample has a folder");
            assert!(page.contains(&format!("]({folder})")), "{folder}");
        }
    }

    #[test]
    fn every_container_image_is_pinned_by_its_digest() {
        let mut images = Vec::new();
        for server in ["vault", "openbao"] {
            let file = text(&format!("packaging/containers/{server}/Containerfile"));
            let base = base_images(&file);
            assert_eq!(base.len(), 1, "{server}: {base:?}");
            images.extend(base);
        }
        for sample in samples() {
            images.extend(images_of_a_manifest(&text(&format!("samples/{sample}"))));
        }
        assert!(images.len() > 4, "{images:?}");
        // The reader's own application.
        images.retain(|image| !image.starts_with("registry.example.com/"));
        let unpinned: Vec<&String> = images.iter().filter(|image| !is_pinned(image)).collect();
        assert!(unpinned.is_empty(), "without a digest: {unpinned:?}");
    }

    #[test]
    fn an_image_without_a_digest_is_noticed() {
        let digest = "0123456789abcdef".repeat(4);
        let file = |version: &str| {
            format!(
                "ARG NAME=example.com/vault\nARG VERSION={version}\nFROM ${{NAME}}:${{VERSION}} AS base\n"
            )
        };
        let pinned = base_images(&file(&format!("1.2@sha256:{digest}")));
        assert_eq!(pinned, [format!("example.com/vault:1.2@sha256:{digest}")]);
        assert!(is_pinned(&pinned[0]));
        let short = &digest[1..];
        for version in ["1.2", "1.2@sha256:", &format!("1.2@sha256:{short}")] {
            assert!(!is_pinned(&base_images(&file(version))[0]), "{version}");
        }
        // A variable without a default can be anything.
        assert!(!is_pinned(&base_images("ARG IMAGE\nFROM ${IMAGE}\n")[0]));
        let manifest = format!("  - image: \"a:1\"\n    image: b:1@sha256:{digest}\n");
        let images = images_of_a_manifest(&manifest);
        assert_eq!(images, ["a:1".to_owned(), format!("b:1@sha256:{digest}")]);
        assert!(!is_pinned(&images[0]) && is_pinned(&images[1]));
    }

    /// The images that a Containerfile builds on, with the defaults of its arguments.
    fn base_images(containerfile: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut images = Vec::new();
        for line in containerfile.lines() {
            if let Some((name, value)) = line
                .strip_prefix("ARG ")
                .and_then(|rest| rest.split_once('='))
            {
                arguments.push((format!("${{{name}}}"), value.to_owned()));
            } else if let Some(from) = line.strip_prefix("FROM ") {
                let image = from.split(' ').next().unwrap_or_default().to_owned();
                images.push(arguments.iter().fold(image, |image, (name, value)| {
                    image.replace(name.as_str(), value)
                }));
            }
        }
        images
    }

    /// The values of `image` in a Kubernetes manifest.
    fn images_of_a_manifest(manifest: &str) -> Vec<String> {
        let values = manifest.lines().filter_map(|line| {
            let line = line.trim_start().trim_start_matches("- ");
            line.strip_prefix("image: ")
        });
        values
            .map(|image| image.trim().trim_matches('"').to_owned())
            .collect()
    }

    fn is_pinned(image: &str) -> bool {
        let digest = image.rsplit_once("@sha256:").map(|(_, digest)| digest);
        digest.is_some_and(|digest| {
            digest.len() == 64 && digest.chars().all(|digit| digit.is_ascii_hexdigit())
        })
    }

    fn what_is_wrong_with(sample: &str) -> Option<String> {
        let commands = commands_of(sample);
        if commands.is_empty() {
            return Some("it names no command that checks it".to_owned());
        }
        let strangers = commands
            .into_iter()
            .filter(|command| !is_known(sample, &source(command)));
        let strangers: Vec<String> = strangers.collect();
        let list = strangers.join(", ");
        (!strangers.is_empty()).then(|| format!("{list} does not know it"))
    }

    /// The commands that check a sample, according to the sample.
    fn commands_of(sample: &str) -> Vec<String> {
        if let Some((_, command)) = WITHOUT_COMMENTS.iter().find(|(name, _)| *name == sample) {
            return vec![(*command).to_owned()];
        }
        let text = text(&format!("samples/{sample}"));
        let quoted = text.split('`').skip(1).step_by(2);
        let commands = quoted.filter(|quoted| {
            quoted.starts_with("scripts/test ")
                || *quoted == "scripts/sdks"
                || quoted.starts_with("samples/check ")
        });
        commands.map(str::to_owned).collect()
    }

    /// The text of a command.
    fn source(command: &str) -> String {
        match command.split_once(' ') {
            Some(("scripts/test", module)) => {
                let module = root().join("tests/acceptance").join(module);
                let files = match module.is_dir() {
                    true => files_below(&module),
                    false => vec![module.with_extension("rs")],
                };
                let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
                texts.collect()
            }
            Some((script, subject)) => {
                let script = text(script);
                let begin = script.find(&format!("\ncheck_{subject}() {{"));
                let begin = begin.unwrap_or_else(|| panic!("`{command}` is no command"));
                // Up to the next subject.
                let rest = &script[begin..];
                rest.split("\n# --- ").next().unwrap().to_owned()
            }
            None => text(command),
        }
    }

    /// Whether the source names the file, or uses the whole folder.
    fn is_known(sample: &str, source: &str) -> bool {
        let path = Path::new(sample);
        let name = path.file_name().unwrap().to_str().unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let (folder, _) = sample.split_once('/').unwrap();
        source.contains(name)
            || source.contains(&format!("\"{stem}\""))
            || source.contains(&format!("cp -r \"$samples/{folder}\""))
    }

    /// Every sample, by its path below the folder.
    fn samples() -> Vec<String> {
        let folder = root().join("samples");
        let files = files_below(&folder);
        let names = files.iter().map(|file| {
            let name = file.strip_prefix(&folder).unwrap();
            name.to_str().unwrap().to_owned()
        });
        // The page, and the command itself.
        names
            .filter(|name| name != "README.md" && name != "check")
            .collect()
    }

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(files_below(&path));
            } else {
                files.push(path);
            }
        }
        files.sort();
        files
    }

    fn text(file: &str) -> String {
        fs::read_to_string(root().join(file)).unwrap()
    }

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }
}
