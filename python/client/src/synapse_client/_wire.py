"""How the client speaks with the hub: channels, methods, retries."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import urlsplit

import grpc
from modelkit import NotJsonError

from synapse_client._proto import event_pb2 as event_pb
from synapse_client._proto import event_service_pb2 as pb
from synapse_client.errors import RefusedError
from synapse_client.results import Refusal

SERVICE = "/synapse.v1.EventService/"
MESSAGE_BYTES_MAX = 64 << 20
FIRST_WAIT = 0.05
LONGEST_WAIT = 5.0

_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A proxy that the environment names is for the web, not for the hub beside us.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(url: str) -> grpc.aio.Channel:
    """A channel to the hub at this address."""
    target, secure = target_of(url)
    if secure:
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=_OPTIONS)
    return grpc.aio.insecure_channel(target, options=_OPTIONS)


def target_of(url: str) -> tuple[str, bool]:
    """The host and port of an address, and whether it speaks TLS. Without a port it is that of hubs, or of the web."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a hub; write it like http://127.0.0.1:8002")
    secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or (443 if secure else 8002)}", secure


def no_json(error: ValueError) -> RefusedError:
    """The error of an event that :func:`dump_event` cannot write."""
    refusal = Refusal(0, "invalid_json", error.field if isinstance(error, NotJsonError) else "", str(error))
    return RefusedError(refusal.message, code=refusal.code, refused=[refusal])


def publish_request(topic: str, flat: list[bytes], messages: list[event_pb.Event] | None) -> pb.PublishRequest:
    """A request with these events, in the form that has a place for all they carry."""
    request = pb.PublishRequest(topic=topic)
    if messages is None:
        # A `FlatBatch` given to the constructor would be copied event by event.
        request.flat.events.extend(flat)
    else:
        request.batch = event_pb.EventBatch(events=messages).SerializeToString()
    return request


def refusals(response: pb.PublishResponse) -> list[Refusal]:
    """What a response says was refused."""
    return [Refusal(one.index, one.code, one.field, one.message) for one in response.refused]


def durability_of(name: str | None) -> pb.Durability:
    """The level of this name."""
    if name is None:
        return pb.DURABILITY_UNSPECIFIED
    try:
        level: pb.Durability = pb.Durability.Value(f"DURABILITY_{name.upper()}")
    except ValueError:
        raise ValueError(f"{name!r} is no durability; there are memory, stored and synced") from None
    return level


class Backoff:
    """Waits between attempts: exponential, with jitter, up to a cap."""

    def __init__(self) -> None:
        self._attempts = 0

    def reset(self) -> None:
        """The next failure is a first one."""
        self._attempts = 0

    async def wait(self, at_least: float = 0.0) -> None:
        """Waits before the next attempt."""
        longest = min(FIRST_WAIT * 2 ** min(self._attempts, 10), LONGEST_WAIT)
        self._attempts += 1
        await asyncio.sleep(max(at_least, longest * random.uniform(0.5, 1.0)))
