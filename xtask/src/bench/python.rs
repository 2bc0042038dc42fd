//! Figure 5: the Python client against `redis.asyncio`, with the same Pydantic models on both sides.

use std::{cell::RefCell, process::Command};

use anyhow::Result;

use super::{
    Case, Session,
    load::{self, Samples},
    report::{Figure, Peer, Section, Target, Unit},
    servers::Storage,
};
use crate::{python::Environment, shell};

/// The scripts end by printing the same JSON object as `synapse bench`.
const SYNAPSE: &str = "python/benches/bench_client.py";
const REDIS: &str = "python/benches/bench_redis.py";

pub(super) fn run(session: &Session) -> Result<Section> {
    let environment = Environment::prepare(session.project)?;
    let events = session.scaled(100_000).to_string();
    let actions = ["publish", "subscribe"];
    let sides: Vec<_> = actions.iter().map(|_| <(RefCell<Samples>, RefCell<Samples>)>::default()).collect();
    let mut cases = Vec::new();
    for (action, (ours, peer)) in actions.into_iter().zip(&sides) {
        let (environment, events) = (&environment, &events);
        cases.push(Case::new(format!("python {action}, synapse_client"), move || {
            let redis = session.redis()?;
            let hub = session.hub(Storage::Redis(&redis))?;
            let script = |action: &str| {
                let mut command = environment.command("python");
                command.arg(SYNAPSE).args([action, "--events", events]).env("SYNAPSE_URL", hub.url());
                command
            };
            fill(action, script)?;
            Ok(ours.borrow_mut().push(load::measure(&mut script(action), Some(&hub), Some(&redis))?))
        }));
        cases.push(Case::new(format!("python {action}, redis.asyncio"), move || {
            let redis = session.redis()?;
            let script = |action: &str| {
                let mut command = environment.command("python");
                command.arg(REDIS).args([action, "--events", events]).env("REDIS_PORT", redis.port.to_string());
                command
            };
            fill(action, script)?;
            Ok(peer.borrow_mut().push(load::measure(&mut script(action), None, Some(&redis))?))
        }));
    }
    session.rounds(cases)?;
    let (mut figures, mut costs) = (Vec::new(), Vec::new());
    for (action, (ours, peer)) in actions.into_iter().zip(sides) {
        let (ours, peer) = (ours.into_inner(), peer.into_inner());
        costs.extend([
            ours.cost(format!("{action}, `synapse_client`")),
            peer.cost(format!("{action}, `redis.asyncio`")),
        ]);
        figures.push(Figure {
            name: format!("{action} from Python on Redis, layout `flat`"),
            unit: Unit::EventsPerSecond,
            measured: ours.rates(),
            peer: Some(Peer { name: "`redis.asyncio`".into(), measured: peer.rates() }),
            target: Target::AtLeastTimesPeer(3.0),
        });
    }
    Ok(Section {
        title: "Python",
        method: format!(
            "{events} Pydantic models, the same class on both sides, made before the clock starts. `redis.asyncio` writes `XADD` pipelines of 100 and reads \
             `XREAD COUNT 100`, each entry from and to a model; the client publishes with `publisher()` and reads with \
             `subscribe`."
        ),
        figures,
        costs,
    })
}

/// What is to be read is published first, unmeasured.
fn fill(action: &str, script: impl Fn(&str) -> Command) -> Result<()> {
    if action == "subscribe" {
        shell::output(&mut script("publish"))?;
    }
    Ok(())
}
