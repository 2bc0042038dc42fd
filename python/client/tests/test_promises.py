"""What holds when things go wrong: large and unreadable events, closing and cancelling at any moment."""

import asyncio
import contextlib
import math
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

import httpx
import pytest
from modelkit import BaseEvent, ModelReadyEvent, TrainingProgressEvent
from pydantic import field_validator

from synapse_client import (
    ClosedError,
    PublishFailed,
    RefusedError,
    Subscription,
    SynapseClient,
    SyncSynapseClient,
)


class Tick(BaseEvent):
    event: Literal["tick"] = "tick"
    n: int


class Fragile(BaseEvent):
    event: Literal["fragile"] = "fragile"
    n: int

    @field_validator("n")
    @classmethod
    def _check(cls, value: int) -> int:
        if value < 0:
            raise KeyError(value)
        return value


async def everything(client, topic):
    return [event async for event in client.subscribe(topic, replay_from="earliest", until="latest")]


# --- the publisher


async def test_a_publisher_sends_many_large_events(hub):
    async with SynapseClient(hub.url) as client:
        async with client.publisher("large") as publisher:
            for n in range(1000):
                await publisher.publish({"event": "tick", "n": n, "text": "x" * 20_000})
        assert publisher.stored == 1000
        assert [event.n for event in await everything(client, "large")] == list(range(1000))


async def test_an_event_beyond_all_limits_fails_alone(hub):
    async with SynapseClient(hub.url) as client:
        publisher = client.publisher("mixed")

        async def publish():
            async with publisher:
                for n in range(300):
                    large = n in (100, 200)
                    await publisher.publish({"event": "tick", "n": n, "text": "x" * (20_000_000 if large else 1000)})
                    await publisher.publish(Tick(n=n), topic="small")

        with pytest.raises(PublishFailed) as caught:
            await publish()
        assert [(one.topic, one.index) for one in caught.value.failures] == [("mixed", 200), ("mixed", 400)]
        assert publisher.stored == 598
        assert [event.n for event in await everything(client, "small")] == list(range(300))
        assert [event.n for event in await everything(client, "mixed")] == [
            n for n in range(300) if n not in (100, 200)
        ]


async def test_every_failed_event_is_counted(hub):
    async with SynapseClient(hub.url) as client:
        publisher = client.publisher("ticks")

        async def publish():
            async with publisher:
                for n in range(10_500):
                    await publisher.publish({"no": "type", "n": n})

        with pytest.raises(PublishFailed, match=r"10500 events .* first 10000.* and 10490 more") as caught:
            await publish()
        assert (caught.value.failed, publisher.failed, len(publisher.failures)) == (10_500, 10_500, 10_000)


@pytest.mark.parametrize("where", ["in the block", "at its end"])
async def test_cancelling_a_publisher_does_not_wait_for_a_hub_that_is_away(unused_tcp_port, where):
    client = SynapseClient(f"http://127.0.0.1:{unused_tcp_port}")
    publisher = client.publisher("ticks", timeout=60)

    async def publish():
        async with publisher:
            await publisher.publish(Tick(n=1))
            if where == "in the block":
                await asyncio.sleep(60)

    task = asyncio.create_task(publish())
    await asyncio.sleep(0.3)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 5
    assert [one.error.code for one in publisher.failures] == ["closed"]
    await client.aclose()


async def test_a_publisher_says_at_once_that_an_address_is_none():
    publisher = SynapseClient("ftp://x").publisher("ticks")
    with pytest.raises(ValueError, match="no address"):
        await asyncio.wait_for(publisher.__aenter__(), 5)


# --- what subscriptions read


