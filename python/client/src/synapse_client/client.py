"""The client."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Literal

import grpc
from modelkit import BaseEvent

from synapse_client import _wire
from synapse_client._proto import event_service_pb2 as pb
from synapse_client.errors import RefusedError, SynapseError, UnavailableError, from_problem, from_rpc
from synapse_client.publisher import Publisher
from synapse_client.results import Gap, PublishResult
from synapse_client.subscription import Filters, Subscription

DEFAULT_URL = "http://127.0.0.1:8002"

Event = BaseEvent | dict[str, Any]
Durability = Literal["memory", "stored", "synced"]
Moment = str | datetime | date | timedelta

#: How many publish calls are under way at once: the hub remembers 64 batches of a producer, and calls may overtake.
_CALLS_MAX = 32


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
        self._connection: tuple[asyncio.AbstractEventLoop, grpc.aio.Channel, asyncio.Semaphore] | None = None

    @property
    def url(self) -> str:
        """The hub's address."""
        return self._url

    async def publish(
        self,
        topic: str,
        event: Event | Iterable[Event],
        *,
        durability: Durability | None = None,
        partial: bool = False,
        timeout: float = 30.0,
    ) -> PublishResult:
        """Publishes an event, or several as one batch, and returns when they are stored.

        Retries by itself while that may help; a batch whose reply was lost is stored once.

        Args:
            topic: The topic.
            event: An event, a dict in the flat form, or several of them.
            durability: What the reply must promise; by default what the topic says.
            partial: Store what is acceptable, rather than refusing the batch whole.
            timeout: For how many seconds, all attempts together.

        Raises:
            RefusedError: The hub refused the batch; ``refused`` names each event and why.
            UnavailableError: The hub or its backend could not be reached in time.
        """
        events = [event] if isinstance(event, (BaseEvent, dict)) else list(event)
        request = pb.PublishRequest(
            topic=topic,
            flat=pb.FlatBatch(events=[_wire.encode(one) for one in events]),
            durability=_wire.durability_of(durability),
            producer_id=self._producer,
            partial=partial,
        )
        async with self._calls():
            request.producer_sequence = self._sequences[topic] = self._sequences.get(topic, 0) + 1
            response = await self._publish(request, timeout)
        refused = _wire.refusals(response)
        if refused and not partial:
            code = refused[0].code if len(refused) == 1 else "batch_refused"
            which = "; ".join(
                f"event {one.index}{', field ' + one.field if one.field else ''}: {one.message}" for one in refused[:10]
            )
            raise RefusedError(which, code=code, refused=refused)
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
        deadline, backoff = loop.time() + timeout, _wire.Backoff()
        while True:
            method = self._channel().unary_unary(
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
            await backoff.wait(error.retry_after)

    def publisher(
        self,
        topic: str | None = None,
        *,
        batch_max: int = 500,
        inflight_max: int = 16,
        durability: Durability | None = None,
        timeout: float = 60.0,
    ) -> Publisher:
        """A publisher that pipelines; to be used with ``async with``.

        Args:
            topic: The topic of events that are published without one.
            batch_max: The most events in one batch.
            inflight_max: The most batches under way, at most 64.
            durability: What acknowledgements must promise; by default what the topic says.
            timeout: For how many seconds a batch is tried.
        """
        level = _wire.durability_of(durability)
        return Publisher(self._channel, topic, batch_max, min(max(inflight_max, 1), 64), level, timeout)

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
    ) -> Subscription:
        """Follows topics, from any moment in history into the live stream.

        Args:
            topic: A topic or a pattern (``pipeline.*``, ``document.>``).
            topics: Several of them.
            filters: An event pattern as a dict, or a list of alternatives.
            replay_from: ``latest``, ``earliest``, a date, a date-time, a duration ago (``-90m`` or a ``timedelta``),
                a position or a cursor.
            until: Where to end, in the same forms; by default never.
            model: Read every event as this class, rather than as the class of its type.
            gaps: What to do when history is gone: go on (it is logged and kept in ``gaps``), or raise ``GapError``.
            on_gap: Called with each gap.
            connect_timeout: For how many seconds a first connection is tried; later ones are tried until they succeed.
        """
        wanted = [*([topic] if topic else []), *topics]
        if not wanted:
            raise ValueError("name a topic to subscribe to")
        return Subscription(
            self._channel,
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
        """Closes the connection. The client can be used again."""
        connection, self._connection = self._connection, None
        if connection is not None and connection[0] is asyncio.get_running_loop():
            await connection[1].close()

    async def __aenter__(self) -> SynapseClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _connected(self) -> tuple[asyncio.AbstractEventLoop, grpc.aio.Channel, asyncio.Semaphore]:
        # A channel belongs to the loop it was made on; scripts may run several after each other.
        loop = asyncio.get_running_loop()
        if self._connection is None or self._connection[0] is not loop:
            self._connection = (loop, _wire.open_channel(self._url), asyncio.Semaphore(_CALLS_MAX))
        return self._connection

    def _channel(self) -> grpc.aio.Channel:
        return self._connected()[1]

    def _calls(self) -> asyncio.Semaphore:
        return self._connected()[2]


def _moment(value: Moment) -> str:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"-{value.total_seconds()}s"
    return value
