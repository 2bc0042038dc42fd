"""The base of all events, and the registry of their classes."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import sys
import time
import types
import typing
from datetime import datetime, timezone
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, to_json


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

    #: Fields that are absent in JSON as long as nobody set them.
    _absent_unset: ClassVar[set[str]] = {"correlation_id"}

    _place: EventPlace | None = PrivateAttr(default=None)
    _validation_error: ValidationError | None = PrivateAttr(default=None)

    @field_validator("timestamp")
    @classmethod
    def _in_utc(cls, value: datetime) -> datetime:
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls._absent_unset = {
            name for name, field in cls.model_fields.items() if field.default is None and not field.validate_default
        }
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


if TYPE_CHECKING:

    class AnyEvent(BaseEvent):
        """An event whose type only the program that runs knows: type checkers allow any field of it."""

        def __getattr__(self, name: str) -> Any: ...

else:
    AnyEvent = BaseEvent


def event_class(event: str) -> type[BaseEvent]:
    """The class of events of this type; ``BaseEvent`` when none is registered."""
    return _registry.get(event, BaseEvent)


def registered_events() -> dict[str, type[BaseEvent]]:
    """All registered types with their classes."""
    return dict(_registry)


class NotJsonError(ValueError):
    """A value that JSON has no form for."""

    def __init__(self, field: str, value: float) -> None:
        super().__init__(f"{field} is {value}, which is no number in JSON; leave it out, or send None or a text")
        #: Where it is, such as ``metrics.loss``.
        self.field = field


def dump_event(event: BaseEvent | dict[str, Any]) -> bytes:
    """Writes an event as flat JSON, what :func:`parse_event` reads.

    Fields that are None because nobody set them are absent; all other nulls are written.

    Raises:
        NotJsonError: a number is NaN or infinite.
        ValueError: a value has no form in JSON.
        TypeError: it is neither an event nor a dict.
    """
    if isinstance(event, dict):
        data = to_json(event, inf_nan_mode="null")
    elif not isinstance(event, BaseEvent):
        raise TypeError(f"an event is a BaseEvent or a dict, not {type(event).__name__}: {event!r:.100}")
    else:
        unset = event._absent_unset - event.__pydantic_fields_set__
        data = event.__pydantic_serializer__.to_json(event, exclude=unset)
    # What is not finite was written as null. Few events have one at all.
    if _find_null(data):
        _check_finite(event if isinstance(event, dict) else event.model_dump(), "")
    return data


_find_null = re.compile(b"null").search


def _check_finite(value: Any, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise NotJsonError(place, value)
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        for key, item in value.items():
            _check_finite(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            _check_finite(item, f"{place}.{index}" if place else str(index))


def parse_event(data: bytes | str | dict[str, Any], cls: type[BaseEvent] | None = None) -> BaseEvent:
    """Reads a flat event: JSON text or a dict.

    What does not fit its class is a ``BaseEvent`` that says why in ``validation_error``. What Python has no value for
    stays text: integers of thousands of digits, and the escapes of lone surrogates.

    Raises:
        ValueError: it is no JSON object, or nests deeper than Python reads.
    """
    if cls is None:
        fields = data if isinstance(data, dict) else _object(data)
        cls = event_class(str(fields.get("event", "")))
    try:
        return cls.model_validate(data) if isinstance(data, dict) else cls.model_validate_json(data)
    except Exception as error:
        return _recover(data if isinstance(data, dict) else _object(data), cls, error)


def _object(data: bytes | str) -> dict[str, Any]:
    text = data if isinstance(data, str) else data.decode()
    # Raw lone surrogates become escapes, and the escapes of lone ones a text that shows them.
    text = _ESCAPE.sub(_as_shown, text.encode("utf-8", "backslashreplace").decode())
    try:
        value = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("the event nests deeper than Python reads") from None
    if not isinstance(value, dict):
        raise ValueError("an event is a JSON object")
    return value


#: An escape in JSON text; with a group when it is a surrogate without its other half.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def _as_shown(escape: re.Match[str]) -> str:
    return f"\\\\{escape[1]}" if escape[1] else escape[0]


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        # More digits than `sys.set_int_max_str_digits` allows.
        return digits


def _recover(fields: dict[str, Any], cls: type[BaseEvent], error: Exception) -> BaseEvent:
    """Programs that write by hand have only texts: read them as what their fields are."""
    read = {key: _from_text(value, cls, key) for key, value in fields.items()}
    try:
        return cls.model_validate({key: value for key, value in read.items() if value is not _ABSENT})
    except Exception:
        event = _as_base(fields)
        event._validation_error = _reason(error, cls)
        return event


def _as_base(fields: dict[str, Any]) -> BaseEvent:
    given = {key: value for key, value in fields.items() if key not in BaseEvent.model_fields or value}
    try:
        return BaseEvent.model_validate(given)
    except ValidationError:
        # An attribute is not what it should be, such as a time that is none: it stays as it came.
        own = {key: given.pop(key) for key in BaseEvent.model_fields if key in given}
        event = BaseEvent.model_construct(**{"event": "unknown", **own})
        event.__pydantic_extra__ = given
        return event


def _reason(error: Exception, cls: type[BaseEvent]) -> ValidationError:
    if isinstance(error, ValidationError):
        return error
    # A validator that the class brought along has failed in a way of its own.
    raised = PydanticCustomError("validator_raised", "{error}", {"error": repr(error)})
    return ValidationError.from_exception_data(cls.__name__, [InitErrorDetails(type=raised, input=None)])


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
