//! The layers of the configuration: defaults, file, environment, flags.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider, Source,
    error::{Actual, Kind},
    providers::{Format as _, Toml},
    value::{Dict, Map, Value},
};
use synapse_hub_core::{Code, Error, Result};

use super::Config;

/// The file that is read when it is there and no other is named.
const DEFAULT_FILE: &str = "synapse.toml";
const ENVIRONMENT_PREFIX: &str = "SYNAPSE_";

/// Variables that start as the settings do and are none: those of clients, of ModelKit and of tests, and those that
/// Kubernetes gives to a pod beside a service called `synapse`.
fn is_no_setting(name: &str) -> bool {
    matches!(name, "URL" | "CONFIG" | "SOURCE" | "BIN" | "PORT")
        || name.starts_with("PORT_")
        || name.starts_with("SERVICE_")
}

/// What the configuration is read from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The file; `None` means the one named by `SYNAPSE_CONFIG`, else `./synapse.toml` where there is one.
    pub path: Option<PathBuf>,
    /// Settings by their dotted key, such as `limits.event_bytes`: the flags. They win over all else.
    pub overrides: Vec<(String, String)>,
    /// Environment variables; `None` means those of this process.
    pub environment: Option<Vec<(String, String)>>,
}

impl Config {
    /// Reads the configuration from all its sources.
    ///
    /// # Errors
    /// `invalid_config` naming the setting and where it stands.
    pub fn load(sources: ConfigSources) -> Result<Self> {
        let environment = sources.environment.unwrap_or_else(|| std::env::vars().collect());
        let mut figment = Figment::from(Toml::string(Self::default_toml()));
        if let Some(path) = file(sources.path, &environment)? {
            figment = figment.merge(Toml::file_exact(path));
        }
        for (name, value) in &environment {
            if let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX)
                && !is_no_setting(rest)
            {
                let key = rest.to_ascii_lowercase().replace("__", ".");
                figment = figment.merge(Setting { key, value, place: format!("the environment variable {name}") });
            }
        }
        for (key, value) in &sources.overrides {
            let place = format!("the flag for `{key}`");
            figment = figment.merge(Setting { key: key.clone(), value, place });
        }
        let config: Self = figment.extract().map_err(|error| describe(&error))?;
        config.validate()?;
        Ok(config)
    }
}

/// The file to read, if any.
fn file(named: Option<PathBuf>, environment: &[(String, String)]) -> Result<Option<PathBuf>> {
    let variable = environment.iter().find(|(name, value)| name == "SYNAPSE_CONFIG" && !value.is_empty());
    if let Some(path) = named.or_else(|| variable.map(|(_, value)| value.into())) {
        return match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(path)),
            Ok(_) => Err(unreadable(&path, "it is no file")),
            Err(error) => Err(unreadable(&path, &error.to_string())),
        };
    }
    let default = Path::new(DEFAULT_FILE);
    Ok(default.is_file().then(|| default.to_owned()))
}

fn unreadable(path: &Path, why: &str) -> Error {
    let what = format!("the configuration file {} cannot be read: {why}", path.display());
    Error::new(Code::InvalidConfig, what)
}

/// One setting from outside a file.
struct Setting<'a> {
    key: String,
    value: &'a str,
    place: String,
}

impl Provider for Setting<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        // A value is read as TOML would read it, and is text when it is nothing else.
        let value: Value = match self.value.parse() {
            Ok(value) => value,
            Err(impossible) => match impossible {},
        };
        // What only looks like a list or table, such as `[::1]:8002`, is text.
        let plain = matches!(value, Value::Array(..) | Value::Dict(..)) && !self.value.ends_with([']', '}']);
        let value = if plain { Value::from(self.value) } else { value };
        let nested = figment::util::nest(&self.key, value);
        let dict = nested.into_dict().ok_or_else(|| figment::Error::from("a setting needs a name".to_owned()))?;
        Ok(Profile::Default.collect(dict))
    }
}

/// What is wrong, with which setting, and where that stands.
fn describe(error: &figment::Error) -> Error {
    let place = error.metadata.as_ref().map_or_else(String::new, |metadata| match &metadata.source {
        Some(Source::File(path)) => format!(" in {}", path.display()),
        _ if metadata.name.starts_with("the ") => format!(" in {}", metadata.name),
        _ => String::new(),
    });
    let mut key = error.path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(name, known) => {
            if error.path.last().is_none_or(|last| last != name) {
                key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            }
            let table = key.rsplit_once('.').map_or("at the top level", |(table, _)| table);
            format!("there is no setting `{key}`{place}; {table} has {}", known.join(", "))
        }
        Kind::UnknownVariant(given, known) => format!("the setting `{key}`{place} is {}, not `{given}`", one_of(known)),
        Kind::InvalidType(given, wanted) | Kind::InvalidValue(given, wanted) => {
            format!("the setting `{key}`{place} is {}, not {}", wanted_in_words(wanted), given_in_words(given))
        }
        kind if key.is_empty() => format!("{kind}{place}"),
        kind => format!("the setting `{key}`{place} cannot be: {kind}"),
    };
    let error = Error::new(Code::InvalidConfig, what);
    if key.is_empty() { error } else { error.field(key) }
}

fn one_of(known: &[&str]) -> String {
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// What a setting is, from the name of its type.
fn wanted_in_words(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "bool" | "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a string" => "a text",
        _ if wanted.starts_with("struct ") => "a table of settings",
        _ => wanted,
    }
}

fn given_in_words(given: &Actual) -> String {
    match given {
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(value) => format!("`{value}`"),
        Actual::Signed(value) => format!("`{value}`"),
        Actual::Float(value) => format!("`{value}`"),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".into(),
        Actual::Map => "a table".into(),
        other => other.to_string(),
    }
}
