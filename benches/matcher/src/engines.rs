//! What is measured: the matcher, and a peer in the same language.

use anyhow::{Result, anyhow};
use quamina::{Quamina, QuaminaBuilder};
use synapse_hub_matcher::{Input, Matcher, Pattern, Scratch};

/// A set of rules that events are matched against.
pub(crate) trait Engine {
    fn new() -> Result<Self>
    where
        Self: Sized;

    /// Adds a rule from its JSON, so that the next event sees it.
    fn add(&mut self, id: u32, rule: &str) -> Result<()>;

    /// Appends the rules that the event matches, in any order.
    fn matches(&mut self, event: &[u8], out: &mut Vec<u32>) -> Result<()>;
}

/// The matcher, as the hub uses it: a writer's set, of which a snapshot is handed out after each change.
pub(crate) struct Synapse {
    matcher: Matcher<u32>,
    snapshot: Matcher<u32>,
    scratch: Scratch,
}

impl Engine for Synapse {
    fn new() -> Result<Self> {
        Ok(Self { matcher: Matcher::new(), snapshot: Matcher::new(), scratch: Scratch::new() })
    }

    fn add(&mut self, id: u32, rule: &str) -> Result<()> {
        self.matcher.insert(id, &Pattern::parse(rule)?);
        self.snapshot = self.matcher.clone();
        Ok(())
    }

    fn matches(&mut self, event: &[u8], out: &mut Vec<u32>) -> Result<()> {
        self.snapshot.matches(&Input { attributes: &(), data: event }, &mut self.scratch, out);
        Ok(())
    }
}

/// The `quamina` crate in its default mode, without limits of size.
pub(crate) struct Peer(Quamina<u32>);

impl Engine for Peer {
    fn new() -> Result<Self> {
        let builder =
            QuaminaBuilder::new().with_arena_byte_budget(usize::MAX >> 1).with_max_states_per_pattern(1 << 20);
        Ok(Self(builder.build().map_err(|error| anyhow!("{error}"))?))
    }

    fn add(&mut self, id: u32, rule: &str) -> Result<()> {
        self.0.add_pattern(id, rule).map_err(|error| anyhow!("{error}"))
    }

    fn matches(&mut self, event: &[u8], out: &mut Vec<u32>) -> Result<()> {
        out.extend(self.0.matches_for_event(event).map_err(|error| anyhow!("{error}"))?);
        Ok(())
    }
}
