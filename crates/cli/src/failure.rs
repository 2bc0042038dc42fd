//! How commands fail: one line that says what to do, and an exit code that means something.

use std::{io::Write as _, process::ExitCode};

use synapse_hub_client::{Error, Refusal, hub_address};

use crate::{
    args::{Global, Output},
    output,
};

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    code: String,
    message: String,
    /// What was refused, a line each.
    details: Vec<String>,
    /// No hub answered, for the reason in `message`.
    unanswered: bool,
    /// How many events were stored before it.
    stored: u64,
}

impl Failure {
    /// Something failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::with(1, "failed", message)
    }

    /// The command line cannot be right.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::with(2, "usage", message)
    }

    /// The hub or its backend cannot be reached.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::with(3, "unreachable", message)
    }

    /// The input was refused.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::with(4, "refused", message)
    }

    /// The user stopped it.
    pub(crate) fn interrupted() -> Self {
        Self::with(130, "interrupted", String::new())
    }

    /// With a stable code of its own.
    pub(crate) fn with(exit: u8, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), details: Vec::new(), unanswered: false, stored: 0 }
    }

    /// Publishing failed; `place` names the event at an index of the batch.
    pub(crate) fn publishing(error: Error, place: impl Fn(usize) -> String) -> Self {
        let told = |refused: &Refusal| refusal(refused, &place(refused.index as usize));
        let (message, details) = match error.refused.as_slice() {
            [] => (error.message.clone(), Vec::new()),
            // All that there is to say stands in one line.
            [only] => (told(only), Vec::new()),
            many => (
                format!("{} events were refused, and their batch with them", many.len()),
                many.iter().map(|refused| format!("{} [{}]", told(refused), refused.code)).collect(),
            ),
        };
        let exit = if error.retryable { 3 } else { 4 };
        let unanswered = error.is_unreachable();
        Self { exit, code: error.code, message, details, unanswered, stored: 0 }
    }

    /// After so many events were stored.
    pub(crate) fn after(self, stored: u64) -> Self {
        Self { stored, ..self }
    }

    /// Tells the user, in the form that was asked for.
    pub(crate) fn report(mut self, global: &Global) -> ExitCode {
        if self.unanswered {
            let address = hub_address(&global.url).unwrap_or_else(|_| global.url.clone());
            self.message = format!(
                "no hub answers at {address} ({}); is it running (`synapse serve`)? `synapse doctor` looks closer",
                self.message
            );
        }
        if !self.message.is_empty() {
            let mut stderr = std::io::stderr().lock();
            let _ = match global.output {
                Output::Json => {
                    let mut object = serde_json::json!({"error": {"code": self.code, "message": self.message, "details": self.details}});
                    if self.stored > 0 {
                        object["error"]["stored"] = self.stored.into();
                    }
                    writeln!(stderr, "{object}")
                }
                Output::Human => {
                    let mut text = format!("{} {} [{}]", output::red_err("error:"), self.message, self.code);
                    for detail in &self.details {
                        text.push_str("\n  ");
                        text.push_str(detail);
                    }
                    if self.stored > 0 {
                        text.push_str(&format!("\n{} stored before this", output::count(self.stored)));
                    }
                    writeln!(stderr, "{text}")
                }
            };
        }
        ExitCode::from(self.exit)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::publishing(error, |index| format!("event {index}"))
    }
}

/// A refusal in words, at a place such as `line 3`, or nowhere.
pub(crate) fn refusal(refusal: &Refusal, place: &str) -> String {
    let field = if refusal.field.is_empty() { String::new() } else { format!("field {}", refusal.field) };
    let comma = if place.is_empty() || field.is_empty() { "" } else { ", " };
    let colon = if place.is_empty() && field.is_empty() { "" } else { ": " };
    format!("{place}{comma}{field}{colon}{}", refusal.message)
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever reads our output may stop at any line.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::with(0, "closed", String::new());
        }
        Self::failed(error.to_string())
    }
}

impl From<synapse_hub_server::Error> for Failure {
    fn from(error: synapse_hub_server::Error) -> Self {
        let code = error.code();
        let exit = if error.retryable() { 3 } else { 1 };
        // Most messages name the setting themselves.
        let unnamed = error.field_path().filter(|field| !error.message().contains(*field));
        let place = unnamed.map_or(String::new(), |field| format!("{field}: "));
        Self::with(exit, code.as_str(), format!("{place}{}", error.message()))
    }
}
