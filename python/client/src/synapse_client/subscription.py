"""A subscription: typed events, which resumes by itself."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

import grpc
from modelkit import BaseEvent, EventPlace, event_class, parse_event

from synapse_client import _wire
from synapse_client._proto import event_service_pb2 as pb
from synapse_client.errors import GapError, SynapseError, TopicNotFoundError, UnavailableError, from_rpc
from synapse_client.results import Gap

E = TypeVar("E", bound=BaseEvent)

Filters = dict[str, Any] | Sequence[dict[str, Any]] | None

#: How many gaps a subscription remembers.
_GAPS_MAX = 1000

_log = logging.getLogger("synapse_client")


class Subscription(Generic[E]):
    """See :meth:`SynapseClient.subscribe`. An async iterator of events."""

    def __init__(
        self,
        channel: Callable[[Subscription[E]], grpc.aio.Channel],
        *,
        topics: list[str],
        filters: Filters,
        replay_from: str,
        until: str,
        model: type[BaseEvent] | None,
        gaps: Literal["continue", "raise"],
        on_gap: Callable[[Gap], None] | None,
        connect_timeout: float,
        name: str,
    ) -> None:
        self._channel = channel
        alternatives = [] if filters is None else [filters] if isinstance(filters, dict) else list(filters)
        self._request = pb.SubscribeRequest(
            topics=topics,
            filters=[json.dumps(one) for one in alternatives],
            replay_from=replay_from,
            until=until,
            format=pb.FORMAT_FLAT,
            client_name=name,
        )
        self._model = model
        self._raise_gaps = gaps == "raise"
        self._on_gap = on_gap
        self._connect_timeout = connect_timeout
        self._call: Any = None
        #: The wait before the next attempt, which `aclose` ends.
        self._pausing: asyncio.Task[None] | None = None
        self._backoff = _wire.Backoff()
        self._started = False
        #: Nothing is heard of the hub, which was said.
        self._lost = False
        self._ended = False
        self._buffer: deque[E] = deque()
        self._last: E | None = None
        #: Gaps that were met, the latest 1000.
        self.gaps: deque[Gap] = deque(maxlen=_GAPS_MAX)
        #: How often the connection was made again.
        self.reconnects = 0

    @property
    def cursor(self) -> str:
        """What to give as ``replay_from`` to go on after the last event that was yielded."""
        if self._buffer and self._last is not None:
            return self._last.cursor or ""
        return self._request.replay_from

    def __aiter__(self) -> Subscription[E]:
        return self

    async def __anext__(self) -> E:
        if not self._buffer:
            await self._fill()
            if not self._buffer:
                raise StopAsyncIteration
        event = self._last = self._buffer.popleft()
        return event

    async def next_batch(self) -> list[E]:
        """The next events, as many as are there; an empty list at the end."""
        if not self._buffer:
            await self._fill()
        batch = list(self._buffer)
        self._buffer.clear()
        if batch:
            self._last = batch[-1]
        return batch

    async def aclose(self) -> None:
        """Ends the subscription, also for a task that waits for its next event."""
        self._request.replay_from = self.cursor
        self._ended = True
        self._buffer.clear()
        if self._pausing is not None:
            self._pausing.cancel()
        self._drop()

    async def __aenter__(self) -> Subscription[E]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Left by `break`: the hub need not wait for the connection to end.
        call = getattr(self, "_call", None)
        if call is not None:
            try:
                call.cancel()
            except Exception:
                self._call = None

    def _drop(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def _fill(self) -> None:
        """Reads until there is an event, or the end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connect_timeout
        while not self._buffer and not self._ended:
            try:
                self._accept(await self._read())
            except asyncio.CancelledError:
                # The call dies with the read. Everything that was received was counted: the next read resumes.
                self._drop()
                if not self._ended or _is_cancelled():
                    raise
            except (grpc.aio.AioRpcError, UnavailableError) as failure:
                error = failure if isinstance(failure, SynapseError) else from_rpc(failure)
                self._drop()
                if not error.retryable or (not self._started and loop.time() > deadline):
                    self._ended = True
                    raise error from None
                if not self._lost:
                    self._lost = True
                    _log.warning(
                        "no connection to the hub (%s): trying again, to go on after the last event", error.message
                    )
                self.reconnects += 1
                await self._pause(error.retry_after)

    async def _pause(self, at_least: float) -> None:
        """Waits before the next attempt, or until the subscription is closed."""
        pause = self._pausing = asyncio.get_running_loop().create_task(self._backoff.wait(at_least))
        try:
            await asyncio.wait([pause])
        finally:
            pause.cancel()

    async def _read(self) -> pb.SubscribeResponse:
        if self._call is None:
            self._call = self._channel(self).unary_stream(
                f"{_wire.SERVICE}Subscribe",
                request_serializer=pb.SubscribeRequest.SerializeToString,
                response_deserializer=pb.SubscribeResponse.FromString,
            )(self._request)
        call = self._call
        response: pb.SubscribeResponse = await call.read()
        if response is grpc.aio.EOF:
            if await call.code() is not grpc.StatusCode.OK:
                # Raises what the call ended with.
                await call.read()
            raise UnavailableError("the hub closed the stream", code="unreachable", retryable=True)
        return response

    def _accept(self, response: pb.SubscribeResponse) -> None:
        self._backoff.reset()
        item = response.WhichOneof("item")
        if item == "delivery":
            self._take(response.delivery)
        elif item == "gap":
            self._request.replay_from = response.gap.cursor
            self._report(response.gap)
        elif item == "ended":
            self._end(response.ended)
        elif item == "started":
            self._started = True
            self._request.replay_from = response.started.cursor
            if self._lost:
                self._lost = False
                _log.info("connected to the hub again")
        elif item == "heartbeat":
            self._request.replay_from = response.heartbeat.cursor

    def _end(self, ended: pb.Ended) -> None:
        self._request.replay_from = ended.cursor
        if ended.reason == pb.Ended.REASON_SHUTDOWN:
            raise UnavailableError("the hub stops", code="shutting_down", retryable=True)
        self._ended = True
        self._drop()
        if ended.reason == pb.Ended.REASON_TOPIC_DELETED:
            raise TopicNotFoundError("the topic was deleted", code="topic_not_found")

    def _take(self, delivery: pb.Delivery) -> None:
        topic, partition, rest = delivery.topic, delivery.partition, delivery.cursor_rest
        received = zip(delivery.flat, delivery.positions, strict=True)
        events: list[Any] = []
        # Without the detour over the arguments of `EventPlace`.
        append, place = events.append, tuple.__new__
        for kind, count in zip(delivery.types, delivery.type_counts, strict=True):
            cls = self._model or event_class(kind)
            validate = cls.__pydantic_validator__.validate_json
            for data, position in islice(received, count):
                try:
                    event = validate(data)
                except Exception:
                    event = _read_anyhow(data, kind, cls)
                # What `event._place = …` does, without asking which kind of attribute it is.
                event.__pydantic_private__["_place"] = place(EventPlace, (topic, partition, position, rest, None))
                append(event)
        for one in delivery.attributes:
            event = events[one.index]
            event._place = event._place._replace(attributes={item.name: item.value for item in one.attributes})
        if events:
            self._buffer.extend(events)
            self._request.replay_from = events[-1].cursor

    def _report(self, message: pb.Gap) -> None:
        lost = message.lost if message.HasField("lost") else None
        gap = Gap(message.topic, message.partition, message.after, message.earliest, lost, message.reason)
        self.gaps.append(gap)
        if self._on_gap is not None:
            self._on_gap(gap)
        if self._raise_gaps:
            raise GapError(gap)
        if self._on_gap is None:
            _log.warning("%s", GapError(gap).message)


def _is_cancelled() -> bool:
    """Whether this task itself is being cancelled, and not only the call that it waits for."""
    task = asyncio.current_task()
    # Python 3.10 does not say: there, what is closed ends as closed, even if it is cancelled in the same moment.
    return sys.version_info >= (3, 11) and task is not None and task.cancelling() > 0


def _read_anyhow(data: bytes, kind: str, cls: type[BaseEvent]) -> BaseEvent:
    """An event that its class does not read. Whatever it is, those beside it are delivered."""
    try:
        return parse_event(data, cls)
    except Exception:
        # Python cannot read it at all: here is its text.
        return BaseEvent(event=kind, **{"data": data.decode("utf-8", "backslashreplace")})
