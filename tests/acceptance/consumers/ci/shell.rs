//! The shell scripts and values in the files of CI systems. Supports as much of YAML as the samples use.

/// The commands of a part of a GitLab job, for example of its `before_script`.
pub(super) fn script(yaml: &str, part: &str) -> String {
    let (_, rest) = yaml
        .split_once(&format!("\n  {part}:\n"))
        .unwrap_or_else(|| panic!("there is no {part}"));
    let lines = rest.lines().take_while(|line| line.starts_with("    "));
    let commands = lines.map(|line| line.trim().trim_start_matches("- "));
    joined(commands.filter(|line| *line != "|"))
}

/// The command of a step of GitHub Actions.
pub(super) fn step(yaml: &str, name: &str) -> String {
    let (_, rest) = yaml
        .split_once(&format!("- name: {name}\n"))
        .unwrap_or_else(|| panic!("there is no step {name:?}"));
    let (_, rest) = rest.split_once("        run: |\n").expect("a script");
    joined(
        rest.lines()
            .take_while(|line| line.starts_with("          ")),
    )
}

/// The value of the only field with this name.
pub(super) fn value(yaml: &str, name: &str) -> String {
    let field = format!("{name}: ");
    let values: Vec<&str> = yaml
        .lines()
        .filter_map(|line| line.trim().strip_prefix(&field))
        .collect();
    let [value] = values[..] else {
        panic!("{name}: {values:?}")
    };
    value.to_owned()
}

fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let script: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert!(script.len() > 5, "an empty script");
    script
}
