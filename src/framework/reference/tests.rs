//! The page of the sample engine.

use serde_json::json;

use super::super::sample;
use super::*;

/// An example of each operation of the sample engine.
fn examples() -> Vec<Example> {
    let table = [
        ("notes/pinned", "read", "notes/pinned"),
        ("notes/:name", "write", "notes/old"),
        ("notes/:name", "patch", "notes/old"),
        ("notes/:name", "read", "notes/old"),
        ("notes/:name", "delete", "notes/old"),
        ("notes", "list", "notes"),
        ("wipe", "write", "wipe"),
    ];
    let example = |(path, operation, at): (&str, &str, &str)| Example {
        path: path.to_owned(),
        operation: operation.to_owned(),
        at: at.to_owned(),
        fields: Map::new(),
        response: None,
    };
    table.into_iter().map(example).collect()
}

fn whole(examples: &[Example]) -> String {
    page(&sample::blueprint(), "notes-here", examples).unwrap()
}

/// The part of a page between two texts.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = page.split_once(from).unwrap();
    rest.split(to).next().unwrap()
}

#[test]
fn every_path_has_a_section_with_its_description_in_the_order_of_the_table() {
    let page = whole(&examples());
    assert!(page.starts_with("# Reference\n\nThe notes engine keeps notes.\n"));
    let paths: Vec<&str> = page.lines().filter(|l| l.starts_with("## ")).collect();
    assert_eq!(
        paths,
        [
            "## `notes/pinned`",
            "## `notes/:name`",
            "## `notes`",
            "## `wipe`"
        ]
    );
    assert!(page.contains("| [`notes/:name`](#notesname) | A note. |\n"));
    assert!(page.contains("## `wipe`\n\nThere is no way back.\n"));
}

#[test]
fn operations_come_as_people_need_them_and_those_with_the_same_fields_together() {
    let page = whole(&examples());
    let note = between(&page, "## `notes/:name`", "\n## ");
    let operations: Vec<&str> = note.lines().filter(|l| l.starts_with("### ")).collect();
    assert_eq!(
        operations,
        ["### Write a note", "### Read a note", "### Delete a note"]
    );
    assert_eq!(
        between(note, "### Write a note\n\n", "\n#### "),
        "| Method | Path |\n|---|---|\n\
         | `POST` | `/notes-here/notes/:name` |\n\
         | `PATCH` | `/notes-here/notes/:name` |\n"
    );
}

#[test]
fn a_parameter_has_its_type_default_and_meaning() {
    let page = whole(&examples());
    let write = between(&page, "### Write a note", "#### Sample request");
    assert_eq!(
        between(write, "#### Parameters\n\n", "\n\n"),
        "- `name` `(string: <required>)` – The note's name.\n\
         - `text` `(string: <required>)` – What it says. One line.\n\
         - `priority` `(integer: 3)` – How urgent it is.\n\
         - `colour` `(string or null: none)` – Its colour. One of `red`, `blue`.\n\
         - `pin` `(string)` – What opens it.\n\
         - `kept_for` `(duration)` – How long it is kept.\n\
         - `shared` `(boolean)` – Whether others see it.\n\
         - `weight` `(number)` – Its weight."
    );
    let delete = between(&page, "### Delete a note", "#### Sample request");
    assert!(
        delete.contains("- `force` `(boolean)` – Although it is shared. In the query of the URL.")
    );
}

