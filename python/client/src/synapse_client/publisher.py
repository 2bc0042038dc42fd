"""A publisher that pipelines: batches up, acknowledgements down, several under way.

Events go at once when nothing is under way, and gather into batches while something is. After a lost connection the
batches that were not acknowledged are sent again, in order and with their numbers, so that the hub stores each once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc
from modelkit import BaseEvent, dump_event

from synapse_client import _attributes, _wire
from synapse_client._attributes import Attributes
from synapse_client._proto import event_pb2 as event_pb
from synapse_client._proto import event_service_pb2 as pb
from synapse_client.errors import (
    ClosedError,
    PublishFailed,
    RefusedError,
    SynapseError,
    UnavailableError,
    from_problem,
    from_rpc,
)
from synapse_client.results import FailedEvent

#: How many failed events are kept; all are counted.
_FAILURES_MAX = 10_000


class _Gathering:
    """Events of a topic that wait to be a batch."""

    __slots__ = ("bytes", "flat", "messages", "numbers")

    def __init__(self, attributed: bool) -> None:
        self.flat: list[bytes] = []
        #: The events again, when they have attributes beyond the flat form. A batch is of one kind.
        self.messages: list[event_pb.Event] | None = [] if attributed else None
        #: The number of each event among the publisher's.
        self.numbers: list[int] = []
        self.bytes = 0


class _Batch:
    __slots__ = ("events", "numbers", "request", "since", "suspect", "topic")

    def __init__(self, topic: str, gathered: _Gathering, request: pb.PublishRequest, since: float) -> None:
        self.topic = topic
        self.events = gathered.flat
        self.numbers = gathered.numbers
        self.request = request
        self.since = since
        #: The stream broke, for good as it seemed, when this batch was the next to be answered.
        self.suspect = False


class Publisher:
    """See :meth:`SynapseClient.publisher`."""

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        topic: str | None,
        *,
        batch_max: int,
        batch_bytes_max: int,
        inflight_max: int,
        durability: pb.Durability,
        timeout: float,
    ) -> None:
        self._channel = channel
        self._topic = topic
        self._batch_max = max(batch_max, 1)
        self._batch_bytes_max = batch_bytes_max
        self._inflight_max = min(max(inflight_max, 1), 64)
        self._durability = durability
        self._timeout = timeout
        self._producer = uuid.uuid4().hex
        self._sequences: dict[str, int] = {}
        self._gathering: dict[str, _Gathering] = {}
        self._sealed: deque[_Batch] = deque()
        self._inflight: deque[_Batch] = deque()
        self._count = 0
        self._open = False
        self._closing = False
        self._driver: asyncio.Task[None] | None = None
        #: Something is to be done.
        self._wake = asyncio.Event()
        #: There is room for another batch, or all is done.
        self._settled = asyncio.Event()
        #: How many events are stored.
        self.stored = 0
        #: How many of them had been stored before, when their batch was sent again.
        self.duplicates = 0
        #: How many events were not stored.
        self.failed = 0
        #: Those events, the first 10,000.
        self.failures: list[FailedEvent] = []

    async def publish(
        self,
        event: BaseEvent | dict[str, Any],
        topic: str | None = None,
        *,
        key: str | None = None,
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """Hands an event over. Waits only for room, not for the acknowledgement.

        Args:
            event: An event, or a dict in the flat form.
            topic: The topic; by default the publisher's.
            key: See :meth:`SynapseClient.publish`, as for ``traceparent`` and ``attributes``.

        Raises:
            RefusedError: The event cannot be written as JSON; it was not handed over.
            RuntimeError: The publisher is not open.
        """
        if not self._open:
            raise RuntimeError("the publisher is not open: use it within `with client.publisher(…) as publisher`")
        name = topic or self._topic
        if name is None:
            raise ValueError("name a topic: the publisher has none of its own")
        try:
            data = dump_event(event)
        except ValueError as error:
            raise _wire.no_json(error) from None
        message = None
        if key is not None or traceparent is not None or attributes:
            template = _attributes.template(key, traceparent, attributes)
            message = template and _attributes.with_attributes(data, template)
        gathering, size = self._gathering.get(name), len(data)
        # Both are None when neither this event nor those gathered have attributes.
        if gathering is None or gathering.bytes + size > self._batch_bytes_max or gathering.messages is not message:
            gathering = await self._gather(name, size, message)
        gathering.flat.append(data)
        gathering.numbers.append(self._count)
        gathering.bytes += size
        self._count += 1
        if len(gathering.flat) >= self._batch_max:
            await self._send(name)
        elif not self._wake.is_set():
            self._wake.set()

    async def flush(self) -> None:
        """Waits until everything handed over so far is stored, or has failed (see ``failures``)."""
        for name in list(self._gathering):
            self._seal(name)
        while self._sealed or self._inflight:
            await self._wait_settled()

    async def __aenter__(self) -> Publisher:
        # An address that cannot be one is said here.
        self._channel()
        self._open = True
        self._driver = asyncio.get_running_loop().create_task(self._run(), name="synapse-publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        try:
            if error is None or isinstance(error, Exception):
                await self.flush()
                self._closing = True
                self._wake.set()
                if not driver.done():
                    await asyncio.wait([driver])
        finally:
            if not driver.done():
                # Cancelled: what is under way may be stored or not, and nobody waits for it.
                driver.cancel()
                await asyncio.wait([driver])
        if self.failed and error is None:
            raise PublishFailed(self.failures, self.failed)

    async def _gather(self, topic: str, size: int, message: event_pb.Event | None) -> _Gathering:
        """What the next event of the topic joins. An event with attributes joins it here."""
        attributed = message is not None
        gathering = self._gathering.get(topic)
        while gathering is not None and (
            gathering.bytes + size > self._batch_bytes_max or (gathering.messages is not None) is not attributed
        ):
            await self._send(topic)
            gathering = self._gathering.get(topic)
        if gathering is None:
            gathering = self._gathering[topic] = _Gathering(attributed)
        if message is not None and gathering.messages is not None:
            gathering.messages.append(message)
        return gathering

    async def _send(self, topic: str) -> None:
        """Makes what is gathered a batch, and waits for room for another."""
        self._seal(topic)
        await asyncio.sleep(0)
        while len(self._sealed) >= self._inflight_max:
            await self._wait_settled()

    async def _wait_settled(self) -> None:
        self._settled.clear()
        self._wake.set()
        await self._settled.wait()

    def _seal(self, topic: str) -> None:
        gathered = self._gathering.pop(topic, None)
        if gathered is None:
            return
        sequence = self._sequences[topic] = self._sequences.get(topic, 0) + 1
        request = _wire.publish_request(topic, gathered.flat, gathered.messages)
        request.durability = self._durability
        request.producer_id = self._producer
        request.producer_sequence = sequence
        # What is acceptable is stored; what is not is named at the end.
        request.partial = True
        self._sealed.append(_Batch(topic, gathered, request, asyncio.get_running_loop().time()))
        self._wake.set()

    async def _run(self) -> None:
        error: SynapseError = ClosedError("the publisher was closed before the event was acknowledged")
        try:
            await self._drive()
        except Exception as failure:
            # No failure of a call; the events tell of it.
            error = SynapseError(repr(failure), code="internal")
            error.__cause__ = failure
        finally:
            self._open = False
            for name in list(self._gathering):
                self._seal(name)
            for batch in (*self._inflight, *self._sealed):
                self._fail(batch, error)
            self._inflight.clear()
            self._sealed.clear()
            self._settled.set()

    async def _drive(self) -> None:
        backoff = _wire.Backoff()
        while True:
            await self._until_work()
            if self._closing and not self._sealed and not self._inflight:
                return
            try:
                await self._pipeline(backoff)
                return
            except grpc.aio.AioRpcError as failure:
                error = from_rpc(failure)
            except SynapseError as problem:
                error = problem
            if error.retryable:
                self._give_up_late(error)
                await backoff.wait(error.retry_after)
            else:
                self._blame_first(error)

    def _blame_first(self, error: SynapseError) -> None:
        """The hub answers in order: what ended the stream is the first batch without an answer. The others go again.

        An answer may have been lost on the way, so a batch fails when this happens to it a second time.
        """
        if self._inflight and self._inflight[0].suspect:
            self._fail(self._inflight.popleft(), error)
        elif self._inflight:
            self._inflight[0].suspect = True
        self._settled.set()

    async def _until_work(self) -> None:
        while not (self._sealed or self._inflight or self._gathering or self._closing):
            self._wake.clear()
            await self._wake.wait()

    async def _pipeline(self, backoff: _wire.Backoff) -> None:
        """Sends and settles over one connection, until the publisher is closed."""
        call = self._channel().stream_stream(
            f"{_wire.SERVICE}PublishStream",
            request_serializer=pb.PublishRequest.SerializeToString,
            response_deserializer=pb.PublishResponse.FromString,
        )()
        reader = asyncio.get_running_loop().create_task(self._read(call, backoff), name="synapse-publisher-read")
        try:
            for batch in list(self._inflight):
                await call.write(batch.request)
            while not reader.done():
                if not self._inflight and not self._sealed:
                    for name in list(self._gathering):
                        self._seal(name)
                while self._sealed and len(self._inflight) < self._inflight_max:
                    batch = self._sealed.popleft()
                    self._inflight.append(batch)
                    await call.write(batch.request)
                if self._closing and not self._inflight and not self._sealed:
                    await call.done_writing()
                    return
                self._wake.clear()
                # An acknowledgement may have come during the last write.
                if self._sealed and len(self._inflight) < self._inflight_max:
                    continue
                if not self._inflight and self._gathering:
                    continue
                if not reader.done():
                    await self._wake.wait()
            await reader
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # The stream is over; the reader knows why, and what was answered before.
            await reader
            raise UnavailableError("the hub closed the stream", code="unreachable", retryable=True) from None
        finally:
            reader.cancel()
            call.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, call: Any, backoff: _wire.Backoff) -> None:
        try:
            while True:
                response = await call.read()
                if response is grpc.aio.EOF:
                    # Raises what the call ended with, if it failed.
                    if await call.code() is not grpc.StatusCode.OK:
                        await call
                    raise UnavailableError("the hub closed the stream", code="unreachable", retryable=True)
                self._settle(response)
                backoff.reset()
        finally:
            self._wake.set()

    def _settle(self, response: pb.PublishResponse) -> None:
        batch = self._inflight[0]
        if response.HasField("error") and not response.refused:
            error = from_problem(response.error)
            if error.retryable:
                raise error
            self._inflight.popleft()
            self._fail(batch, error)
        else:
            self._inflight.popleft()
            refused = _wire.refusals(response)
            stored = len(batch.events) - len(refused)
            self.stored += stored
            if response.duplicate:
                self.duplicates += stored
            for one in refused:
                self._note(batch, one.index, RefusedError(one.message, code=one.code, refused=[one]))
        self._settled.set()
        self._wake.set()

    def _note(self, batch: _Batch, index: int, error: SynapseError) -> None:
        self.failed += 1
        if len(self.failures) < _FAILURES_MAX:
            self.failures.append(FailedEvent(batch.numbers[index], batch.topic, batch.events[index], error))

    def _fail(self, batch: _Batch, error: SynapseError) -> None:
        for index in range(len(batch.events)):
            self._note(batch, index, error)

    def _give_up_late(self, error: SynapseError) -> None:
        oldest = asyncio.get_running_loop().time() - self._timeout
        for queue in (self._inflight, self._sealed):
            while queue and queue[0].since < oldest:
                self._fail(queue.popleft(), error)
        self._settled.set()
