//! What people see: colours, tables, progress.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize as _, Stream};

use crate::args::{Color, Output};

/// Decides on colours for the whole process.
pub(crate) fn set_color(color: Color) {
    match color {
        Color::Auto => {}
        Color::Always => owo_colors::set_override(true),
        Color::Never => owo_colors::set_override(false),
    }
}

macro_rules! paints {
    ($($name:ident, $stream:ident, $method:ident;)*) => {
        $(pub(crate) fn $name(text: &str) -> String {
            text.if_supports_color(Stream::$stream, |text| text.$method()).to_string()
        })*
    };
}

paints! {
    dim, Stdout, dimmed;
    bold, Stdout, bold;
    cyan, Stdout, cyan;
    green, Stdout, green;
    yellow, Stdout, yellow;
    red, Stdout, red;
    red_err, Stderr, red;
    yellow_err, Stderr, yellow;
}

/// Writes a line to standard output.
pub(crate) fn line(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")
}

/// Prints a JSON value on one line.
pub(crate) fn json(value: &serde_json::Value) -> std::io::Result<()> {
    line(&value.to_string())
}

/// A table with these headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(headings);
    table
}

/// A progress bar on standard error, where that is a terminal and people are looking.
pub(crate) fn progress(output: Output, total: Option<u64>, what: &str) -> ProgressBar {
    if output == Output::Json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {human_pos} {per_sec} {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// A size as people read it.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}
