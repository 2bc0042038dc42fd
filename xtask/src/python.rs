//! The Python packages and the virtual environment in which their tests and checks run.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    project::{Project, files},
    shell, tools,
};

const REQUIREMENTS: &str = "python/requirements-test.txt";
const VERSION_MIN: (u32, u32) = (3, 10);

/// The virtual environment in `target/venv`.
pub(crate) struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// The environment with the tests' requirements and our packages; made anew or brought up to date when its inputs
    /// changed.
    pub(crate) fn prepare(project: &Project) -> Result<Self> {
        let environment = Self { folder: project.target.join("venv") };
        let packages = packages(project)?;
        let mut inputs = Vec::new();
        if !packages.is_empty() {
            inputs.push(project.root.join(REQUIREMENTS));
        }
        for package in &packages {
            let tests = package.join("tests");
            inputs.extend(files(package)?.into_iter().filter(|file| !file.starts_with(&tests)));
        }
        // The gRPC stubs are generated from these.
        inputs.extend(files(&project.root.join("crates/proto/proto"))?);
        let python = interpreter()?;
        environment.once("packages", &inputs, &python, || {
            environment.create(&python)?;
            if packages.is_empty() {
                return Ok(());
            }
            shell::run(environment.pip().args(["-r", REQUIREMENTS]).args(&packages))
        })?;
        Ok(environment)
    }

    /// Installs a file of requirements more, when it changed.
    pub(crate) fn add(&self, requirements: &Path) -> Result<()> {
        let name = requirements.to_string_lossy().replace('/', "_");
        let python = self.folder.to_string_lossy().into_owned();
        self.once(&name, &[requirements.to_owned()], &python, || shell::run(self.pip().arg("-r").arg(requirements)))
    }

    /// A program of the environment, with the environment's programs first in PATH.
    pub(crate) fn command(&self, program: &str) -> Command {
        let bin = self.folder.join("bin");
        let own = bin.join(program);
        let mut command = Command::new(if own.exists() { own.as_path() } else { Path::new(program) });
        let mut path = vec![bin];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        command.env("VIRTUAL_ENV", &self.folder);
        command
    }

    fn pip(&self) -> Command {
        let mut command = self.command("python");
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command
    }

    fn create(&self, python: &str) -> Result<()> {
        if self.folder.join("bin/python").exists() {
            return Ok(());
        }
        let make = || shell::run(Command::new(python).args(["-m", "venv"]).arg(&self.folder));
        if make().is_err() {
            // Debian and Ubuntu keep `venv` in a package of its own.
            tools::install("python3-venv", "python")?;
            make()?;
        }
        Ok(())
    }

    /// Does `work` unless it was done for exactly these inputs.
    fn once(&self, name: &str, inputs: &[PathBuf], salt: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        for input in inputs {
            let bytes = fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
            (input, bytes).hash(&mut hasher);
        }
        let fingerprint = format!("{:016x}", hasher.finish());
        let stamp = self.folder.join(format!(".{name}.fingerprint"));
        if fs::read_to_string(&stamp).is_ok_and(|done| done == fingerprint) {
            return Ok(());
        }
        work()?;
        fs::write(&stamp, fingerprint).with_context(|| format!("cannot write {}", stamp.display()))
    }
}

/// The folders of our Python packages.
pub(crate) fn packages(project: &Project) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(project.root.join("python")).into_iter().flatten() {
        let package = entry?.path();
        if package.join("pyproject.toml").exists() {
            packages.push(package);
        }
    }
    packages.sort();
    Ok(packages)
}

/// A Python that is new enough.
fn interpreter() -> Result<String> {
    let (major, minor) = VERSION_MIN;
    let test = format!("import sys; sys.exit(sys.version_info < ({major}, {minor}))");
    for name in ["python3", "python3.13", "python3.12", "python3.11", "python3.10"] {
        if shell::output(Command::new(name).args(["-c", &test])).is_ok() {
            return Ok(name.into());
        }
    }
    bail!("Python {major}.{minor} or later is needed, as `python3` in PATH")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn an_installation_is_done_again_only_when_an_input_changed_or_it_failed() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment { folder: folder.path().into() };
        let input = folder.path().join("requirements.txt");
        let done = Cell::new(0);
        let install = |text: &str, works: bool| {
            fs::write(&input, text).unwrap();
            let work = || {
                done.set(done.get() + 1);
                if works { Ok(()) } else { bail!("no network") }
            };
            environment.once("requirements", std::slice::from_ref(&input), "3.11", work).is_ok()
        };
        assert!(!install("a", false));
        assert!(install("a", true) && install("a", true));
        assert_eq!(done.get(), 2, "once failed, once done, once nothing to do");
        assert!(install("b", true));
        assert_eq!(done.get(), 3);
    }
}