#[test]
fn an_example_is_shown_as_a_command_as_a_request_and_with_its_answer() {
    let mut examples = examples();
    examples[1].fields = json!({"text": "two words", "priority": 5, "pin": "<pin.txt"})
        .as_object()
        .cloned()
        .unwrap();
    examples[1].response = Some(json!({"data": {"name": "old"}}));
    let page = whole(&examples);
    let shown = between(
        &page,
        "#### Sample request: `vault write`",
        "\n#### Sample request",
    );
    for part in [
        "$ vault write notes-here/notes/old \\\n    pin=- \\\n    priority=5 \\\n    text=\"two words\" < pin.txt\n",
        "$ jq --rawfile pin pin.txt '. + $ARGS.named' payload.json |\n  curl --header \"X-Vault-Token: $VAULT_TOKEN\" \\\n    --request POST \\\n    --data @- \\\n    $VAULT_ADDR/v1/notes-here/notes/old\n",
        "{\n  \"priority\": 5,\n  \"text\": \"two words\"\n}\n",
        "#### Sample response\n\n```json\n{\n  \"data\": {\n    \"name\": \"old\"\n  }\n}\n```\n",
    ] {
        assert!(shown.contains(part), "{part}\nin\n{shown}");
    }
    assert!(page.contains("--header \"Content-Type: application/merge-patch+json\""));
    assert!(page.contains("$ vault write -force notes-here/wipe\n"));
    assert!(page.contains("The answer is `204 No Content`."));
}

#[test]
fn a_change_of_any_text_changes_the_page() {
    let before = whole(&examples());
    let note = Operation::Update;
    let changes: [fn(&mut Path<sample::Notes>); 6] = [
        |path| path.synopsis = "Changed.",
        |path| path.description = "Changed.",
        |path| path.parameters[0].description = "Changed.",
        |path| path.endpoints.get_mut(&Operation::Update).unwrap().summary = "Changed.",
        |path| {
            path.endpoints.get_mut(&Operation::Update).unwrap().fields[0].description = "Changed."
        },
        |path| path.endpoints.get_mut(&Operation::Update).unwrap().fields[1].default = Some("7"),
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let mut blueprint = sample::blueprint();
        let path = blueprint.paths.iter_mut();
        let mut path =
            path.filter(|path| path.endpoints.contains_key(&note) && !path.parameters.is_empty());
        change(path.next().unwrap());
        let after = page(&blueprint, "notes-here", &examples()).unwrap();
        assert_ne!(before, after, "change {place}");
    }
}

#[test]
fn an_operation_without_an_example_and_an_example_without_an_operation_are_told() {
    let blueprint = sample::blueprint();
    let missing = &examples()[1..];
    assert_eq!(
        page(&blueprint, "notes", missing),
        Err(ExampleError::NoExample("read of notes/pinned".to_owned()))
    );
    let mut stray = examples();
    stray.push(Example {
        operation: "list".to_owned(),
        ..examples()[6].clone()
    });
    assert_eq!(
        page(&blueprint, "notes", &stray),
        Err(ExampleError::NoOperation("list of wipe".to_owned()))
    );
}

#[test]
fn the_fields_of_an_answer_are_listed_with_their_types_and_meanings() {
    let page = whole(&examples());
    let read = between(&page, "### Read a note", "#### Sample request");
    assert_eq!(
        between(read, "#### Response fields\n\n", "\n\n"),
        "- `name` `(string)`\n\
         - `priority` `(integer or null)` – How urgent it is."
    );
    let delete = between(&page, "### Delete a note", "#### Sample request");
    assert!(!delete.contains("#### Response fields"));
}

#[test]
fn the_fields_within_a_field_are_listed_below_it() {
    let note = json!({"type": "object", "properties": {
        "at": {"type": "string", "format": "date-time", "nullable": true},
        "colour": {"type": "string", "enum": ["red", null]},
    }});
    let schema = json!({"properties": {
        "all": {"type": "array", "items": note, "description": "Every\nnote."},
        "by_name": {"type": "object", "additionalProperties": note},
        "names": {"type": "array", "items": {"type": "string"}},
        "one": note,
        "words": {"type": "object", "additionalProperties": {"type": "integer"}},
    }});
    let mut page = String::new();
    answered(&mut page, schema.as_object().unwrap(), 0);
    let within = "  - `at` `(timestamp or null)`\n  - `colour` `(string)` One of `red`.\n";
    assert_eq!(
        page,
        format!(
            "- `all` `(list of objects)` – Every note.\n{within}\
             - `by_name` `(map of objects)`\n{within}\
             - `names` `(list)`\n\
             - `one` `(object)`\n{within}\
             - `words` `(map)`\n"
        )
    );
}
