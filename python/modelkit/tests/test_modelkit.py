"""What modelkit promises."""

import json
import sys
from datetime import datetime, timezone
from typing import Literal

import modelkit
import pytest
from modelkit import (
    BaseEvent,
    InferenceCompleteEvent,
    ModelReadyEvent,
    NotJsonError,
    TrainingProgressEvent,
    dump_event,
    event_class,
    parse_event,
)
from pydantic import BaseModel, ValidationError, field_validator


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


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="this Python has no limit on digits")
def test_an_integer_of_more_digits_than_python_reads_is_its_text():
    event = parse_event('{"event": "own", "big": %s, "small": 7}' % ("9" * 5000))
    assert event.model_extra == {"big": "9" * 5000, "small": 7}
    assert json.loads(event.model_dump_json())["big"] == "9" * 5000


@pytest.mark.parametrize(
    "text",
    [
        r'{"event":"own","s":"a\ud800b","\udfff":"\\ud800 \ud83d\ude00"}',
        # Not an escape, but the very character in a Python text.
        '{"event":"own","s":"a\ud800b"}',
    ],
)
def test_a_lone_surrogate_is_shown_and_can_be_written_again(text):
    event = parse_event(text)
    assert event.model_extra["s"] == r"a\ud800b"
    assert event.model_extra.get(r"\udfff", "\\ud800 \U0001f600") == "\\ud800 \U0001f600"
    assert parse_event(event.model_dump_json()) == event


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"event": 5},
        {"event": None, "id": 7},
        {"event": "model-ready", "model_name": "m", "version": "1", "timestamp": "garbage"},
        {"event": "own", "timestamp": [], "source": {}, "_place": 1, "_fields_set": 2, "self": 3, "cls": 4, "topic": 5},
    ],
)
def test_any_json_object_is_read(fields):
    event = parse_event(json.dumps(fields))
    assert isinstance(event, BaseEvent)
    for name, value in fields.items():
        if value and name != "event":
            kept = getattr(event, name) if name in BaseEvent.model_fields else event.model_extra[name]
            assert kept == value
    assert event.topic is None


def test_a_validator_that_fails_in_a_way_of_its_own_is_a_validation_error():
    class Fragile(BaseEvent):
        event: Literal["fragile"] = "fragile"
        n: int

        @field_validator("n")
        @classmethod
        def _check(cls, value: int) -> int:
            raise KeyError("oh")

    event = parse_event('{"event": "fragile", "n": 1}')
    assert type(event) is BaseEvent
    assert event.validation_error is not None
    assert "KeyError" in str(event.validation_error)
    assert event.model_extra == {"n": 1}


class Detail(BaseModel):
    unit: str | None = None


class Detailed(BaseEvent):
    event: Literal["detailed"] = "detailed"
    detail: Detail
    note: str | None = None
    other: str | None = None


@pytest.mark.parametrize(
    ("event", "there", "absent"),
    [
        (
            BaseEvent(event="nulls", foo=None, metadata={"a": None}),
            {"foo": None, "metadata": {"a": None}},
            "correlation_id",
        ),
        (Detailed(detail=Detail(), note=None), {"detail": {"unit": None}, "note": None}, "other"),
        (InferenceCompleteEvent(model_name="m", user_id=None), {"user_id": None, "success": True}, "cost"),
        ({"event": "nulls", "foo": None}, {"event": "nulls", "foo": None}, "id"),
    ],
)
def test_a_null_that_somebody_set_is_written_and_others_are_absent(event, there, absent):
    written = json.loads(dump_event(event))
    assert {key: written.get(key, "absent") for key in there} == there
    assert absent not in written
    assert isinstance(event, dict) or parse_event(dump_event(event)) == event


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (TrainingProgressEvent(experiment_id="e", model_name="m", metrics={"loss": float("nan")}), "metrics.loss"),
        (TrainingProgressEvent(experiment_id="e", model_name="m", progress=float("inf")), "progress"),
        (BaseEvent(event="own", values=[1.0, {"x": float("-inf")}]), "values.1.x"),
        ({"event": "own", "metrics": {"loss": float("nan")}}, "metrics.loss"),
    ],
)
def test_what_is_no_number_in_json_is_refused_with_its_place(event, field):
    with pytest.raises(NotJsonError) as caught:
        dump_event(event)
    assert caught.value.field == field
    assert field in str(caught.value)
