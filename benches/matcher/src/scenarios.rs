//! Sets of rules, and the events that they are for.

use serde_json::{Value, json};

/// A set of rules: the pattern of rule `i`.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) pattern: fn(usize) -> Value,
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "exact-1",
        what: "one exact field, each rule another value",
        pattern: |i| json!({"model_name": [model(i)]}),
    },
    Scenario {
        name: "exact-3",
        what: "three exact fields: one value that all rules share, one of 10, one of its own",
        pattern: |i| json!({"event": ["model-ready"], "framework": [framework(i)], "model_name": [model(i)]}),
    },
    Scenario {
        name: "exact-3-combined",
        what: "three exact fields of which none is selective: one value that all share, one of 10, one of 1,000",
        pattern: |i| json!({"event": ["model-ready"], "framework": [framework(i / 1000)], "region": [region(i)]}),
    },
    Scenario {
        name: "lists",
        what: "two exact fields, one of them a list of five values",
        pattern: |i| json!({"event": ["model-ready"], "model_name": (0..5).map(|k| model(i * 5 + k)).collect::<Vec<_>>()}),
    },
    Scenario {
        name: "prefix",
        what: "a prefix, `s3://models/NAME/`",
        pattern: |i| json!({"artifact": [{"prefix": format!("s3://models/{}/", model(i))}]}),
    },
    Scenario {
        name: "suffix",
        what: "a suffix, `NAME/weights.pt`",
        pattern: |i| json!({"artifact": [{"suffix": format!("{}/weights.pt", model(i))}]}),
    },
    Scenario {
        name: "wildcard",
        what: "a wildcard with two stars, `s3://*/NAME/*.pt`",
        pattern: |i| json!({"artifact": [{"wildcard": format!("s3://*/{}/*.pt", model(i))}]}),
    },
    Scenario {
        name: "contains",
        what: "a wildcard without a fixed end, `*NAME*`",
        pattern: |i| json!({"artifact": [{"wildcard": format!("*{}*", model(i))}]}),
    },
    Scenario {
        name: "numeric",
        what: "a narrow numeric range and an exact field that all share",
        pattern: |i| json!({"event": ["model-ready"], "metrics": {"loss": [{"numeric": [">=", i as f64 / 1e5, "<", (i as f64 + 1.5) / 1e5]}]}}),
    },
    Scenario {
        name: "ignore-case",
        what: "equality whatever the case",
        pattern: |i| json!({"model_name": [{"equals-ignore-case": model(i).to_uppercase()}]}),
    },
    Scenario {
        name: "cidr",
        what: "a block of addresses, which up to two rules share",
        pattern: |i| json!({"host": [{"cidr": format!("10.{}.{}.0/24", i / 256 % 256, i % 256)}]}),
    },
    Scenario {
        name: "mixed",
        what: "a tenth of each of the others but `cidr` and `lists`, and `anything-but`",
        pattern: mixed,
    },
];

fn mixed(i: usize) -> Value {
    let others = [
        "exact-1",
        "exact-3",
        "exact-3-combined",
        "prefix",
        "suffix",
        "wildcard",
        "contains",
        "numeric",
        "ignore-case",
    ];
    match others.get(i % 10).and_then(|name| find(name)) {
        Some(scenario) => (scenario.pattern)(i),
        None => json!({"event": [{"anything-but": ["model-failed", "model-deleted"]}], "model_name": [model(i)]}),
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

/// An event of 300 bytes that about one rule of each scenario wants.
pub(crate) fn event(i: usize) -> String {
    let mut event = json!({
        "event": "model-ready",
        "model_name": model(i),
        "version": format!("v{}.0", i % 7),
        "framework": framework(i),
        "region": region(i),
        "artifact": format!("s3://models/{}/weights.pt", model(i)),
        "metrics": {"loss": (i as f64 + 0.5) / 1e5, "accuracy": 0.9731},
        "host": format!("10.{}.{}.17", i / 256 % 256, i % 256),
        "ready": true,
        "parameters": 7_241_732_096u64,
        "note": "",
    });
    let length = event.to_string().len();
    event["note"] = json!("x".repeat(300usize.saturating_sub(length)));
    event.to_string()
}

fn model(i: usize) -> String {
    format!("classifier-{i:06}")
}

fn framework(i: usize) -> String {
    format!("framework-{}", i % 10)
}

fn region(i: usize) -> String {
    format!("region-{}", i % 1000)
}
