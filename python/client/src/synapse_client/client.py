"""The client."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, TypedDict, overload

import grpc
from modelkit import AnyEvent, BaseEvent, dump_event
from typing_extensions import Unpack

from synapse_client import _attributes, _wire
from synapse_client._attributes import Attributes
from synapse_client._proto import event_pb2 as event_pb
from synapse_client._proto import event_service_pb2 as pb
from synapse_client.errors import RefusedError, SynapseError, UnavailableError, from_problem, from_rpc
from synapse_client.publisher import Publisher
from synapse_client.results import Gap, PublishResult, Refusal
from synapse_client.subscription import E, Filters, Subscription

_log = logging.getLogger("synapse_client")

DEFAULT_URL = "http://127.0.0.1:8002"

Event = BaseEvent | dict[str, Any]
Durability = Literal["memory", "stored", "synced"]
Moment = str | datetime | date | timedelta

#: Just below 128 KiB, from where on glibc asks the system for the memory of each message anew: writing one then takes
#: ten times as long.
BATCH_BYTES_MAX = 120 << 10

#: How many publish calls are under way at once: the hub remembers 64 batches of a producer, and calls may overtake.
_CALLS_MAX = 32


class PublisherOptions(TypedDict, total=False):
    """What :meth:`SynapseClient.publisher` can be told."""

    batch_max: int
    batch_bytes_max: int
    inflight_max: int
    durability: Durability | None
    timeout: float


class SubscribeOptions(TypedDict, total=False):
    """What :meth:`SynapseClient.subscribe` can be told, beside the topic and the model."""

    topics: Sequence[str]
    filters: Filters
    replay_from: Moment
    until: Moment | None
    gaps: Literal["continue", "raise"]
    on_gap: Callable[[Gap], None] | None
    connect_timeout: float


@dataclass
class _Connection:
    """A channel belongs to the loop it was made on; scripts may run several after each other."""

    loop: asyncio.AbstractEventLoop
    channel: grpc.aio.Channel
    calls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CALLS_MAX))
    subscriptions: weakref.WeakSet[Subscription[Any]] = field(default_factory=weakref.WeakSet)


class SynapseClient:
    """A client of a Synapse hub. It connects when it is first used, and again when it must.

    Args:
        url: The hub's address; by default ``SYNAPSE_URL``, or else ``http://127.0.0.1:8002``.
        name: A name for the hub's logs.
    """

    def __init__(self, url: str | None = None, *, name: str = "") -> None:
        self._url = url or os.environ.get("SYNAPSE_URL") or DEFAULT_URL
        self._name = name
        self._producer = uuid.uuid4().hex
        self._sequences: dict[str, int] = {}
        self._connection: _Connection | None = None

    @property
    def url(self) -> str:
        """The hub's address."""
        return self._url

    async def publish(
        self,
        topic: str,
        event: Event | Iterable[Event],
        *,
        key: str | None = None,
        traceparent: str | None = None,
        attributes: Attributes | None = None,
        durability: Durability | None = None,
        partial: bool = False,
        timeout: float = 30.0,
    ) -> PublishResult:
        """Publishes an event, or several as one batch, and returns when they are stored.

        Retries by itself while that may help; a batch whose reply was lost is stored once.

        Args:
            topic: The topic.
            event: An event, a dict in the flat form, or several of them.
            key: Events with one key keep their order (the attribute ``partitionkey``).
            traceparent: The W3C trace context, carried to the subscribers.
            attributes: Further CloudEvents attributes: ``subject``, ``expirytime``, ``dataschema``, or extensions of
                your own. Subscribers find them, as the two before, in ``event.attributes``.
            durability: What the reply must promise; by default what the topic says.
            partial: Store what is acceptable, rather than refusing the batch whole.
            timeout: For how many seconds, all attempts together.

        Raises:
            RefusedError: The hub refused the batch; ``refused`` names each event and why.
            UnavailableError: The hub or its backend could not be reached in time.
        """
        # A text is no list of events either, though Python would take it for one.
        events = [event] if isinstance(event, (BaseEvent, dict, str, bytes)) else list(event)
        template = _attributes.template(key, traceparent, attributes)
        flat, messages, unsent = _encode_all(events, template)
        if unsent and not partial:
            raise RefusedError.naming(list(unsent.values()))
        request = _wire.publish_request(topic, flat, messages if template else None)
        request.durability = _wire.durability_of(durability)
        request.producer_id = self._producer
        request.partial = partial
        async with self._connected().calls:
            request.producer_sequence = self._sequences[topic] = self._sequences.get(topic, 0) + 1
            response = await self._publish(request, timeout)
        refused = [unsent.get(one.index, one) for one in _wire.refusals(response)]
        if refused and not partial:
            raise RefusedError.naming(refused)
        if response.HasField("error"):
            raise from_problem(response.error)
        return PublishResult(
            positions=list(response.positions),
            duplicate=response.duplicate,
            deduplicated=list(response.deduplicated),
            refused=refused,
            durability=response.durability,
        )

    async def _publish(self, request: pb.PublishRequest, timeout: float) -> pb.PublishResponse:
        loop = asyncio.get_running_loop()
        deadline, backoff, warned = loop.time() + timeout, _wire.Backoff(), False
        while True:
            method = self._connected().channel.unary_unary(
                f"{_wire.SERVICE}Publish",
                request_serializer=pb.PublishRequest.SerializeToString,
                response_deserializer=pb.PublishResponse.FromString,
            )
            error: SynapseError
            try:
                response: pb.PublishResponse = await method(request, timeout=max(deadline - loop.time(), 0.001))
                if not (response.HasField("error") and response.error.retryable):
                    return response
                error = from_problem(response.error)
            except grpc.aio.AioRpcError as failure:
                error = from_rpc(failure)
            if not error.retryable:
                raise error
            if loop.time() + _wire.FIRST_WAIT >= deadline:
                message = f"not stored within {timeout} s: {error.message}"
                raise UnavailableError(message, code=error.code, retryable=True) from error
            if not warned:
                warned = True
                _log.warning("%s: not stored yet (%s); trying for %g s", self._url, error.message, timeout)
            await backoff.wait(error.retry_after)

    def publisher(
        self,
        topic: str | None = None,
        *,
        batch_max: int = 500,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        inflight_max: int = 16,
        durability: Durability | None = None,
        timeout: float = 60.0,
    ) -> Publisher:
        """A publisher that pipelines; to be used with ``async with``.

        Args:
            topic: The topic of events that are published without one.
            batch_max: The most events in one batch.
            batch_bytes_max: The most bytes in one batch, about; a larger event is a batch of its own.
            inflight_max: The most batches under way, at most 64.
            durability: What acknowledgements must promise; by default what the topic says.
            timeout: For how many seconds a batch is tried.
        """
        return Publisher(
            lambda: self._connected().channel,
            topic,
            batch_max=batch_max,
            batch_bytes_max=batch_bytes_max,
            inflight_max=inflight_max,
            durability=_wire.durability_of(durability),
            timeout=timeout,
        )

    @overload
    def subscribe(
        self, topic: str | None = None, *, model: type[E], **options: Unpack[SubscribeOptions]
    ) -> Subscription[E]: ...

    @overload
    def subscribe(
        self, topic: str | None = None, *, model: None = None, **options: Unpack[SubscribeOptions]
    ) -> Subscription[AnyEvent]: ...

    def subscribe(
        self,
        topic: str | None = None,
        *,
        topics: Sequence[str] = (),
        filters: Filters = None,
        replay_from: Moment = "latest",
        until: Moment | None = None,
        model: type[BaseEvent] | None = None,
        gaps: Literal["continue", "raise"] = "continue",
        on_gap: Callable[[Gap], None] | None = None,
        connect_timeout: float = 30.0,
    ) -> Subscription[Any]:
        """Follows topics, from any moment in history into the live stream.

        Args:
            topic: A topic or a pattern (``pipeline.*``, ``document.>``).
            topics: Several of them.
            filters: An event pattern as a dict, or a list of alternatives.
            replay_from: ``latest``, ``earliest``, a date, a date-time, a duration ago (``-90m`` or a ``timedelta`` of
                either sign), a position or a cursor.
            until: Where to end, in the same forms; by default never.
            model: Read every event as this class, rather than as the class of its type; type checkers know it then.
                What does not fit it is a ``BaseEvent`` that says why in ``validation_error``.
            gaps: What to do when history is gone: go on (it is logged and kept in ``gaps``), or raise ``GapError``.
            on_gap: Called with each gap.
            connect_timeout: For how many seconds a first connection is tried; later ones are tried until they succeed.
        """
        wanted = [*([topic] if topic else []), *topics]
        if not wanted:
            raise ValueError("name a topic to subscribe to")
        return Subscription[Any](
            self._channel_of,
            topics=wanted,
            filters=filters,
            replay_from=_moment(replay_from),
            until=_moment(until) if until is not None else "",
            model=model,
            gaps=gaps,
            on_gap=on_gap,
            connect_timeout=connect_timeout,
            name=self._name,
        )

    async def aclose(self) -> None:
        """Closes the connection; subscriptions on it end. The client can be used again."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.loop is asyncio.get_running_loop():
            for subscription in list(connection.subscriptions):
                await subscription.aclose()
            await connection.channel.close()

    async def __aenter__(self) -> SynapseClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if self._connection is None or self._connection.loop is not loop:
            self._connection = _Connection(loop, _wire.open_channel(self._url))
        return self._connection

    def _channel_of(self, subscription: Subscription[Any]) -> grpc.aio.Channel:
        connection = self._connected()
        connection.subscriptions.add(subscription)
        return connection.channel


def _encode_all(
    events: list[Event], template: event_pb.Event | None
) -> tuple[list[bytes], list[event_pb.Event], dict[int, Refusal]]:
    """The events in both forms, the second only with a template, and those that have none of them.

    Something empty, which the hub refuses, keeps the place of these.
    """
    flat: list[bytes] = []
    messages: list[event_pb.Event] = []
    unsent: dict[int, Refusal] = {}
    for index, event in enumerate(events):
        data, message = b"", event_pb.Event()
        try:
            data = dump_event(event)
            message = _attributes.with_attributes(data, template) if template else message
        except (ValueError, RefusedError) as failure:
            error = failure if isinstance(failure, RefusedError) else _wire.no_json(failure)
            unsent[index] = replace(error.refused[0], index=index)
        flat.append(data)
        messages.append(message)
    return flat, messages, unsent


def _moment(value: Moment) -> str:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        # Ago, whichever sign it has: nothing is in the future.
        return f"-{abs(value).total_seconds():f}s"
    if not isinstance(value, str):
        raise TypeError(f"a moment is a text, a date, a datetime or a timedelta, not {value!r}")
    return value
