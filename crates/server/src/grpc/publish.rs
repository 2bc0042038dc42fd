//! `EventService.Publish` and `PublishStream`.

use bytestring::ByteString;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use synapse_hub_core::{Code, Error, Result, TopicName, backend::ProducerBatch};
use synapse_hub_hub::{Hub, Payload, Pending, Publication, Published};
use synapse_hub_proto::v1::{self, publish_request};
use tonic::{Request, Response, Status, Streaming};

use super::{convert, status};
use crate::{app::App, publishing, trace};

pub(super) async fn publish(app: &App, request: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>> {
    let traceparent = traceparent(&request);
    let request = request.into_inner();
    let request_id = request.request_id;
    let publication = publication(request, &mut None, traceparent)?;
    let published = app.hub.publish(publication).await?.await?;
    Ok(Response::new(response(request_id, published)))
}

/// Batches in, acknowledgements out, in order. Each stage works while the others wait: requests are read while earlier
/// ones are stored, as many as the limit allows.
pub(super) fn stream(
    app: App,
    requests: Request<Streaming<v1::PublishRequest>>,
) -> impl Stream<Item = Result<v1::PublishResponse, Status>> + Send {
    let traceparent = traceparent(&requests);
    let mut requests = requests.into_inner();
    let in_flight_max = app.hub.limits().stream_inflight_batches;
    let stopping = app.hub.shutting_down();
    async_stream::stream! {
        let mut topic = None;
        let mut stored = FuturesOrdered::new();
        // A batch that waits for room; nothing is read meanwhile.
        let mut accepting: Option<BoxFuture<'static, (u64, Result<Pending>)>> = None;
        let mut open = true;
        let mut failure = None;
        while open || !stored.is_empty() || accepting.is_some() {
            let room = open && accepting.is_none() && stored.len() < in_flight_max;
            tokio::select! {
                biased;
                Some(acknowledgement) = stored.next(), if !stored.is_empty() => yield Ok(acknowledgement),
                (request_id, outcome) = accepted(&mut accepting), if accepting.is_some() => {
                    accepting = None;
                    stored.push_back(acknowledge(request_id, outcome));
                }
                request = requests.message(), if room => match request {
                    Ok(Some(request)) => {
                        let request_id = request.request_id;
                        let publication = publication(request, &mut topic, traceparent.clone());
                        accepting = Some(accept(app.hub.clone(), request_id, publication).boxed());
                    }
                    Ok(None) => open = false,
                    Err(error) => (open, failure) = (false, Some(status::stream_error(error))),
                },
                // What was accepted is still answered.
                () = stopping.cancelled(), if open => {
                    let what = "the hub is stopping; send what was not acknowledged again";
                    let error = Error::new(Code::ShuttingDown, what);
                    (open, failure) = (false, Some(status::status(&error)));
                }
            }
        }
        if let Some(failure) = failure {
            yield Err(failure);
        }
    }
}

async fn accept(hub: Hub, request_id: u64, publication: Result<Publication>) -> (u64, Result<Pending>) {
    let outcome = match publication {
        Ok(publication) => hub.publish(publication).await,
        Err(error) => Err(error),
    };
    (request_id, outcome)
}

/// Waits for the batch that is being accepted, if any. May be dropped and called again.
async fn accepted<T>(accepting: &mut Option<BoxFuture<'static, T>>) -> T {
    match accepting {
        Some(accepting) => accepting.await,
        None => std::future::pending().await,
    }
}

async fn acknowledge(request_id: u64, outcome: Result<Pending>) -> v1::PublishResponse {
    let published = match outcome {
        Ok(pending) => pending.await,
        Err(error) => Err(error),
    };
    match published {
        Ok(published) => response(request_id, published),
        Err(error) => {
            v1::PublishResponse { request_id, error: Some(status::problem(&error)), ..v1::PublishResponse::default() }
        }
    }
}

/// Reads a request. `topic` is that of the previous request of a stream.
fn publication(
    request: v1::PublishRequest,
    topic: &mut Option<TopicName>,
    traceparent: Option<ByteString>,
) -> Result<Publication> {
    let topic = match topic {
        Some(topic) if request.topic.is_empty() || request.topic == topic.as_str() => topic.clone(),
        _ => topic.insert(request.topic.parse()?).clone(),
    };
    let payload = match request.payload {
        Some(publish_request::Payload::Batch(batch)) => Payload::Batch(batch),
        Some(publish_request::Payload::Flat(flat)) => Payload::Flat(flat.events),
        None => {
            let what = "there is no event in the request; set `batch` or `flat`";
            return Err(Error::new(Code::EmptyBatch, what).topic(topic.as_str()));
        }
    };
    let producer = match (request.producer_id.is_empty(), request.producer_sequence) {
        (true, 0) => None,
        (true, _) => {
            let what = "a producer_sequence needs a producer_id";
            return Err(Error::new(Code::InvalidArgument, what).field("producer_id"));
        }
        (false, sequence) => Some(ProducerBatch { id: request.producer_id.into(), sequence }),
    };
    let durability = convert::durability(request.durability)?;
    Ok(Publication { topic, payload, durability, producer, partial: request.partial, traceparent })
}

fn response(request_id: u64, published: Published) -> v1::PublishResponse {
    let Published { positions, ids, ids_given, duplicate, deduplicated, refused, guarantee, .. } = published;
    let nothing_stored = positions.iter().all(Option::is_none);
    let error = (nothing_stored && !refused.is_empty())
        .then(|| status::problem(&publishing::whole_refusal(&refused, positions.len())));
    let partitions = match positions.iter().flatten().all(|placed| placed.partition == 0) {
        true => Vec::new(),
        false => positions.iter().map(|placed| placed.map_or(0, |placed| placed.partition)).collect(),
    };
    v1::PublishResponse {
        request_id,
        positions: positions
            .iter()
            .map(|placed| placed.map_or_else(String::new, |placed| placed.position.to_string()))
            .collect(),
        partitions,
        duplicate,
        deduplicated,
        refused: refused.iter().map(status::refusal).collect(),
        durability: guarantee.as_ref().to_owned(),
        error,
        ids: if ids_given { ids.into_iter().map(String::from).collect() } else { Vec::new() },
    }
}

fn traceparent<T>(request: &Request<T>) -> Option<ByteString> {
    let text = request.metadata().get(trace::TRACEPARENT)?.to_str().ok()?;
    trace::is_traceparent(text).then(|| text.into())
}
