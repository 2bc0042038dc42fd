//! The commands, as people and programs use them.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Hub, PATIENCE, Redis, synapse};

fn hub() -> (tempfile::TempDir, Hub) {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::embedded(folder.path());
    (folder, hub)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn events_are_published_filtered_and_replayed() {
    let (_folder, hub) = hub();
    let input: String = (0..1200)
        .map(|n| format!("{{\"event\":\"tick\",\"n\":{n},\"even\":{},\"version\":\"1.0\"}}\n", n % 2 == 0))
        .collect();
    let output = hub.run_with(&["publish", "ticks"], &input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1,200 stored"));

    let received =
        hub.must(&["subscribe", "ticks", "--from", "earliest", "--filter", "even=true", "-n", "600", "-o", "json"]);
    let received = lines(&received);
    assert_eq!(received.len(), 600);
    assert_eq!(received[599]["event"]["n"], 1198);
    assert_eq!(received[0]["event"]["version"], "1.0");
    let cursor = received[9]["cursor"].as_str().unwrap();
    let resumed = lines(&hub.must(&["tail", "ticks", "--from", cursor, "-n", "1", "-o", "json"]));
    assert_eq!(resumed[0]["event"]["n"], 19);

    let range = hub.must(&["replay", "ticks", "--from", "3", "--until", "5"]);
    assert_eq!(lines(&range).iter().map(|event| event["n"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3, 4]);
    let count =
        hub.must(&["replay", "ticks", "--filter", r#"{"n":[{"numeric":["<",10]}]}"#, "--dry-run", "-o", "json"]);
    assert_eq!(lines(&count)[0]["replayed"], 10);
    let copied = hub.must(&["replay", "ticks", "--to", "copy", "-o", "json"]);
    assert_eq!(lines(&copied)[0]["stored"], 1200);
    let first = lines(&hub.must(&["replay", "copy", "--until", "1"]));
    let original = lines(&hub.must(&["replay", "ticks", "--until", "1"]));
    assert_eq!(first, original, "ids and times are kept");

    let human = hub.must(&["subscribe", "ticks", "--from", "earliest", "-n", "1"]);
    assert!(human.contains("tick") && human.contains("n=0"), "{human}");
}

#[test]
fn one_event_can_be_put_together_from_flags() {
    let (_folder, hub) = hub();
    hub.must(&[
        "publish",
        "model-events",
        "--event",
        "model-ready",
        "--data",
        "model_name=a",
        "--data",
        "version=\"2\"",
        "--data",
        "accuracy=0.5",
    ]);
    let received = lines(&hub.must(&["replay", "model-events"]));
    assert_eq!(received[0]["event"], "model-ready");
    assert_eq!(received[0]["version"], "2");
    assert_eq!(received[0]["accuracy"], 0.5);
    let list = hub.must(&["publish", "model-events", r#"[{"event":"a"},{"event":"b"}]"#, "-o", "json"]);
    assert_eq!(lines(&list).len(), 2);
}

#[test]
fn lines_of_a_slow_producer_are_stored_as_they_come() {
    let (_folder, hub) = hub();
    hub.must(&["topics", "create", "slow"]);
    let mut command = synapse(&["publish", "slow", "--url", &hub.url()]);
    let mut publishing = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = publishing.stdin.take().unwrap();
    for n in 0..3 {
        // The start of the next line must not hold this one back either.
        write!(input, "{{\"event\":\"tick\",\"n\":{n}}}\n{{").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while lines(&hub.must(&["replay", "slow"])).last().is_none_or(|event| event["n"] != n) {
            assert!(Instant::now() < deadline, "event {n} is held back");
        }
        writeln!(input, "\"event\":\"other\"}}").unwrap();
    }
    drop(input);
    assert!(publishing.wait().unwrap().success());
}

#[test]
fn batches_are_split_by_bytes_as_well() {
    let (_folder, hub) = hub();
    let pad = "x".repeat(50_000);
    let events: Vec<String> = (0..500).map(|n| format!("{{\"event\":\"big\",\"n\":{n},\"pad\":\"{pad}\"}}")).collect();
    for input in [events.join("\n"), format!("[{}]", events.join(",\n"))] {
        let output = hub.run_with(&["publish", "big"], &input);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && told.contains("500 stored"), "{told}");
    }
}

#[test]
fn a_topic_is_created_as_the_hub_is_configured_unless_it_is_said_otherwise() {
    let settings =
        ["topics.default.partitions=3", "topics.default.durability=memory", "topics.default.retention_ms=1000"];
    let hub = Hub::start("memory:", &settings);
    let create = |arguments: &[&str]| -> Value {
        let arguments = [&["topics", "create", "-o", "json"], arguments].concat();
        serde_json::from_str::<Value>(&hub.must(&arguments)).unwrap()["settings"].clone()
    };
    let made = create(&["made"]);
    assert_eq!(
        (&made["partitions"], &made["durability"], &made["retention_ms"]),
        (&json!(3), &json!("memory"), &json!(1000))
    );
    let own =
        create(&["own", "--partitions", "2", "--durability", "stored", "--retention", "0s", "--layout", "packed"]);
    assert_eq!(
        (&own["partitions"], &own["durability"], &own["retention_ms"]),
        (&json!(2), &json!("stored"), &Value::Null)
    );
    assert_eq!(own["layout"], "packed");
}

#[test]
fn topics_are_listed_described_created_trimmed_and_deleted() {
    let (_folder, hub) = hub();
    hub.must(&["topics", "create", "jobs", "--partitions", "3", "--durability", "synced", "--retention", "7days"]);
    let described: Value = serde_json::from_str(&hub.must(&["topics", "describe", "jobs", "-o", "json"])).unwrap();
    assert_eq!(described["settings"]["partitions"], 3);
    assert_eq!(described["settings"]["durability"], "synced");
    assert_eq!(described["settings"]["retention_ms"], 7 * 86_400_000);
    assert!(described["durability"].as_str().unwrap().contains("fsync"));
    let again = hub.run(&["topics", "create", "jobs"]);
    assert_eq!(again.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&again.stderr).contains("topic_exists"));

    let events: Vec<String> = (0..10).map(|n| format!("{{\"event\":\"t\",\"n\":{n}}}")).collect();
    let mut arguments = vec!["publish", "ticks"];
    arguments.extend(events.iter().map(String::as_str));
    hub.must(&arguments);
    assert!(hub.must(&["topics", "list"]).contains("ticks"));
    let none = hub.run(&["topics", "list", "nopes"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("no topic matches `nopes`"), "{none:?}");
    assert_eq!(hub.run(&["topics", "trim", "ticks", "--keep", "4"]).status.code(), Some(2), "nobody can be asked");
    let trimmed: Value =
        serde_json::from_str(&hub.must(&["topics", "trim", "ticks", "--keep", "4", "--yes", "-o", "json"])).unwrap();
    assert_eq!(trimmed["removed"], 6);
    let output = hub.run(&["subscribe", "ticks", "--from", "2", "-n", "1"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("gap:"), "{output:?}");
    hub.must(&["topics", "delete", "ticks", "--yes"]);
    assert_eq!(hub.run(&["topics", "describe", "ticks"]).status.code(), Some(4));
}

#[test]
fn exit_codes_and_errors_say_what_to_do() {
    let (_folder, hub) = hub();
    let refused = hub.run_with(&["publish", "ticks"], "{\"event\":\"a\"}\n{\"n\":1}\nnonsense\n");
    assert_eq!(refused.status.code(), Some(4));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("line 2, field event") && told.contains("line 3") && told.contains("invalid_json"), "{told}");
    let bad_filter = hub.run(&["subscribe", "ticks", "--filter", r#"{"a":[{"prefxi":"x"}]}"#]);
    assert_eq!(bad_filter.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&bad_filter.stderr).contains("invalid_filter"));
    assert_eq!(hub.run(&["subscribe", "ticks", "--filter", "x"]).status.code(), Some(2));
    assert_eq!(hub.run(&["subscribe", "ticks", "--from", "yesterday"]).status.code(), Some(4));
    assert_eq!(hub.run(&["publish", "no spaces", "{}"]).status.code(), Some(4));
    for arguments in [["topics", "list"].as_slice(), &["publish", "ticks", "{}"], &["subscribe", "ticks"]] {
        let started = Instant::now();
        let nobody = synapse(arguments).args(["--url", "http://127.0.0.1:1"]).output().unwrap();
        let told = String::from_utf8(nobody.stderr).unwrap();
        assert_eq!(nobody.status.code(), Some(3), "{arguments:?}: {told}");
        assert!(started.elapsed() < Duration::from_secs(10), "{arguments:?} tries for too long");
        assert!(
            told.contains("synapse serve") && told.contains("at http://127.0.0.1:1 (Connection refused"),
            "{arguments:?}: {told}"
        );
    }
    let https = synapse(&["topics", "list", "--url", &format!("https://127.0.0.1:{}", hub.port)]).output().unwrap();
    assert_eq!(https.status.code(), Some(2));
    let told = String::from_utf8(https.stderr).unwrap();
    assert!(told.contains("does not have") && told.contains("http://") && !told.contains("serve"), "{told}");
    // Nobody can say what listens at the default port here; only that it is the one that is asked.
    let portless = synapse(&["doctor", "--url", "localhost"]).output().unwrap();
    assert!(String::from_utf8_lossy(&portless.stdout).contains("localhost:8002"), "{portless:?}");
    let json = synapse(&["topics", "list", "--url", "http://127.0.0.1:1", "-o", "json"]).output().unwrap();
    let error: Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!(error["error"]["code"], "unreachable");
    assert_eq!(synapse(&["nonsense"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn config_prints_its_default_checks_files_and_hides_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let default = synapse(&["config"]).output().unwrap();
    let file = folder.path().join("synapse.toml");
    std::fs::write(&file, &default.stdout).unwrap();
    assert!(synapse(&["config", "check"]).arg(&file).output().unwrap().status.success(), "the default is a valid file");
    std::fs::write(&file, "listne = \"x\"\n").unwrap();
    let bad = synapse(&["config", "check"]).arg(&file).output().unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("listne"));
    let shown = synapse(&["config", "show"]).env("SYNAPSE_BACKEND", "redis://user:secret@host:6379").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("host") && !shown.contains("secret"), "{shown}");
}

#[test]
fn doctor_tells_a_good_hub_from_an_absent_one_and_from_something_else() {
    let (_folder, hub) = hub();
    let good: Value = serde_json::from_str(&hub.must(&["doctor", "-o", "json"])).unwrap();
    assert!(good.as_array().unwrap().iter().all(|check| check["result"] != "error"), "{good}");
    let checks: Vec<&str> = good.as_array().unwrap().iter().map(|check| check["check"].as_str().unwrap()).collect();
    assert!(checks.contains(&"hub clock") && checks.contains(&"backend clock"), "{checks:?}");
    let memory = hub.must(&["doctor", "--backend", "memory:"]);
    let unusual: Vec<&str> = memory.lines().filter(|line| line.starts_with('!')).collect();
    assert!(!unusual.is_empty() && unusual.iter().all(|line| line.contains(';')), "{memory}");
    let redis = Redis::start(&[]);
    let redis = hub.must(&["doctor", "--backend", &redis.url()]);
    assert!(redis.contains("needs `appendonly yes` and `appendfsync always`"), "{redis}");
    let absent = synapse(&["doctor", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(absent.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&absent.stdout).contains("nothing listens"));
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    let silent = synapse(&["doctor", "--url", &url]).output().unwrap();
    assert_eq!(silent.status.code(), Some(3));
    let locked = hub.run(&["doctor", "--backend", &format!("embedded:{}", _folder.path().display())]);
    assert!(String::from_utf8_lossy(&locked.stdout).contains("storage_locked"), "{locked:?}");
    let scheme = synapse(&["doctor", "--url", "ftp://localhost"]).output().unwrap();
    assert!(String::from_utf8_lossy(&scheme.stdout).contains("`ftp`"), "{scheme:?}");
}

#[test]
fn doctor_leaves_everything_as_it_was() {
    let (folder, hub) = hub();
    let (absent, empty) = (folder.path().join("absent"), folder.path().join("empty"));
    std::fs::create_dir(&empty).unwrap();
    for (path, said) in [(&absent, "no folder"), (&empty, "is empty")] {
        let found = hub.must(&["doctor", "--backend", &format!("embedded:{}", path.display())]);
        assert!(found.contains(said), "{found}");
    }
    assert!(!absent.exists());
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn completions_and_help_are_there_for_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = synapse(&["completions", shell]).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("tail"), "{shell}");
    }
    let help = String::from_utf8(synapse(&["--help"]).output().unwrap().stdout).unwrap();
    assert!(help.contains("[alias: tail]"), "{help}");
    let help = String::from_utf8(synapse(&["publish", "--help"]).output().unwrap().stdout).unwrap();
    let (own, global) = help.split_once("Global options:").unwrap();
    for option in ["--url", "--output", "--color"] {
        assert!(global.contains(option) && !own.contains(option), "{option}: {help}");
    }
    for command in ["serve", "publish", "subscribe", "tail", "topics", "replay", "bench", "config", "doctor"] {
        assert!(synapse(&[command, "--help"]).output().unwrap().status.success(), "{command}");
    }
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let (_folder, hub) = hub();
    let input: String = (0..20_000).map(|n| format!("{{\"event\":\"tick\",\"n\":{n}}}\n")).collect();
    assert!(hub.run_with(&["publish", "ticks"], &input).status.success());
    let mut child = synapse(&["replay", "ticks", "--url", &hub.url()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn bench_measures_a_running_hub() {
    let (_folder, hub) = hub();
    for arguments in [
        ["bench", "publish", "--events", "2000", "-o", "json"].as_slice(),
        &["bench", "e2e", "--events", "2000", "--subscriptions", "7", "-o", "json"],
        &["bench", "latency", "--events", "20", "-o", "json"],
    ] {
        let result: Value = serde_json::from_str(hub.must(arguments).lines().last().unwrap()).unwrap();
        assert!(result["events_per_second"].as_f64().unwrap() > 0.0, "{result}");
        assert!(result["cpu_seconds"].as_f64().is_some(), "{result}");
    }
    let latency = hub.must(&["bench", "latency", "--events", "20"]);
    assert!(!latency.contains("events/s") && latency.contains("p99"), "{latency}");
    for nothing in ["--events", "--batch"] {
        assert_eq!(hub.run(&["bench", "publish", nothing, "0"]).status.code(), Some(2), "{nothing}");
    }
}

#[test]
fn the_cursor_at_the_end_is_that_of_the_last_event_printed() {
    let (_folder, hub) = hub();
    let input: String = (1..=5).map(|n| format!("{{\"event\":\"tick\",\"n\":{n}}}\n")).collect();
    assert!(hub.run_with(&["publish", "ticks"], &input).status.success());
    for (limit, cursor) in [("2", "ticks/0@2"), ("5", "ticks/0@5")] {
        let cut = hub.run(&["subscribe", "ticks", "--from", "earliest", "--cursor", "-n", limit]);
        assert_eq!(String::from_utf8(cut.stderr).unwrap().trim(), cursor);
    }
    let resumed = lines(&hub.must(&["subscribe", "ticks", "--from", "ticks/0@2", "-n", "1", "-o", "json"]));
    assert_eq!(resumed[0]["event"]["n"], 3);
}

#[test]
fn a_topic_that_does_not_exist_is_told() {
    let (_folder, hub) = hub();
    let mut command = synapse(&["subscribe", "nope", "any.*", "--url", &hub.url()]);
    let mut waiting = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut told).unwrap();
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert_eq!(told, "no topic `nope` yet; waiting for it\n");
    let replayed = hub.run(&["replay", "nope"]);
    assert_eq!(replayed.status.code(), Some(4));
    let told = String::from_utf8(replayed.stderr).unwrap();
    assert!(told.contains("no topic `nope`") && told.contains("topic_not_found"), "{told}");
    assert!(hub.run(&["replay", "nope.*"]).status.success(), "a pattern may match nothing");
}

#[test]
fn a_publish_that_fails_later_says_what_is_stored_and_names_the_line() {
    let (_folder, hub) = hub();
    let mut input: Vec<String> = (0..1299).map(|n| format!("{{\"event\":\"tick\",\"n\":{n}}}")).collect();
    input.insert(1000, "{\"n\":1}".into());
    // Blank lines are lines.
    input.insert(7, String::new());
    let file = _folder.path().join("events.ndjson");
    std::fs::write(&file, input.join("\n")).unwrap();
    let publish = ["publish", "ticks", "--file", file.to_str().unwrap()];
    let failed = hub.run(&publish);
    assert_eq!(failed.status.code(), Some(4));
    let told = String::from_utf8(failed.stderr).unwrap();
    assert!(told.contains("1,000 stored before this") && told.contains("line 1002, field event"), "{told}");
    assert_eq!(told.matches("[invalid_event]").count(), 1, "{told}");
    assert_eq!(told.lines().count(), 2, "{told}");

    let failed = hub.run(&[&publish[..], &["-o", "json"]].concat());
    let error: Value = serde_json::from_slice(&failed.stderr).unwrap();
    assert_eq!(error["error"]["stored"], 1000, "{error}");
    assert_eq!(lines(std::str::from_utf8(&failed.stdout).unwrap()).len(), 1000);

    let partial = hub.run(&[&publish[..], &["-o", "json", "--partial"]].concat());
    assert_eq!(partial.status.code(), Some(4));
    assert_eq!(lines(std::str::from_utf8(&partial.stdout).unwrap()).len(), 1299);
    let told = lines(std::str::from_utf8(&partial.stderr).unwrap());
    assert_eq!((&told[0]["refused"]["line"], &told[0]["refused"]["field"]), (&json!(1002), &json!("event")));

    let single = hub.run(&["publish", "ticks", "{}"]);
    let told = String::from_utf8(single.stderr).unwrap();
    assert!(told.starts_with("error: field event: ") && told.lines().count() == 1, "{told}");
}

#[test]
fn json_of_a_publish_has_the_id_the_durability_and_what_was_there_before() {
    let (_folder, hub) = hub();
    hub.must(&["topics", "create", "jobs", "--dedup-window", "1h"]);
    let events = r#"[{"event":"a","id":"own","source":"s"},{"event":"b","source":"s"}]"#;
    let first = lines(&hub.must(&["publish", "jobs", events, "-o", "json"]));
    assert_eq!((&first[0]["id"], &first[0]["deduplicated"]), (&json!("own"), &Value::Null));
    assert!(first[1]["id"].as_str().unwrap().len() > 20, "{first:?}");
    assert!(first[0]["durability"].as_str().unwrap().contains("survives the hub"), "{first:?}");
    let again = lines(&hub.must(&["publish", "jobs", r#"{"event":"a","id":"own","source":"s"}"#, "-o", "json"]));
    assert_eq!((&again[0]["id"], &again[0]["deduplicated"]), (&json!("own"), &json!(true)));
    assert_eq!(again[0]["position"], first[0]["position"]);
}

#[test]
fn events_get_the_source_and_the_key_of_the_call() {
    let (_folder, hub) = hub();
    hub.must(&["topics", "create", "jobs", "--partitions", "16"]);
    let publish = |arguments: &[&str]| {
        let mut command = synapse(&["publish", "jobs", "-o", "json", "--url", &hub.url()]);
        let output = command.args(arguments).env("SYNAPSE_SOURCE", "from-env").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        lines(std::str::from_utf8(&output.stdout).unwrap())
    };
    let many: Vec<String> = (0..20).map(|n| format!("{{\"event\":\"t\",\"n\":{n}.0}}")).collect();
    let list = format!("[{}]", many.join(","));
    let keyed = publish(&["--key", "run-7", &list]);
    assert!(keyed.iter().all(|placed| placed["partition"] == keyed[0]["partition"]), "{keyed:?}");
    let again =
        publish(&["--key", "run-7", r#"{"event":"u","source":"own","id":"1","timestamp":"2025-01-01T00:00:00Z"}"#]);
    assert_eq!((&again[0]["partition"], &again[0]["id"]), (&keyed[0]["partition"], &json!("1")));
    publish(&["--source", "from-flag", r#"{"event":"v"}"#]);
    let text = hub.must(&["replay", "jobs"]);
    assert!(text.contains("\"n\":19.0"), "{text}");
    let stored = lines(&text);
    let of = |kind: &str| stored.iter().find(|event| event["event"] == kind).unwrap();
    assert_eq!(of("t")["source"], "from-env");
    assert_eq!((&of("u")["source"], &of("u")["timestamp"]), (&json!("own"), &json!("2025-01-01T00:00:00Z")));
    assert_eq!(of("v")["source"], "from-flag");
    let refused = hub.run_with(&["publish", "jobs", "--key", "k"], "{\"event\":\"t\"}\n\nnonsense\n");
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("line 3: "), "{refused:?}");
}
