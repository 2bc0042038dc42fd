//! Documents that tell the truth: links lead somewhere, and paths that ARCHITECTURE.md names exist.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::project::{Project, files};

/// Fails when a Markdown file of the project has a broken relative link, or ARCHITECTURE.md names a path that is not there.
pub(crate) fn check(project: &Project) -> Result<()> {
    let mut wrong = Vec::new();
    for file in files(&project.root)?.iter().filter(|file| file.extension().is_some_and(|ending| ending == "md")) {
        let shown = file.strip_prefix(&project.root).unwrap_or(file).display();
        let text = read(file)?;
        for link in links(&text) {
            if let Some(why) = broken(file, &text, link)? {
                wrong.push(format!("{shown}: the link {link} leads nowhere: {why}"));
            }
        }
        if file.ends_with("ARCHITECTURE.md") {
            let missing = paths(&text).filter(|path| !exists(&project.root, path));
            wrong.extend(missing.map(|path| format!("{shown}: there is no {path}")));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Whether a path is there from the root, or, written as `hub/tail.rs`, in the sources of a crate.
fn exists(root: &Path, path: &str) -> bool {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let sources = ["crates", "crates/backends"].map(|folder| root.join(folder).join(name).join("src").join(rest));
    root.join(path).exists() || sources.iter().any(|path| path.exists())
}

/// Why a link is broken, if it is. Only links within the project are followed.
fn broken(file: &Path, text: &str, link: &str) -> Result<Option<String>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = file.parent().unwrap_or(Path::new("")).join(path);
    if !path.is_empty() && !target.exists() {
        return Ok(Some(format!("there is no {path}")));
    }
    let Some(anchor) = anchor else { return Ok(None) };
    let text = if path.is_empty() { text.to_owned() } else { read(&target)? };
    let found = headings(&text).any(|heading| slug(heading) == anchor);
    Ok((!found).then(|| format!("no heading gives #{anchor}")))
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.filter_map(|(target, _)| target.split_whitespace().next())
    })
}

/// What stands in backticks and looks like a path of this project: `crates/core/src/lib.rs`, `xtask/`, not `/v1/topics`.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    const MEDIA_TYPES: [&str; 2] = ["application/", "text/"];
    let quoted = prose(text).flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted.filter(|word| {
        let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        plain
            && word.contains('/')
            && !word.starts_with('/')
            && !MEDIA_TYPES.iter().any(|media| word.starts_with(media))
    })
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// GitHub's anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A `first` Event, in 1 minute\n\
        See [here](docs/a.md#x \"title\") and [there](https://example.com), `crates/core/src/lib.rs`, `/v1/x`, `text/plain`.\n\
        ```\n[not](a/link) `not/a/path`\n```\n## Two\n[up](#two)";

    #[test]
    fn links_and_paths_are_found_outside_of_code() {
        assert_eq!(links(TEXT).collect::<Vec<_>>(), ["docs/a.md#x", "https://example.com", "#two"]);
        assert_eq!(paths(TEXT).collect::<Vec<_>>(), ["crates/core/src/lib.rs"]);
    }

    #[test]
    fn a_link_is_broken_when_its_file_or_heading_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("README.md");
        std::fs::write(folder.path().join("b.md"), TEXT).unwrap();
        for (link, whole) in [
            ("b.md", true),
            ("b.md#a-first-event-in-1-minute", true),
            ("b.md#three", false),
            ("c.md", false),
            ("#two", true),
            ("#three", false),
            ("https://example.com/c.md", true),
        ] {
            assert_eq!(broken(&file, TEXT, link).unwrap().is_none(), whole, "{link}");
        }
    }
}
