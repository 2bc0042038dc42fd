//! `synapse serve`

use synapse_hub_server::{Config, ConfigSources, Ready, init_logging, serve};

use crate::{
    args::{Global, Output, Serve},
    failure::Failure,
    output,
};

pub(super) async fn run(global: &Global, args: &Serve) -> Result<(), Failure> {
    let mut overrides = Vec::new();
    let named = [("listen", &args.listen), ("backend", &args.backend), ("log.level", &args.log)];
    for (key, value) in named {
        overrides.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    for text in &args.set {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::usage(format!("--set {text:?} is not KEY=VALUE")));
        };
        overrides.push((key.to_owned(), value.to_owned()));
    }
    let config = Config::load(ConfigSources { path: args.config.clone(), overrides, ..ConfigSources::default() })?;
    init_logging(&config)?;
    let form = global.output;
    serve(config, move |ready| {
        // Nobody may be reading; the hub runs all the same.
        let _ = announce(form, ready);
    })
    .await?;
    if form == Output::Human {
        let _ = output::line("stopped; everything that was accepted is stored");
    }
    Ok(())
}

fn announce(form: Output, ready: &Ready) -> std::io::Result<()> {
    let url = format!("http://{}", ready.address);
    if form == Output::Json {
        let object = serde_json::json!({
            "listening": url, "backend": ready.backend.to_string(), "hub_id": ready.hub_id, "version": env!("CARGO_PKG_VERSION"),
        });
        return output::json(&object);
    }
    // Other than by default, the client must be told where the hub is.
    let at = if url == synapse_hub_client::DEFAULT_URL { String::new() } else { format!(" --url {url}") };
    output::line(&format!(
        "\n  {} {}\n\n  {}  {}   (HTTP, gRPC; {url}/health, /metrics, /openapi.json)\n  {}  {}\n\n  try   \
         {}\n        {}\n",
        output::bold("synapse"),
        env!("CARGO_PKG_VERSION"),
        output::dim("listening"),
        output::cyan(&url),
        output::dim("stored in"),
        output::cyan(&ready.backend.to_string()),
        output::green(&format!(
            "synapse publish{at} model-events '{{\"event\": \"model-ready\", \"model_name\": \"classifier\", \"version\": \"v2.0\"}}'"
        )),
        output::green(&format!("synapse subscribe{at} model-events --from earliest")),
    ))
}
