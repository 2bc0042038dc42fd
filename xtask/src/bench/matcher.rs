//! Matching an event against many rules, next to other libraries on the same rules and events.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    Case, Session,
    report::{Figure, Peer, Section, Series, Target, Unit},
};
use crate::shell;

const FOLDER: &str = "benches/matcher";
const RULES: usize = 100_000;
const SIZES: [usize; 4] = [100, 1_000, 10_000, RULES];
/// What a step of a measurement (building, a pass over the events) may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What a set of rules should cost at 100,000 rules, in microseconds an event.
const TARGETS: [(&str, f64); 2] = [("exact-1", 2.0), ("exact-3", 5.0)];
/// The sets that peers are measured on.
const WITH_PEERS: [&str; 7] = ["exact-1", "exact-3", "lists", "prefix", "wildcard", "numeric", "mixed"];

/// A set of rules, as `matcher-bench list` names it.
#[derive(Deserialize)]
struct Scenario {
    name: String,
    what: String,
}

/// What a harness prints.
#[derive(Deserialize, Clone)]
struct Measured {
    build_us_per_rule: f64,
    bytes_per_rule: f64,
    match_us: f64,
    insert_us: f64,
    /// Of the first events, the rules that they match.
    matches: Vec<Vec<u32>>,
}

/// A library under measurement: its name and how it is started, without its arguments.
struct Engine {
    name: &'static str,
    command: Vec<String>,
}

