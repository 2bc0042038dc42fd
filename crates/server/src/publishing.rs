//! What HTTP and gRPC share in answering a publication.

use synapse_hub_core::{Code, Error};
use synapse_hub_hub::Refusal;

/// The error of a publication of which nothing was stored, because events were refused: the event's own when there was
/// only one.
pub(crate) fn whole_refusal(refused: &[Refusal], events: usize) -> Error {
    match refused {
        [only] if events == 1 => only.error.clone(),
        [first, ..] => {
            let what = format!(
                "{} of {events} events were refused, and so nothing was stored; mend them, or ask for partial acceptance \
                 to have the others stored. The first, event {}: {}",
                refused.len(),
                first.index,
                first.error.message()
            );
            let error = Error::new(Code::BatchRefused, what).index(first.index);
            match first.error.field_path() {
                Some(field) => error.field(field),
                None => error,
            }
        }
        [] => Error::new(Code::Internal, "nothing was stored, and nothing says why"),
    }
}
