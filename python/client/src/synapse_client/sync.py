"""The same client for scripts without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from modelkit import AnyEvent, BaseEvent
from typing_extensions import Unpack

from synapse_client._attributes import Attributes
from synapse_client.client import Durability, Event, PublisherOptions, SubscribeOptions, SynapseClient
from synapse_client.errors import ClosedError
from synapse_client.publisher import Publisher
from synapse_client.results import FailedEvent, Gap, PublishResult
from synapse_client.subscription import E, Subscription

T = TypeVar("T")


class _Loop:
    """An event loop on a thread of its own, which runs from its first use until it is stopped, and then again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    @property
    def running(self) -> bool:
        return self._loop is not None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a callback of the synchronous client cannot call it: the call would wait for itself")
        with self._lock:
            future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClosedError("the client was closed meanwhile") from None
        except BaseException:
            # Interrupted while waiting: the work must not go on behind the caller's back.
            future.cancel()
            raise

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Does this work, cancels all other, and ends the thread."""
        with self._lock:
            if self._thread is None or self._loop is None:
                last.close()
                return
            try:
                asyncio.run_coroutine_threadsafe(last, self._loop).result()
            finally:
                self._loop.call_soon_threadsafe(self._stop.set)
                self._thread.join()
                self._thread = self._loop = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
            self._stop = asyncio.Event()
            self._thread = threading.Thread(
                # `run` cancels what is left when it ends.
                target=lambda: asyncio.run(_until(self._stop, started)),
                name="synapse-client",
                daemon=True,
            )
            self._thread.start()
            self._loop = started.result()
        return self._loop


async def _until(stop: asyncio.Event, started: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
    started.set_result(asyncio.get_running_loop())
    await stop.wait()


class SyncSynapseClient:
    """The synchronous twin of :class:`SynapseClient`, with the same arguments."""

    def __init__(self, url: str | None = None, *, name: str = "") -> None:
        self._client = SynapseClient(url, name=name)
        self._loop = _Loop()

    @property
    def url(self) -> str:
        """The hub's address."""
        return self._client.url

    def publish(
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
        """See :meth:`SynapseClient.publish`."""
        work = self._client.publish(
            topic,
            event,
            key=key,
            traceparent=traceparent,
            attributes=attributes,
            durability=durability,
            partial=partial,
            timeout=timeout,
        )
        return self._loop.run(work)

    def publisher(self, topic: str | None = None, **options: Unpack[PublisherOptions]) -> SyncPublisher:
        """See :meth:`SynapseClient.publisher`; to be used with ``with``."""
        return SyncPublisher(self._loop, self._client.publisher(topic, **options))

    @overload
    def subscribe(
        self, topic: str | None = None, *, model: type[E], **options: Unpack[SubscribeOptions]
    ) -> SyncSubscription[E]: ...

    @overload
    def subscribe(
        self, topic: str | None = None, *, model: None = None, **options: Unpack[SubscribeOptions]
    ) -> SyncSubscription[AnyEvent]: ...

    def subscribe(
        self, topic: str | None = None, *, model: type[BaseEvent] | None = None, **options: Unpack[SubscribeOptions]
    ) -> SyncSubscription[Any]:
        """See :meth:`SynapseClient.subscribe`; an iterator."""
        subscription: Subscription[Any]
        if model is None:
            subscription = self._client.subscribe(topic, **options)
        else:
            subscription = self._client.subscribe(topic, model=model, **options)
        return SyncSubscription(self._loop, subscription)

    def close(self) -> None:
        """Closes the connection and ends the thread; subscriptions end. The client can be used again."""
        self._loop.stop(self._client.aclose())

    def __enter__(self) -> SyncSynapseClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SyncPublisher:
    """See :class:`Publisher`."""

    def __init__(self, loop: _Loop, publisher: Publisher) -> None:
        self._loop = loop
        self._publisher = publisher

    @property
    def stored(self) -> int:
        """How many events are stored."""
        return self._publisher.stored

    @property
    def duplicates(self) -> int:
        """How many of them had been stored before, when their batch was sent again."""
        return self._publisher.duplicates

    @property
    def failed(self) -> int:
        """How many events were not stored."""
        return self._publisher.failed

    @property
    def failures(self) -> list[FailedEvent]:
        """Those events, the first 10,000."""
        return self._publisher.failures

    def publish(
        self,
        event: Event,
        topic: str | None = None,
        *,
        key: str | None = None,
        traceparent: str | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """See :meth:`Publisher.publish`."""
        self._loop.run(self._publisher.publish(event, topic, key=key, traceparent=traceparent, attributes=attributes))

    def flush(self) -> None:
        """See :meth:`Publisher.flush`."""
        self._loop.run(self._publisher.flush())

    def __enter__(self) -> SyncPublisher:
        self._loop.run(self._publisher.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._publisher.__aexit__(kind, error, trace))


class SyncSubscription(Iterator[E], Generic[E]):
    """See :class:`Subscription`."""

    def __init__(self, loop: _Loop, subscription: Subscription[E]) -> None:
        self._loop = loop
        self._subscription = subscription
        #: What was read and not yielded, the next at the end.
        self._batch: list[E] = []
        self._last: E | None = None
        self._closed = False

    @property
    def gaps(self) -> list[Gap]:
        """Gaps that were met."""
        return list(self._subscription.gaps)

    @property
    def cursor(self) -> str:
        """What to give as ``replay_from`` to go on after the last event that was yielded."""
        if self._batch and self._last is not None:
            return self._last.cursor or ""
        return self._subscription.cursor

    @property
    def reconnects(self) -> int:
        """How often the connection was made again."""
        return self._subscription.reconnects

    def __next__(self) -> E:
        if self._closed:
            raise StopIteration
        if not self._batch:
            self._batch = self.next_batch()[::-1]
            if not self._batch:
                raise StopIteration
        event = self._last = self._batch.pop()
        return event

    def next_batch(self) -> list[E]:
        """See :meth:`Subscription.next_batch`."""
        if self._closed:
            return []
        batch, self._batch = self._batch[::-1], []
        return batch or self._loop.run(self._subscription.next_batch())

    def close(self) -> None:
        """Ends the subscription, also for a thread that waits for its next event."""
        self._closed = True
        if self._loop.running:
            self._loop.run(self._subscription.aclose())

    def __enter__(self) -> SyncSubscription[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