/// The measurements of a set of rules, by engine and number of rules.
type Found = RefCell<BTreeMap<(&'static str, usize), Vec<Measured>>>;

pub(super) fn run(session: &Session) -> Result<Section> {
    let bench = Bench::prepare(session)?;
    let mut figures = Vec::new();
    let mut notes = bench.missing.clone();
    for scenario in &bench.scenarios {
        let found = bench.measure(session, scenario, &mut notes)?;
        notes.extend(bench.disagreements(scenario, &found));
        figures.extend(bench.figures(scenario, &found));
    }
    let mut method = format!(
        "Events are JSON of 300 bytes, and a match includes reading them; each set has {RULES} rules, of which about one \
         matches. Every measurement is a process of its own on one core; the time of an event is the median pass over \
         2,000 events, that of an insertion the median of 200 into the full set, from the rule's JSON until the next event \
         has seen the rule, with a snapshot kept. Memory is what the full set holds (resident for Rust, the heap after \
         collection for Java and Go). Peers: `quamina` is the crate, `event-ruler` the Java library, `quamina (Go)` the \
         original. One that cannot take a set within {} s a step is given a tenth of the rules, and again. Which rules the \
         first 200 events match is compared with every peer in the same runs.\n\nSets of rules:\n",
        LIMIT.as_secs()
    );
    for Scenario { name, what } in &bench.scenarios {
        // Writing to a text cannot fail.
        let _ = write!(method, "\n- `{name}`: {what}");
    }
    method.push_str("\n\nPeers that were not run, and what they do otherwise:\n");
    if notes.is_empty() {
        method.push_str("\n- nothing: all were run on everything, and agree");
    }
    notes.iter().for_each(|note| method.push_str(&format!("\n- {note}")));
    Ok(Section { title: "Matching many rules", method, figures, costs: Vec::new() })
}

struct Bench {
    program: String,
    /// Where rules, events and the builds of the harnesses go.
    folder: PathBuf,
    scenarios: Vec<Scenario>,
    peers: Vec<Engine>,
    /// Which peers are not there, and why.
    missing: Vec<String>,
    largest: usize,
}

const OURS: &str = "synapse";

impl Bench {
    fn prepare(session: &Session) -> Result<Self> {
        let mut build = Command::new("cargo");
        build.args(["build", "--package", "matcher-bench"]);
        shell::run(if session.profile == "release" { build.arg("--release") } else { &mut build })?;
        let program = session.project.target.join(session.profile).join("matcher-bench").display().to_string();
        let scenarios = serde_json::from_str(&shell::output(Command::new(&program).arg("list"))?)?;
        let folder = session.project.target.join("bench/matcher");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let largest = if session.quick { 1_000 } else { RULES };
        let mut bench = Self { program, folder, scenarios, peers: Vec::new(), missing: Vec::new(), largest };
        bench.peers.push(Engine { name: "quamina", command: vec![bench.program.clone(), "quamina".into()] });
        for (name, harness) in
            [("event-ruler", Self::java as fn(&Self) -> Result<Vec<String>>), ("quamina (Go)", Self::go)]
        {
            match harness(&bench) {
                Ok(command) => bench.peers.push(Engine { name, command }),
                Err(error) => bench.missing.push(format!("`{name}` was not run: {error}")),
            }
        }
        Ok(bench)
    }

    /// Builds the Java harness.
    fn java(&self) -> Result<Vec<String>> {
        ensure!(shell::exists("java") && shell::exists("mvn"), "Java and Maven are not here");
        let (target, classpath) = (self.folder.join("java"), self.folder.join("java.classpath"));
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "--file", &format!("{FOLDER}/java/pom.xml")]);
        maven.arg(format!("-Dbuild.folder={}", target.display()));
        maven.arg(format!("-Dmdep.outputFile={}", classpath.display()));
        shell::output(maven.args(["compile", "dependency:build-classpath"])).context("Maven could not build it")?;
        let classes = format!("{}:{}", target.join("classes").display(), fs::read_to_string(classpath)?.trim());
        Ok(["java", "-Xmx4g", "-cp", &classes, "MatcherBench"].map(str::to_owned).to_vec())
    }

    /// Builds the Go harness, in a copy, because building writes the sums of what it fetched.
    fn go(&self) -> Result<Vec<String>> {
        ensure!(shell::exists("go"), "Go is not here");
        let copy = self.folder.join("go");
        fs::create_dir_all(&copy)?;
        for file in ["go.mod", "main.go"] {
            fs::copy(format!("{FOLDER}/go/{file}"), copy.join(file))?;
        }
        let go = |arguments: &[&str]| shell::output(Command::new("go").args(arguments).current_dir(&copy));
        go(&["mod", "tidy"]).context("its module could not be fetched")?;
        go(&["build", "-o", "matcher-bench", "."]).context("Go could not build it")?;
        Ok(vec![copy.join("matcher-bench").display().to_string()])
    }

    /// Measures all engines on a set of rules, in turns.
    fn measure(&self, session: &Session, scenario: &Scenario, notes: &mut Vec<String>) -> Result<Found> {
        let found = Found::default();
        let mut cases = Vec::new();
        let ours = Engine { name: OURS, command: vec![self.program.clone(), OURS.into()] };
        for rules in self.sizes() {
            self.write(scenario, rules)?;
            cases.push(self.case(scenario, &ours, rules, &found));
        }
        if WITH_PEERS.contains(&scenario.name.as_str()) {
            for peer in &self.peers {
                session.bar.set_message(format!("{}, {}: how many rules it takes", scenario.name, peer.name));
                if let Some(rules) = self.most(scenario, peer, notes) {
                    cases.push(self.case(scenario, peer, rules, &found));
                }
            }
        }
        session.rounds(cases)?;
        Ok(found)
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        SIZES.into_iter().filter(|&rules| rules <= self.largest)
    }

    fn rules_folder(&self, scenario: &Scenario, rules: usize) -> PathBuf {
        self.folder.join(format!("{}-{rules}", scenario.name))
    }

    fn write(&self, scenario: &Scenario, rules: usize) -> Result<()> {
        let folder = self.rules_folder(scenario, rules);
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(&self.program);
        shell::output(command.args(["write", &scenario.name, &rules.to_string()]).arg(folder))?;
        Ok(())
    }

    /// The most rules that a peer takes; why it does not take more is noted.
    fn most(&self, scenario: &Scenario, peer: &Engine, notes: &mut Vec<String>) -> Option<usize> {
        let sizes: Vec<usize> = self.sizes().collect();
        for &rules in sizes.iter().rev() {
            match self.once(scenario, peer, rules, LIMIT) {
                Ok(_) => return Some(rules),
                Err(error) => {
                    let error = first_line(&error);
                    notes.push(format!("`{}` with {rules} rules of `{}`: {error}", peer.name, scenario.name));
                }
            }
        }
        None
    }

    fn case<'a>(&'a self, scenario: &'a Scenario, engine: &Engine, rules: usize, found: &'a Found) -> Case<'a> {
        let engine = Engine { name: engine.name, command: engine.command.clone() };
        Case::new(format!("{}, {} rules, {}", scenario.name, rules, engine.name), move || {
            // What took a peer nearly the limit once may take it longer another time.
            let measured = match self.once(scenario, &engine, rules, LIMIT * 3) {
                Err(error) if engine.name != OURS => return Ok(format!("failed: {}", first_line(&error))),
                measured => measured?,
            };
            let text = format!(
                "{:.2} µs an event, {:.1} µs an insertion, {:.1} µs a rule from the first to the last, {:.0} bytes a rule",
                measured.match_us, measured.insert_us, measured.build_us_per_rule, measured.bytes_per_rule
            );
            found.borrow_mut().entry((engine.name, rules)).or_default().push(measured);
            Ok(text)
        })
    }

    fn once(&self, scenario: &Scenario, engine: &Engine, rules: usize, limit: Duration) -> Result<Measured> {
        let mut command = Command::new("timeout");
        command.arg((limit.as_secs() * 9).to_string()).args(&engine.command);
        command.arg(self.rules_folder(scenario, rules)).args([rules.to_string(), limit.as_secs().to_string()]);
        // What a peer says when it fails is shown in the document.
        let text = shell::output(command.env("RUST_BACKTRACE", "0"))?;
        serde_json::from_str(&text).with_context(|| format!("{} printed no measurement", engine.name))
    }

    /// Where a peer finds other rules than the matcher, for the same rules and events.
    fn disagreements(&self, scenario: &Scenario, found: &Found) -> Vec<String> {
        let found = found.borrow();
        let mut notes = Vec::new();
        for (&(name, rules), theirs) in found.iter().filter(|((name, _), _)| *name != OURS) {
            let (Some(ours), Some(theirs)) = (found.get(&(OURS, rules)).and_then(|all| all.first()), theirs.first())
            else {
                continue;
            };
            let pairs = ours.matches.iter().zip(&theirs.matches).enumerate();
            let different: Vec<_> = pairs.filter(|(_, (ours, theirs))| ours != theirs).collect();
            let Some(&(event, (ours, theirs))) = different.first() else { continue };
            let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (ours.iter().collect(), theirs.iter().collect());
            let (more, fewer) = (theirs.difference(&ours).next(), ours.difference(&theirs).next());
            let shown =
                |rule: Option<&&u32>| rule.map_or_else(|| "–".into(), |rule| self.rule(scenario, rules, **rule));
            notes.push(format!(
                "`{name}` finds other rules of `{}` for {} events, first for event {event}: a rule that only it finds: {}; \
                 one that it does not find: {}",
                scenario.name,
                different.len(),
                shown(more),
                shown(fewer)
            ));
        }
        notes
    }

    fn rule(&self, scenario: &Scenario, rules: usize, number: u32) -> String {
        let text = fs::read_to_string(self.rules_folder(scenario, rules).join("rules.jsonl")).unwrap_or_default();
        format!("`{}`", text.lines().nth(number as usize).unwrap_or_default())
    }

    fn figures(&self, Scenario { name, .. }: &Scenario, found: &Found) -> Vec<Figure> {
        let found = found.borrow();
        let series = |engine, rules, of: fn(&Measured) -> f64| {
            Series(found.get(&(engine, rules)).into_iter().flatten().map(of).collect())
        };
        let ours = |of| series(OURS, self.largest, of);
        let target =
            TARGETS.iter().find(|(of, _)| of == name).map_or(Target::Information, |&(_, us)| Target::AtMost(us));
        let small = series(OURS, SIZES[0], |measured| measured.match_us);
        let times =
            ours(|measured| measured.match_us).0.iter().zip(&small.0).map(|(large, small)| large / small).collect();
        let figure = |what: String, unit, measured, target| Figure {
            name: format!("`{name}`: {what}"),
            unit,
            measured,
            peer: None,
            target,
        };
        let micros = Unit::MicrosPerEvent;
        let mut figures = vec![
            figure("match".into(), micros, ours(|measured| measured.match_us), target),
            figure(format!("match, against {} rules", SIZES[0]), Unit::Times, Series(times), Target::AtMost(4.0)),
            figure("insert".into(), Unit::MicrosPerRule, ours(|measured| measured.insert_us), Target::AtMost(20.0)),
            figure(
                "memory".into(),
                Unit::BytesPerRule,
                ours(|measured| measured.bytes_per_rule),
                Target::AtMost(600.0),
            ),
        ];
        for &(peer, rules) in found.keys().filter(|(engine, _)| *engine != OURS) {
            let compared = [
                ("match", micros, (|measured| measured.match_us) as fn(&Measured) -> f64),
                ("insert", Unit::MicrosPerRule, |measured| measured.insert_us),
                ("memory", Unit::BytesPerRule, |measured| measured.bytes_per_rule),
            ];
            // How much a rule holds hardly depends on its kind.
            let shown = if matches!(target, Target::Information) { 2 } else { 3 };
            for (what, unit, of) in compared.into_iter().take(shown) {
                let mut compared =
                    figure(format!("{what}, {rules} rules"), unit, series(OURS, rules, of), Target::Information);
                compared.peer = Some(Peer { name: format!("`{peer}`"), measured: series(peer, rules, of) });
                figures.push(compared);
            }
        }
        figures
    }
}

/// What a peer said when it failed, shortened to what tells why.
fn first_line(error: &anyhow::Error) -> String {
    let text = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let telling = lines.iter().find(|line| line.contains("took more than") || line.contains("TryFromIntError"));
    let text = telling.or(lines.first()).copied().unwrap_or_default();
    let text = text.rsplit("Error: ").next().unwrap_or(text);
    let text = text.rsplit("IOException: ").next().unwrap_or(text);
    text.chars().take(160).collect()
}
