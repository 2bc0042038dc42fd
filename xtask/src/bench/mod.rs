//! x
use crate::project::Project;
#[derive(clap::Args)]
pub(crate) struct Options {}
pub(crate) fn main(_: &Project, _: &Options) -> anyhow::Result<()> {
    Ok(())
}
