//! An API server's own check of the manifests.

use std::fs;

use super::kubernetes::Kubernetes;
use super::objects::objects;
use super::programs::Programs;
use super::site::{DEFINITIONS, sample, turn};

#[tokio::test]
async fn an_api_server_takes_every_manifest_in_a_dry_run() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let _turn = turn().await;
    let cluster = Kubernetes::new(&programs).await;
    let api = cluster.api();
    for name in DEFINITIONS {
        let definition = fs::read_to_string(programs.definitions.join(name));
        api.apply(&definition.expect("a resource definition")).await;
    }
    // Those of Vault Secrets Operator are not in its Go module.
    api.apply(&sample("schemas.yaml")).await;
    for (name, count, field) in [
        ("vault-secrets-operator.yaml", 4, "spec:"),
        ("external-secrets-operator.yaml", 4, "provider:"),
        ("agent-injector.yaml", 1, "serviceAccountName:"),
        ("roles.yaml", 3, "backoffLimit:"),
    ] {
        let manifest = sample(name);
        let documents = objects(&manifest);
        assert_eq!(documents.len(), count, "{name}");
        for object in documents {
            let answer = api.dry_run(&object).await;
            assert!(answer.is_success(), "{}: {answer}", object.path());
        }
        // A misspelt field is detected.
        let misspelt = manifest.replace(field, &format!("x{field}"));
        let mut refused = 0;
        for object in objects(&misspelt) {
            refused += usize::from(!api.dry_run(&object).await.is_success());
        }
        assert!(refused > 0, "{name}: `x{field}`");
    }
}
