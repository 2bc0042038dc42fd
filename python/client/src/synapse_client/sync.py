"""The same client for scripts without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from modelkit import BaseEvent

from synapse_client.client import Durability, Event, SynapseClient
from synapse_client.publisher import Publisher
from synapse_client.results import Gap, PublishResult
from synapse_client.subscription import Subscription

T = TypeVar("T")


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="synapse-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Interrupted while waiting: the work must not go on behind the caller's back.
            future.cancel()
            raise

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncSynapseClient:
    """The synchronous twin of :class:`SynapseClient`, with the same arguments."""

    def __init__(self, url: str | None = None, *, name: str = "") -> None:
        self._client = SynapseClient(url, name=name)
        self._loop = _Loop()
        self._closed = False

    def publish(
        self,
        topic: str,
        event: Event | Iterable[Event],
        *,
        durability: Durability | None = None,
        partial: bool = False,
        timeout: float = 30.0,
    ) -> PublishResult:
        """See :meth:`SynapseClient.publish`."""
        work = self._client.publish(topic, event, durability=durability, partial=partial, timeout=timeout)
        return self._loop.run(work)

    def publisher(self, topic: str | None = None, **options: Any) -> SyncPublisher:
        """See :meth:`SynapseClient.publisher`; to be used with ``with``."""
        return SyncPublisher(self._loop, self._client, topic, options)

    def subscribe(self, topic: str | None = None, **options: Any) -> SyncSubscription:
        """See :meth:`SynapseClient.subscribe`; an iterator."""
        return SyncSubscription(self._loop, self._client.subscribe(topic, **options))

    def close(self) -> None:
        """Closes the connection and ends the thread."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._client.aclose())
            self._loop.stop()

    def __enter__(self) -> SyncSynapseClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SyncPublisher:
    """See :class:`Publisher`."""

    def __init__(self, loop: _Loop, client: SynapseClient, topic: str | None, options: dict[str, Any]) -> None:
        self._loop = loop
        self._client = client
        self._topic = topic
        self._options = options
        self._publisher: Publisher | None = None

    def publish(self, event: Event, topic: str | None = None) -> None:
        """See :meth:`Publisher.publish`."""
        if self._publisher is None:
            raise RuntimeError("a publisher is used with `with client.publisher(…) as publisher`")
        self._loop.run(self._publisher.publish(event, topic))

    def flush(self) -> None:
        """See :meth:`Publisher.flush`."""
        if self._publisher is not None:
            self._loop.run(self._publisher.flush())

    def __enter__(self) -> SyncPublisher:
        self._publisher = self._loop.run(self._enter())
        return self

    async def _enter(self) -> Publisher:
        return await self._client.publisher(self._topic, **self._options).__aenter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._publisher is not None:
            self._loop.run(self._publisher.__aexit__(kind, error, trace))


class SyncSubscription(Iterator[BaseEvent]):
    """See :class:`Subscription`."""

    def __init__(self, loop: _Loop, subscription: Subscription) -> None:
        self._loop = loop
        self._subscription = subscription
        self._batch: list[BaseEvent] = []

    @property
    def gaps(self) -> list[Gap]:
        """Gaps that were met."""
        return list(self._subscription.gaps)

    def __next__(self) -> BaseEvent:
        if not self._batch:
            # Reversed, because a list gives from its end.
            self._batch = self._loop.run(self._subscription.next_batch())[::-1]
            if not self._batch:
                raise StopIteration
        return self._batch.pop()

    def close(self) -> None:
        """Ends the subscription."""
        self._batch = []
        self._loop.run(self._subscription.aclose())

    def __enter__(self) -> SyncSubscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