async def test_no_event_makes_a_subscription_raise_or_lose_its_neighbours(hub):
    texts = [
        '{"event":"tick","n":0}',
        '{"event":"own","n":%s}' % ("9" * 5000),
        '{"event":"own","n":2,"\\ud800":1,"s":"\\ud800"}',
        '{"event":"fragile","n":-3}',
        '{"event":"tick","n":4}',
    ]
    async with SynapseClient(hub.url) as client:
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                f"{hub.url}/v1/topics/odd/events",
                content="\n".join(texts),
                headers={"content-type": "application/x-ndjson"},
            )
            assert answer.status_code < 300, answer.text
        events = await everything(client, "odd")
        assert [event.n for event in events] == [0, "9" * 5000, 2, -3, 4]
        assert events[3].validation_error is not None
        for event in events:
            event.model_dump_json()


def test_an_event_that_python_cannot_read_is_delivered_as_its_text():
    from synapse_client._proto import event_service_pb2 as pb

    subscription = a_subscription()
    deep = b'{"event":"deep","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    flat = [b'{"event":"tick","n":0}', deep, b'{"event":"tick","n":2}']
    delivery = pb.Delivery(
        topic="t", flat=flat, positions=["1", "2", "3"], types=["tick", "deep", "tick"], type_counts=[1, 1, 1]
    )
    subscription._take(delivery)
    first, second, third = subscription._buffer
    assert (first.n, second.event, second.data.encode(), third.n) == (0, "deep", deep, 2)
    assert subscription._request.replay_from == "t/0@3"


def a_subscription() -> Subscription[Any]:
    return SynapseClient().subscribe("t")


# --- ends


async def waiting_reader(subscription):
    """A task that waits for an event, and what it says when it has reached the line after its loop."""
    said = []

    async def read():
        async for event in subscription:
            said.append(event)
        said.append("after the loop")

    task = asyncio.create_task(read())
    await asyncio.sleep(0.3)
    return task, said


@pytest.mark.parametrize("closes", ["subscription", "client"])
@pytest.mark.parametrize("when", ["connected", "away"])
async def test_closing_ends_the_iteration_and_does_not_cancel_its_task(hub, unused_tcp_port, closes, when):
    client = SynapseClient(hub.url if when == "connected" else f"http://127.0.0.1:{unused_tcp_port}")
    subscription = client.subscribe("ticks")
    task, said = await waiting_reader(subscription)
    await (subscription if closes == "subscription" else client).aclose()
    await asyncio.wait_for(task, 2)
    assert said == ["after the loop"]
    await client.aclose()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python does not tell the one from the other")
async def test_a_task_that_is_cancelled_while_its_subscription_is_closed_is_cancelled(hub):
    async with SynapseClient(hub.url) as client:
        for first in ("cancel", "close"):
            subscription = client.subscribe("ticks")
            task, _ = await waiting_reader(subscription)
            if first == "cancel":
                task.cancel()
            await subscription.aclose()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_the_cursor_of_a_closed_subscription_is_after_what_was_yielded(hub):
    async with SynapseClient(hub.url) as client:
        await client.publish("ticks", [Tick(n=n) for n in range(10)])
        subscription = client.subscribe("ticks", replay_from="earliest")
        assert (await subscription.__anext__()).n == 0
        await subscription.aclose()
        rest = client.subscribe("ticks", replay_from=subscription.cursor, until="latest")
        assert [event.n async for event in rest] == list(range(1, 10))


# --- the synchronous twin


@contextlib.contextmanager
def in_thread(work) -> Iterator[list[Any]]:
    """Runs the work in a thread; what it returned or raised is in the list after the block."""
    outcome: list[Any] = []

    def run():
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(0.3)
    yield outcome
    thread.join(10)
    assert not thread.is_alive(), "it waits for ever"


@pytest.mark.parametrize("closes", ["subscription", "client"])
def test_closing_the_twin_ends_the_iteration_of_another_thread(hub, closes):
    client = SyncSynapseClient(hub.url)
    client.publish("ticks", Tick(n=1))
    subscription = client.subscribe("ticks", replay_from="earliest")
    with in_thread(lambda: [event.n for event in subscription]) as outcome:
        (subscription if closes == "subscription" else client).close()
    assert outcome == [[1]]
    client.close()


