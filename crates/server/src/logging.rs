//! Logs: structured, one event a line, on standard error.

use std::io::IsTerminal as _;

use synapse_hub_core::{Code, Error, Result};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{Config, LogFormat};

/// Starts logging as the configuration says. To be called once, by the program.
///
/// # Errors
/// `invalid_config` when `log.level` cannot be read, `internal` when something logs already.
pub fn init_logging(config: &Config) -> Result<()> {
    // The storage engine reports its housekeeping as news; who wants that says so after it.
    let directives = format!("fjall=warn,lsm_tree=warn,{}", config.log.level);
    let filter = EnvFilter::builder().parse(directives).map_err(|error| {
        let what = format!("`log.level` cannot be {:?}: {error}; write `info`, `debug` or such", config.log.level);
        Error::new(Code::InvalidConfig, what).field("log.level")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.log.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    };
    started.map_err(|error| Error::new(Code::Internal, format!("logging cannot be started: {error}")))
}
