"""Programs that are not ours: redis-py on the same streams, and the CloudEvents SDK over HTTP."""

import json

import httpx
import pytest
import redis
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from modelkit import InferenceCompleteEvent, ModelReadyEvent

from synapse_client import SyncSynapseClient


@pytest.fixture
def client(redis_hub):
    with SyncSynapseClient(redis_hub.url) as client:
        yield client


@pytest.fixture
def neighbour(redis_server):
    return redis.Redis(port=redis_server.port, decode_responses=True)


def test_what_redis_py_adds_is_delivered_typed_and_filtered(client, neighbour):
    common = {"timestamp": "2025-01-01T10:00:00.5", "source": "cyrex", "model_name": "m", "version": "1.0"}
    neighbour.xadd("mixed", {"event": "inference-complete", **common, "latency_ms": "12.5", "success": "False"})
    neighbour.xadd("mixed", {"event": "model-ready", **common, "metadata": '{"region": "eu"}', "accuracy": ""})
    payload = json.dumps({"event": "model-ready", "model_name": "m", "version": "2"})
    envelope = {"event_type": "model-ready", "sender": "sidecar", "priority": "high", "payload": payload}
    neighbour.xadd("mixed", {**envelope, "timestamp": "2025-01-01T10:00:00.123456789Z"})
    neighbour.xadd("mixed", {"payload": '{"job": 7}'})
    last = neighbour.xadd("mixed", {"created": "1"})
    events = list(client.subscribe("mixed", replay_from="earliest", until="latest"))
    assert [event.event for event in events] == [
        "inference-complete",
        "model-ready",
        "model-ready",
        "unknown",
        "opaque",
    ]
    first, second, third, fourth, fifth = events
    assert isinstance(first, InferenceCompleteEvent)
    assert (first.success, first.latency_ms, first.version) == (False, 12.5, "1.0")
    assert isinstance(second, ModelReadyEvent)
    assert second.metadata == {"region": "eu"}
    assert second.accuracy is None
    assert (third.source, third.version) == ("sidecar", "2")
    assert fourth.model_extra == {"job": 7}
    assert fifth.position == last
    failed = client.subscribe("mixed", filters={"success": False}, replay_from="earliest", until="latest")
    assert [event.event for event in failed] == ["inference-complete"]


def test_what_synapse_writes_is_read_by_redis_py(client, neighbour):
    neighbour.xgroup_create("out", "workers", id="0", mkstream=True)
    event = InferenceCompleteEvent(model_name="m", version="1.0", latency_ms=12.5, success=True, user_id=None)
    published = client.publish("out", [event, {"event": "own", "deep": {"a": [1]}, "none": None, "big": "ü" * 500_000}])
    [[_, entries]] = neighbour.xread({"out": "0"})
    assert [entry for entry, _ in entries] == published.positions
    fields = entries[0][1]
    assert fields["event"] == "inference-complete"
    assert fields["version"] == "1.0"
    assert fields["latency_ms"] == "12.5"
    assert fields["success"] == "true"
    assert "user_id" not in fields
    own = entries[1][1]
    assert own["deep"] == '{"a":[1]}'
    assert "none" not in own
    assert own["big"] == "ü" * 500_000
    [[_, delivered]] = neighbour.xreadgroup("workers", "one", {"out": ">"})
    assert delivered == entries
    back = list(client.subscribe("out", replay_from="earliest", until="latest"))
    assert back[0] == event
    assert back[1].model_extra == {"deep": {"a": [1]}, "none": None, "big": "ü" * 500_000}


def test_a_stream_that_others_trim_delete_and_make_anew_is_survived(client, neighbour):
    with client.subscribe("wild", replay_from="earliest") as events:
        neighbour.xadd("wild", {"event": "wild-tick", "n": "1"})
        assert next(events).model_extra == {"n": "1"}
        neighbour.delete("wild")
        neighbour.xadd("wild", {"event": "wild-tick", "n": "2"})
        assert next(events).model_extra == {"n": "2"}
        neighbour.xadd("wild", {"event": "wild-tick", "n": "3"}, maxlen=1)
        assert next(events).model_extra == {"n": "3"}


@pytest.mark.parametrize("mode", ["binary", "structured", "batched"])
def test_the_cloudevents_sdk_publishes_in_every_mode(hub, mode):
    attributes = {"type": "model-ready", "source": "helox", "subject": "a b", "traceparent": "00-1-2-01"}
    sent = [CloudEvent(attributes, {"model_name": "m", "version": str(n)}) for n in range(2)]
    url = f"{hub.url}/v1/topics/model-events/events"
    if mode == "batched":
        batch = [json.loads(to_structured(event)[1]) for event in sent]
        headers, body = {"content-type": "application/cloudevents-batch+json"}, json.dumps(batch).encode()
        assert httpx.post(url, headers=headers, content=body).status_code < 300
    else:
        for event in sent:
            headers, body = to_binary(event) if mode == "binary" else to_structured(event)
            answer = httpx.post(url, headers=headers, content=body)
            assert answer.status_code < 300, answer.text
    with SyncSynapseClient(hub.url) as client:
        events = list(client.subscribe("model-events", replay_from="earliest", until="latest"))
    assert [type(event) for event in events] == [ModelReadyEvent, ModelReadyEvent]
    assert [(event.id, event.source, event.version) for event in events] == [
        (one["id"], "helox", str(n)) for n, one in enumerate(sent)
    ]
    assert events[0].attributes["traceparent"] == "00-1-2-01"
    assert events[0].attributes["subject"] == "a b"