def test_closing_the_twin_ends_other_calls_with_a_typed_error(unused_tcp_port):
    client = SyncSynapseClient(f"http://127.0.0.1:{unused_tcp_port}")
    with in_thread(lambda: client.publish("ticks", Tick(n=1), timeout=60)) as outcome:
        client.close()
    assert isinstance(outcome[0], ClosedError)
    publisher = client.publisher("ticks")
    publisher.__enter__()
    publisher.publish(Tick(n=1))
    client.close()
    with pytest.raises(PublishFailed) as caught:
        publisher.__exit__(None, None, None)
    assert caught.value.code == "closed"
    client.close()


def test_a_closed_twin_can_be_used_again(hub):
    client = SyncSynapseClient(hub.url)
    for n in range(3):
        client.publish("ticks", Tick(n=n))
        client.close()
        client.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "synapse-client"]
    with client:
        assert [event.n for event in client.subscribe("ticks", replay_from="earliest", until="latest")] == [0, 1, 2]


def test_the_twin_tells_what_the_other_tells(hub):
    with SyncSynapseClient(hub.url) as client:
        publisher = client.publisher("ticks").__enter__()
        for n in range(10):
            publisher.publish(Tick(n=n))
        publisher.publish({"no": "type"})
        with pytest.raises(PublishFailed):
            publisher.__exit__(None, None, None)
        assert (publisher.stored, publisher.failed, publisher.duplicates) == (10, 1, 0)
        assert publisher.failures[0].index == 10
        subscription = client.subscribe("ticks", replay_from="earliest", model=Tick)
        assert [next(subscription).n, next(subscription).n] == [0, 1]
        assert subscription.reconnects == 0
        subscription.close()
        assert list(subscription) == []
        rest = client.subscribe("ticks", replay_from=subscription.cursor, until="latest")
        assert [event.n for event in rest] == list(range(2, 10))


def test_a_callback_that_would_wait_for_itself_is_told(redis_hub, redis_server):
    from redis import Redis

    with SyncSynapseClient(redis_hub.url) as client:
        published = client.publish("ticks", [Tick(n=n) for n in range(10)])
        Redis(port=redis_server.port).xtrim("ticks", maxlen=4, approximate=False)
        subscription = client.subscribe(
            "ticks", replay_from=published.positions[1], on_gap=lambda _: client.publish("gaps", Tick(n=0))
        )
        with pytest.raises(RuntimeError, match="callback"):
            next(subscription)


# --- events and their attributes


async def test_a_null_stays_a_null_and_nan_is_refused_with_its_field(hub):
    async with SynapseClient(hub.url) as client:
        await client.publish("nulls", BaseEvent(event="nulls", foo=None, data={"a": None}))
        await client.publish("nulls", {"event": "nulls", "foo": None, "data": {"a": None}})
        for event in await everything(client, "nulls"):
            assert event.model_extra == {"foo": None, "data": {"a": None}}
        progress = TrainingProgressEvent(experiment_id="e", model_name="m", metrics={"loss": math.nan})
        for bad in (progress, {"event": "training-progress", "metrics": {"loss": math.nan}}):
            with pytest.raises(RefusedError, match=r"event 1, field metrics.loss") as caught:
                await client.publish("ticks", [Tick(n=0), bad])
            assert [(one.index, one.field) for one in caught.value.refused] == [(1, "metrics.loss")]
            part = await client.publish("ticks", [Tick(n=0), bad, Tick(n=1)], partial=True, key="k")
            assert [bool(position) for position in part.positions] == [True, False, True]
            assert [(one.index, one.field) for one in part.refused] == [(1, "metrics.loss")]
            async with client.publisher("ticks") as publisher:
                with pytest.raises(RefusedError, match=r"metrics.loss"):
                    await publisher.publish(bad)
                await publisher.publish(Tick(n=2))
            assert publisher.stored == 1


