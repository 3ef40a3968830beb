//! The objects of a manifest, and their paths in the API.

/// One document of a manifest.
pub(super) struct Object {
    yaml: String,
    path: String,
}

impl Object {
    /// The document as written.
    pub(super) fn yaml(&self) -> &str {
        &self.yaml
    }

    /// The path of the object.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn of(yaml: &str) -> Self {
        let value = |key: &str| {
            let value = yaml.lines().find_map(|line| line.strip_prefix(key));
            value.map(|value| value.trim().to_owned())
        };
        let version = value("apiVersion: ").expect("an API version");
        let kind = value("kind: ").expect("a kind");
        let group = match version.contains('/') {
            true => format!("/apis/{version}"),
            false => format!("/api/{version}"),
        };
        let name = value("  name: ").expect("a name");
        let namespace = value("  namespace: ");
        let namespace = namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
        Self {
            yaml: yaml.to_owned(),
            path: format!("{group}{namespace}/{}s/{name}", kind.to_lowercase()),
        }
    }
}

/// The objects of a manifest, in its order.
pub(super) fn objects(manifest: &str) -> Vec<Object> {
    let manifest = manifest.strip_prefix("---\n").unwrap_or(manifest);
    manifest.split("\n---\n").map(Object::of).collect()
}
