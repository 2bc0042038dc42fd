//! The promises of the configuration.

use std::io::Write as _;

use super::*;

fn sources(
    file: Option<&str>,
    environment: &[(&str, &str)],
    overrides: &[(&str, &str)],
) -> (ConfigSources, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = file.map(|text| {
        let path = folder.path().join("synapse.toml");
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    });
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    (ConfigSources { path, environment: Some(own(environment)), overrides: own(overrides) }, folder)
}

fn load(file: Option<&str>, environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Config> {
    Config::load(sources(file, environment, overrides).0)
}

/// As [`load`], with the file still there.
fn load_file(text: &str) -> Result<Config> {
    let (sources, folder) = sources(Some(text), &[], &[]);
    let config = Config::load(sources);
    drop(folder);
    config
}

#[test]
fn the_commented_default_file_is_the_default() {
    assert_eq!(load(None, &[], &[]).unwrap(), Config::default());
    assert_eq!(toml::from_str::<Config>(Config::default_toml()).unwrap(), Config::default());
    // Every setting is in it; those without a default are in a comment.
    let shown = toml::from_str::<toml::Table>(Config::default_toml()).unwrap();
    let whole = toml::Table::try_from(Config::default()).unwrap();
    for (key, value) in &whole {
        match (value, &shown[key]) {
            (toml::Value::Table(wanted), toml::Value::Table(shown)) => {
                wanted.keys().for_each(|name| assert!(shown.contains_key(name), "{key}.{name} is missing"));
            }
            (_, shown) => assert!(!shown.is_table(), "{key}"),
        }
    }
}

#[test]
fn what_comes_later_wins() {
    let file = "listen = \"127.0.0.1:1\"\nbackend = \"memory:\"\n[limits]\nevent_bytes = 1\nbatch_events = 1\njson_depth = 1\n";
    let (sources, _folder) = sources(
        Some(file),
        &[
            ("SYNAPSE_LIMITS__BATCH_EVENTS", "2"),
            ("SYNAPSE_LIMITS__JSON_DEPTH", "2"),
            ("SYNAPSE_SHUTDOWN_DEADLINE", "3s"),
            ("SYNAPSE_HUB_ID", "7"),
            ("SYNAPSE_HTTP__CORS_ORIGINS", "[\"https://a.example\"]"),
        ],
        &[("limits.json_depth", "3"), ("listen", "[::1]:0")],
    );
    let config = Config::load(sources).unwrap();
    assert_eq!((config.limits.event_bytes, config.limits.batch_events, config.limits.json_depth), (1, 2, 3));
    assert_eq!(config.backend, BackendUrl::memory());
    assert_eq!(config.listen, "[::1]:0");
    assert_eq!(config.hub_id, "7");
    assert_eq!(config.shutdown_deadline, Duration::from_secs(3));
    assert_eq!(config.http.cors_origins, ["https://a.example"]);
    assert_eq!(config.limits.body_bytes, Limits::default().body_bytes, "the rest of a table keeps its defaults");
}

#[test]
fn the_file_may_be_named_by_a_variable_and_must_then_be_there() {
    let (sources, _folder) = sources(Some("hub_id = \"from the file\""), &[], &[]);
    let path = sources.path.unwrap();
    let named = |path: &str| load(None, &[("SYNAPSE_CONFIG", path)], &[]);
    assert_eq!(named(path.to_str().unwrap()).unwrap().hub_id, "from the file");
    let error = named("/nowhere/synapse.toml").unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.message().contains("/nowhere/synapse.toml"), "{error}");
}