ATTRIBUTES = {"subject": "a b", "expirytime": "2100-01-01T00:00:00.123456789Z", "tenant": "acme"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_attributes_come_back(hub):
    sent = ModelReadyEvent(model_name="m", version="1.0", correlation_id="c", metadata={"n": None, "x": 1.0})
    flat = {"event": "own", "timestamp": "2025-01-01T10:00:00.123456789Z", "deep": {"a": [1, None]}}
    async with SynapseClient(hub.url) as client:
        await client.publish("attributed", [sent, flat], key="k", traceparent=TRACE, attributes=ATTRIBUTES)
        async with client.publisher("attributed") as publisher:
            await publisher.publish(sent)
            await publisher.publish(sent, key="k", traceparent=TRACE, attributes=ATTRIBUTES)
            await publisher.publish(sent)
        first, second, plain, third, _ = events = await everything(client, "attributed")
        expected = {**ATTRIBUTES, "partitionkey": "k", "traceparent": TRACE}
        assert first.attributes == second.attributes == third.attributes == expected
        assert plain.attributes == {}
        assert first == third == plain == sent
        assert second.model_extra == {"deep": {"a": [1, None]}}
        # What was received can be sent on with all it carries.
        await client.publish("copies", second, attributes=second.attributes)
        assert (await everything(client, "copies"))[0].attributes == expected
        assert len(events) == 5


async def test_events_with_one_key_share_a_partition(hub):
    async with SynapseClient(hub.url) as client:
        async with httpx.AsyncClient() as http:
            answer = await http.put(f"{hub.url}/v1/topics/keyed", json={"partitions": 4})
            assert answer.status_code < 300, answer.text
        async with client.publisher("keyed") as publisher:
            for n in range(200):
                await publisher.publish(Tick(n=n), key=f"key-{n % 20}")
        events = await everything(client, "keyed")
        partitions = {event.attributes["partitionkey"]: event.partition for event in events}
        assert len(set(partitions.values())) > 1
        assert all(partitions[event.attributes["partitionkey"]] == event.partition for event in events)
        for key in partitions:
            mine = [event.n for event in events if event.attributes["partitionkey"] == key]
            assert mine == sorted(mine)


async def test_attributes_that_cannot_be_are_refused_by_name(hub):
    async with SynapseClient(hub.url) as client:
        for attributes, named in [
            ({"id": "x"}, "`id`"),
            ({"time": "now"}, "timestamp"),
            ({"expirytime": "soon"}, "soon"),
        ]:
            with pytest.raises(ValueError, match=named):
                await client.publish("ticks", Tick(n=0), attributes=attributes)
        with pytest.raises(RefusedError, match="Not-Allowed"):
            await client.publish("ticks", Tick(n=0), attributes={"Not-Allowed": "x"})
        for bad, field in [({"event": 5}, "event"), ({"event": "x", "timestamp": "yesterday"}, "timestamp")]:
            with pytest.raises(RefusedError) as caught:
                await client.publish("ticks", bad, key="k")
            assert caught.value.refused[0].field == field
        await client.publish("raw", {"event": "x", "data_base64": "/w=="}, attributes={"datacontenttype": "image/png"})
        (event,) = await everything(client, "raw")
        assert event.data_base64 == "/w=="
        with pytest.raises(RefusedError, match="data_base64"):
            await client.publish("raw", Tick(n=1), attributes={"datacontenttype": "image/png"})


# --- addresses and moments


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_a_hub_is_reached_over_ipv6(tmp_path, start_hub):
    hub = start_hub(f"embedded:{tmp_path / 'data'}", host="[::1]")
    async with SynapseClient(hub.url) as client:
        await client.publish("ticks", Tick(n=6))
        assert [event.n for event in await everything(client, "ticks")] == [6]


async def test_a_duration_ago_may_have_either_sign(hub):
    async with SynapseClient(hub.url) as client:
        await client.publish("ticks", Tick(n=1))
        for ago in (timedelta(minutes=90), timedelta(minutes=-90)):
            subscription = client.subscribe("ticks", replay_from=ago, until="latest")
            assert [event.n async for event in subscription] == [1]
