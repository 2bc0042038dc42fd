//! Which of our crates may use which: the drawing in ARCHITECTURE.md, kept true.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

const PREFIX: &str = "synapse-hub-";

/// What each crate may use of ours, in its library and binary (tests may use more). A crate that is not here fails.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("proto", &[]),
    ("core", &[]),
    ("matcher", &[]),
    ("memory", &["core"]),
    ("embedded", &["core"]),
    ("redis", &["core"]),
    ("hub", &["core", "matcher"]),
    ("server", &["core", "matcher", "proto", "hub", "memory", "embedded", "redis"]),
    ("client", &["proto"]),
    ("cli", &["client", "proto", "server"]),
];

/// Fails when a crate of ours uses another that it may not.
pub(crate) fn check() -> Result<()> {
    let metadata =
        shell::output(Command::new("cargo").args(["metadata", "--format-version=1", "--no-deps", "--locked"]))?;
    let wrong = violations(&serde_json::from_str(&metadata)?)?;
    if !wrong.is_empty() {
        bail!("{}\nThe directions are in ARCHITECTURE.md and in xtask/src/architecture.rs.", wrong.join("\n"));
    }
    Ok(())
}

fn violations(metadata: &Value) -> Result<Vec<String>> {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().context("no packages in cargo's metadata")? {
        let Some(name) = package["name"].as_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{PREFIX}{name} has no entry in the list of what it may use"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().and_then(|name| name.strip_prefix(PREFIX));
            let for_tests = dependency["kind"] == "dev";
            if let Some(used) = used.filter(|used| !for_tests && !may.contains(used)) {
                wrong.push(format!("{PREFIX}{name} must not use {PREFIX}{used}"));
            }
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_forbidden_direction_is_found_and_tests_are_free() {
        let package = |name: &str, uses: Value| json!({"name": name, "dependencies": uses});
        let metadata = json!({"packages": [
            package("synapse-hub-core", json!([{"name": "synapse-hub-hub", "kind": null}, {"name": "bytes", "kind": null}])),
            package("synapse-hub-hub", json!([{"name": "synapse-hub-memory", "kind": "dev"}])),
            package("synapse-hub-new", json!([])),
        ]});
        assert_eq!(
            violations(&metadata).unwrap(),
            [
                "synapse-hub-core must not use synapse-hub-hub",
                "synapse-hub-new has no entry in the list of what it may use"
            ]
        );
    }
}