#[test]
fn variables_of_others_are_no_settings() {
    let variables = [
        ("SYNAPSE_URL", "http://synapse:8002"),
        ("SYNAPSE_SOURCE", "helox"),
        ("SYNAPSE_BIN", "target/debug/synapse"),
        ("SYNAPSE_PORT", "tcp://10.0.0.1:8002"),
        ("SYNAPSE_PORT_8002_TCP", "tcp://10.0.0.1:8002"),
        ("SYNAPSE_SERVICE_HOST", "10.0.0.1"),
        ("OTHER", "x"),
    ];
    assert_eq!(load(None, &variables, &[]).unwrap(), Config::default());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, field, words) in [
        ("lissten = 1", Some("lissten"), ["`lissten`", "synapse.toml"]),
        ("[limits]\nevents = 1", Some("limits.events"), ["`limits.events`", "synapse.toml"]),
        ("[topics.default]\npartition = 1", Some("topics.default.partition"), ["partition", "synapse.toml"]),
        ("[limits]\nevent_bytes = \"x\"", Some("limits.event_bytes"), ["`limits.event_bytes`", "synapse.toml"]),
        ("[limits]\nevent_bytes = 0", Some("limits.event_bytes"), ["at least 1", "limits.event_bytes"]),
        ("[topics.default]\npartitions = 0", Some("topics.default.partitions"), ["partitions", "1024"]),
        ("shutdown_deadline = \"soon\"", Some("shutdown_deadline"), ["\"soon\"", "10s"]),
        ("shutdown_deadline = 10", Some("shutdown_deadline"), ["duration", "10s"]),
        ("listen = \"8002\"", Some("listen"), ["127.0.0.1:8002", "\"8002\""]),
        ("listen = 8002", Some("listen"), ["`listen` is an address and a port", "\"8002\""]),
        ("backend = 6379", Some("backend"), ["a backend is written as", "synapse.toml"]),
        ("limits = 5", Some("limits"), ["`limits` in", "is a table of settings, not `5`"]),
        ("limits.event_bytes = -1", Some("limits.event_bytes"), ["a whole number from 0 on, not", "-1"]),
        ("limits.event_bytes = \"1 MiB\"", Some("limits.event_bytes"), ["a whole number from 0 on", "\"1 MiB\""]),
        ("topics.auto_create = 1", Some("topics.auto_create"), ["is `true` or `false`, not `1`", "synapse.toml"]),
        ("http.cors_origins = \"*\"", Some("http.cors_origins"), ["is a list, not \"*\"", "synapse.toml"]),
        ("log.format = \"xml\"", Some("log.format"), ["is `text` or `json`, not `xml`", "synapse.toml"]),
        ("log = true", Some("log"), ["is a table of settings, not `true`", "synapse.toml"]),
        ("backend = \"kafka://user:secret@x\"", Some("backend"), ["kafka", "synapse.toml"]),
        ("listen = ", None, ["TOML", "synapse.toml"]),
    ] {
        let error = load_file(text).unwrap_err();
        assert_eq!((error.code(), error.field_path()), (Code::InvalidConfig, field), "{text}: {error}");
        words.iter().for_each(|word| assert!(error.message().contains(word), "{text}: {word:?} not in {error}"));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = load(None, &[("SYNAPSE_LIMITS__EVENTS", "1")], &[]).unwrap_err();
    assert!(error.message().contains("SYNAPSE_LIMITS__EVENTS"), "{error}");
    let error = load(None, &[], &[("limits.event_bytes", "many")]).unwrap_err();
    assert!(error.message().contains("flag for `limits.event_bytes`"), "{error}");
}

#[test]
fn a_printed_configuration_reads_back_and_hides_the_password() {
    let (sources, _folder) =
        sources(None, &[("SYNAPSE_BACKEND", "redis://:secret@localhost"), ("SYNAPSE_REDIS__PASSWORD", "secret2")], &[]);
    let config = Config::load(sources.clone()).unwrap();
    assert_eq!(config.redis.password.expose(), "secret2");
    assert!(!format!("{config:?}").contains("secret"));
    let printed = Config::load(sources).unwrap().to_toml();
    assert!(!printed.contains("secret"));
    let again: Config = toml::from_str(&printed).unwrap();
    assert_eq!(again.limits, Limits::default());
}
