"""The base of all events, and the registry of their classes."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import types
import typing
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator


class EventPlace(NamedTuple):
    """Where a received event stands, and what it carries beside its flat object."""

    topic: str
    partition: int
    position: str
    #: What follows this partition in cursors of the subscription, or nothing.
    cursor_rest: str = ""
    #: Attributes without a field of their own, such as ``traceparent``.
    attributes: dict[str, str] | None = None


def new_event_id() -> str:
    """A UUIDv7 as text: unique, and ordered by time."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def default_source() -> str:
    """``SYNAPSE_SOURCE``, or else the name of the program."""
    return os.environ.get("SYNAPSE_SOURCE") or PurePath(sys.argv[0] if sys.argv else "").stem or "python"


def _now() -> datetime:
    return datetime.now(timezone.utc)


_registry: dict[str, type[BaseEvent]] = {}


class BaseEvent(BaseModel):
    """An event. Subclasses with a fixed ``event`` are registered when they are defined.

    Fields that the class does not know are kept.
    """

    model_config = ConfigDict(extra="allow", populate_by_name=True, protected_namespaces=())

    #: What happened, such as ``model-ready``.
    event: str
    #: When it happened, UTC.
    timestamp: datetime = Field(default_factory=_now)
    #: Who says so.
    source: str = Field(default_factory=default_source)
    #: With ``source``, the event's identity.
    id: str = Field(default_factory=new_event_id)
    #: What it belongs to, such as a run or a request.
    correlation_id: str | None = None

    _place: EventPlace | None = PrivateAttr(default=None)
    _validation_error: ValidationError | None = PrivateAttr(default=None)

    @field_validator("timestamp")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        name = cls.model_fields["event"].default
        if isinstance(name, str):
            _registry[name] = cls

    def __eq__(self, other: object) -> bool:
        # Pydantic's own compares private attributes too: an event equals what was published, wherever it was received.
        if not isinstance(other, BaseEvent) or type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__ and self.__pydantic_extra__ == other.__pydantic_extra__

    @property
    def topic(self) -> str | None:
        """The topic it was received from."""
        return self._place.topic if self._place else None

    @property
    def partition(self) -> int | None:
        """The partition it was received from."""
        return self._place.partition if self._place else None

    @property
    def position(self) -> str | None:
        """Where it stands in its partition."""
        return self._place.position if self._place else None

    @property
    def cursor(self) -> str | None:
        """What to give as ``replay_from`` to go on after this event."""
        if self._place is None:
            return None
        own = f"{self._place.topic}/{self._place.partition}@{self._place.position}"
        return f"{own},{self._place.cursor_rest}" if self._place.cursor_rest else own

    @property
    def attributes(self) -> dict[str, str]:
        """CloudEvents attributes without a field of their own, such as ``traceparent``."""
        return (self._place.attributes if self._place else None) or {}

    @property
    def validation_error(self) -> ValidationError | None:
        """Why this event is a plain ``BaseEvent`` although its type has a class."""
        return self._validation_error


def event_class(event: str) -> type[BaseEvent]:
    """The class of events of this type; ``BaseEvent`` when none is registered."""
    return _registry.get(event, BaseEvent)


def registered_events() -> dict[str, type[BaseEvent]]:
    """All registered types with their classes."""
    return dict(_registry)


def parse_event(data: bytes | str | dict[str, Any], cls: type[BaseEvent] | None = None) -> BaseEvent:
    """Reads a flat event: JSON text or a dict.

    What does not fit its class is a ``BaseEvent`` that says why in ``validation_error``.

    Raises:
        ValueError: it is no JSON object with an ``event``.
    """
    if cls is None:
        fields = data if isinstance(data, dict) else _object(data)
        cls = event_class(str(fields.get("event", "")))
    try:
        return cls.model_validate(data) if isinstance(data, dict) else cls.model_validate_json(data)
    except ValidationError as error:
        return _recover(_object(data) if not isinstance(data, dict) else data, cls, error)


def _object(data: bytes | str) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("an event is a JSON object")
    return value


def _recover(fields: dict[str, Any], cls: type[BaseEvent], error: ValidationError) -> BaseEvent:
    """Programs that write by hand have only texts: read them as what their fields are."""
    read = {key: _from_text(value, cls, key) for key, value in fields.items()}
    read = {key: value for key, value in read.items() if value is not _ABSENT}
    try:
        return cls.model_validate(read)
    except ValidationError:
        pass
    base = {key: value for key, value in fields.items() if key not in BaseEvent.model_fields or value}
    event = BaseEvent.model_validate(base)
    event._validation_error = error
    return event


_ABSENT = object()


def _from_text(value: Any, cls: type[BaseEvent], key: str) -> Any:
    field = cls.model_fields.get(key)
    if field is None or not isinstance(value, str):
        return value
    kinds = _kinds(field.annotation)
    if str in kinds:
        return value
    if value in ("", "undefined", "null", "None"):
        return _ABSENT
    if kinds & {dict, list, tuple, set}:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _kinds(annotation: Any) -> set[Any]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return {kind for part in typing.get_args(annotation) for kind in _kinds(part)}
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(annotation)}
    return {origin or annotation}
