//! `synapse config`

use synapse_hub_server::{Config, ConfigSources};

use crate::{
    args::{self, Global, Output},
    failure::Failure,
    output,
};

pub(super) fn run(global: &Global, command: Option<&args::Config>) -> Result<(), Failure> {
    match command {
        None => output::line(Config::default_toml().trim_end())?,
        Some(args::Config::Show { config }) => {
            let config = load(config.clone())?;
            match global.output {
                Output::Human => output::line(config.to_toml().trim_end())?,
                Output::Json => {
                    let value: toml::Value =
                        toml::from_str(&config.to_toml()).map_err(|error| Failure::failed(error.to_string()))?;
                    output::json(&serde_json::json!(value))?;
                }
            }
        }
        Some(args::Config::Check { file }) => {
            load(Some(file.clone()))?;
            output::line(&format!("{} {} is a valid configuration", output::green("✓"), file.display()))?;
        }
    }
    Ok(())
}

fn load(path: Option<std::path::PathBuf>) -> Result<Config, Failure> {
    Ok(Config::load(ConfigSources { path, ..ConfigSources::default() })?)
}
