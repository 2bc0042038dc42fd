"""What modelkit promises."""

import json
from datetime import datetime, timezone
from typing import Literal

import modelkit
import pytest
from modelkit import BaseEvent, InferenceCompleteEvent, ModelReadyEvent, event_class, parse_event
from pydantic import ValidationError


def test_the_shortest_event_is_complete():
    event = ModelReadyEvent(model_name="classifier", version="v2.0")
    assert event.event == "model-ready"
    assert event.timestamp.tzinfo is timezone.utc
    assert event.source
    assert event.id[14] == "7"
    assert event.topic is None
    assert event.cursor is None
    with pytest.raises(ValidationError):
        ModelReadyEvent(model_name="classifier")  # type: ignore[call-arg]


@pytest.mark.parametrize("name", sorted(modelkit.registered_events()))
def test_every_event_survives_json(name):
    cls = event_class(name)
    needed = {"model_name": "m", "version": "1.0", "experiment_id": "e", "message": "x"}
    event = cls(**{key: value for key, value in needed.items() if key in cls.model_fields})
    again = parse_event(event.model_dump_json(exclude_none=True))
    assert type(again) is cls
    assert again == event
    assert again.validation_error is None


def test_ids_are_unique_and_ordered_by_time():
    ids = [modelkit.base.new_event_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [value[:13] for value in ids] == sorted(value[:13] for value in ids)


def test_subclassing_registers():
    class DriftFound(BaseEvent):
        event: Literal["drift-found"] = "drift-found"
        score: float

    event = parse_event({"event": "drift-found", "score": 0.5})
    assert isinstance(event, DriftFound)


def test_unknown_types_keep_their_fields():
    event = parse_event(b'{"event": "nobody-knows-it", "deep": {"a": [1, null]}, "version": "1.0"}')
    assert type(event) is BaseEvent
    assert event.model_extra == {"deep": {"a": [1, None]}, "version": "1.0"}


def test_helox_sends_a_checkpoint_path():
    event = parse_event(
        {
            "event": "model-ready",
            "model_name": "m",
            "version": "1",
            "checkpoint_path": "/models/m",
            "metadata": {},
        }
    )
    assert isinstance(event, ModelReadyEvent)
    assert event.registry_path == "/models/m"


def test_texts_are_read_as_their_fields_and_a_text_stays_a_text():
    event = parse_event(
        {
            "event": "inference-complete",
            "timestamp": "2025-01-01T10:00:00",
            "model_name": "m",
            "version": "1.0",
            "latency_ms": "12.5",
            "success": "True",
            "tokens_used": "",
            "cost": "undefined",
        }
    )
    assert isinstance(event, InferenceCompleteEvent)
    assert (event.version, event.latency_ms, event.success) == ("1.0", 12.5, True)
    assert event.tokens_used is None
    assert event.cost is None
    assert event.timestamp == datetime(2025, 1, 1, 10, tzinfo=timezone.utc)
    event = parse_event({"event": "model-ready", "model_name": "m", "version": "1", "metadata": '{"a": 1}'})
    assert isinstance(event, ModelReadyEvent)
    assert event.metadata == {"a": 1}


def test_what_does_not_fit_is_not_lost():
    event = parse_event(json.dumps({"event": "model-ready", "model_name": "m", "accuracy": "very good"}))
    assert type(event) is BaseEvent
    assert event.validation_error is not None
    assert event.model_extra == {"model_name": "m", "accuracy": "very good"}


@pytest.mark.parametrize("text", ["[]", "5", "nonsense"])
def test_what_is_no_event_is_an_error(text):
    with pytest.raises(ValueError):
        parse_event(text)
