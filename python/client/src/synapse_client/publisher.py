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
from modelkit import BaseEvent

from synapse_client import _wire
from synapse_client._proto import event_service_pb2 as pb
from synapse_client.errors import (
    PublishFailed,
    RefusedError,
    SynapseError,
    UnavailableError,
    from_problem,
    from_rpc,
)
from synapse_client.results import FailedEvent

_FAILURES_MAX = 10_000


class _Batch:
    __slots__ = ("events", "first", "request", "since", "topic")

    def __init__(
        self, topic: str, events: list[bytes], first: list[int], request: pb.PublishRequest, since: float
    ) -> None:
        self.topic = topic
        self.events = events
        #: The number of each event among the publisher's.
        self.first = first
        self.request = request
        self.since = since


class Publisher:
    """See :meth:`SynapseClient.publisher`."""

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        topic: str | None,
        batch_max: int,
        inflight_max: int,
        durability: pb.Durability,
        timeout: float,
    ) -> None:
        self._channel = channel
        self._topic = topic
        self._batch_max = max(batch_max, 1)
        self._inflight_max = inflight_max
        self._durability = durability
        self._timeout = timeout
        self._producer = uuid.uuid4().hex
        self._sequences: dict[str, int] = {}
        self._gathering: dict[str, tuple[list[bytes], list[int]]] = {}
        self._sealed: deque[_Batch] = deque()
        self._inflight: deque[_Batch] = deque()
        self._count = 0
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
        #: Events that were not stored.
        self.failures: list[FailedEvent] = []

    async def publish(self, event: BaseEvent | dict[str, Any], topic: str | None = None) -> None:
        """Hands an event over. Waits only for room, not for the acknowledgement.

        Raises:
            RuntimeError: The publisher is not open.
        """
        if self._driver is None:
            raise RuntimeError("a publisher is used with `async with client.publisher(…) as publisher`")
        name = topic or self._topic
        if name is None:
            raise ValueError("name a topic: the publisher has none of its own")
        gathering = self._gathering.get(name)
        if gathering is None:
            gathering = self._gathering[name] = ([], [])
        gathering[0].append(_wire.encode(event))
        gathering[1].append(self._count)
        self._count += 1
        if len(gathering[0]) >= self._batch_max:
            self._seal(name)
            await asyncio.sleep(0)
            while len(self._sealed) >= self._inflight_max:
                await self._wait_settled()
        elif not self._wake.is_set():
            self._wake.set()

    async def flush(self) -> None:
        """Waits until everything handed over so far is stored, or has failed (see ``failures``)."""
        for name in list(self._gathering):
            self._seal(name)
        while self._sealed or self._inflight:
            await self._wait_settled()

    async def __aenter__(self) -> Publisher:
        self._driver = asyncio.get_running_loop().create_task(self._drive(), name="synapse-publisher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        driver = self._driver
        if driver is None:
            return
        try:
            await self.flush()
        finally:
            self._closing = True
            self._wake.set()
            if error is not None and not isinstance(error, Exception):
                # Cancelled: what is under way may be stored or not, and nobody waits for it.
                driver.cancel()
            await asyncio.gather(driver, return_exceptions=True)
            self._driver = None
        if self.failures and error is None:
            raise PublishFailed(self.failures)

    async def _wait_settled(self) -> None:
        self._settled.clear()
        self._wake.set()
        await self._settled.wait()

    def _seal(self, topic: str) -> None:
        events, numbers = self._gathering.pop(topic, ([], []))
        if not events:
            return
        sequence = self._sequences[topic] = self._sequences.get(topic, 0) + 1
        request = pb.PublishRequest(
            topic=topic,
            flat=pb.FlatBatch(events=events),
            durability=self._durability,
            producer_id=self._producer,
            producer_sequence=sequence,
            # What is acceptable is stored; what is not is named at the end.
            partial=True,
        )
        self._sealed.append(_Batch(topic, events, numbers, request, asyncio.get_running_loop().time()))
        self._wake.set()

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
            if not error.retryable:
                while self._inflight:
                    self._fail(self._inflight.popleft(), error)
                self._settled.set()
                continue
            self._give_up_late(error)
            await backoff.wait(error.retry_after)

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
        except asyncio.InvalidStateError:
            # The stream is over; the reader knows why.
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
        if len(self.failures) < _FAILURES_MAX:
            self.failures.append(FailedEvent(batch.first[index], batch.topic, batch.events[index], error))

    def _fail(self, batch: _Batch, error: SynapseError) -> None:
        for index in range(len(batch.events)):
            self._note(batch, index, error)

    def _give_up_late(self, error: SynapseError) -> None:
        oldest = asyncio.get_running_loop().time() - self._timeout
        for queue in (self._inflight, self._sealed):
            while queue and queue[0].since < oldest:
                self._fail(queue.popleft(), error)
        self._settled.set()
