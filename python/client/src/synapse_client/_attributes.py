"""CloudEvents attributes that the flat form has no place for.

Events that have any are sent as ``Event`` messages, all others as the flat JSON that they are.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from pydantic_core import from_json, to_json

from synapse_client._proto import event_pb2 as pb
from synapse_client.errors import RefusedError
from synapse_client.results import Refusal

#: Attributes by their CloudEvents name. Times are RFC 3339 text or a ``datetime``.
Attributes = Mapping[str, str | datetime]

_OWN_FIELDS = {"subject", "partitionkey", "traceparent", "datacontenttype", "dataschema"}
_FLAT_FIELDS = {
    "id": "id",
    "source": "source",
    "type": "event",
    "time": "timestamp",
    "correlationid": "correlation_id",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?)?([Zz]|[+-]\d\d:\d\d)?")


def template(key: str | None, traceparent: str | None, attributes: Attributes | None) -> pb.Event | None:
    """A message with these attributes and nothing else; nothing when there are none.

    Raises:
        ValueError: an attribute belongs into the event, or is a time that cannot be read.
    """
    given = dict(attributes or {})
    if key is not None:
        given["partitionkey"] = key
    if traceparent is not None:
        given["traceparent"] = traceparent
    if not given:
        return None
    message = pb.Event()
    for name, value in given.items():
        text = value if isinstance(value, str) else value.isoformat()
        if name in _FLAT_FIELDS:
            raise ValueError(f"the attribute {name!r} is a field of the event: set its `{_FLAT_FIELDS[name]}`")
        if name == "expirytime":
            message.expirytime_unix_nanos = _nanos(text)
        elif name in _OWN_FIELDS:
            setattr(message, name, text)
        else:
            message.extensions.add(name=name, value=text)
    return message


def with_attributes(flat: bytes, attributes: pb.Event) -> pb.Event:
    """The message of a flat event that has these attributes.

    Raises:
        RefusedError: a field of the event is not what it must be.
    """
    fields = from_json(flat)
    message = pb.Event()
    message.CopyFrom(attributes)
    message.id = _text(fields, "id")
    message.source = _text(fields, "source")
    message.type = _text(fields, "event")
    message.correlationid = _text(fields, "correlation_id")
    time = _text(fields, "timestamp")
    if time:
        try:
            message.time_unix_nanos = _nanos(time)
        except ValueError as error:
            raise _refused("invalid_timestamp", "timestamp", str(error)) from None
    message.data = to_json(fields) if _is_json(message.datacontenttype) else _binary(fields)
    return message


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.pop(name, None)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _refused("invalid_event", name, f"`{name}` must be text; put other values under another name")
    return value


def _is_json(media_type: str) -> bool:
    media = media_type.split(";")[0].strip().lower()
    return media in ("", "application/json", "text/json") or media.endswith("+json")


def _binary(fields: dict[str, Any]) -> bytes:
    """Data that is no JSON: in the flat form it is one text."""
    encoded = fields.get("data_base64")
    try:
        if len(fields) == 1 and isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
    except ValueError:
        pass
    what = "with this `datacontenttype` the data is one field, `data_base64`"
    raise _refused("invalid_event", "data_base64", what)


def _nanos(text: str) -> int:
    """Nanoseconds since the epoch. ``datetime`` would lose the last digits."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text!r} is not a time; write it as in RFC 3339, for instance 2025-01-01T12:00:00Z")
    day, clock, fraction, zone = parts.groups()
    zone = "+00:00" if zone is None or zone in "Zz" else zone
    seconds = (datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone}") - _EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9])


def _refused(code: str, field: str, message: str) -> RefusedError:
    return RefusedError(message, code=code, refused=[Refusal(0, code, field, message)])
