"""What the client promises, against the real hub."""

import asyncio
import gc
import importlib.util
import logging
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import httpx
import pytest
from modelkit import BaseEvent, InferenceCompleteEvent, ModelReadyEvent
from redis import Redis

from synapse_client import (
    GapError,
    PublishFailed,
    RefusedError,
    SynapseClient,
    SyncSynapseClient,
    TopicNotFoundError,
    UnavailableError,
)
from synapse_client._wire import target_of

INTRODUCTION = """
import asyncio

def load_model(event):
    print(type(event).__name__, event.model_name, event.version, event.topic, bool(event.position), bool(event.id))
    raise SystemExit

async def main():
    from synapse_client import SynapseClient
    from modelkit import ModelReadyEvent

    client = SynapseClient()
    await client.publish("model-events", ModelReadyEvent(model_name="classifier", version="v2.0"))
    async for event in client.subscribe(topic="model-events", filters={"model_name": "classifier"}, replay_from="2025-01-01"):
        load_model(event)   # filtered, typed

asyncio.run(main())
"""  # noqa: E501


class Tick(BaseEvent):
    event: Literal["tick"] = "tick"
    n: int


async def take(subscription, count):
    async def read():
        events = []
        async for event in subscription:
            events.append(event)
            if len(events) == count:
                break
        return events

    return await asyncio.wait_for(read(), 60)


def test_the_introduction_runs_word_for_word(hub):
    environment = {**os.environ, "SYNAPSE_URL": hub.url}
    done = subprocess.run(
        [sys.executable, "-c", INTRODUCTION], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "ModelReadyEvent classifier v2.0 model-events True True\n", done.stderr


async def test_events_dicts_and_lists_are_published_and_come_back_typed(hub):
    async with SynapseClient(hub.url) as client:
        one = await client.publish("model-events", ModelReadyEvent(model_name="a", version="1.0"))
        assert len(one.positions) == 1
        assert one.durability
        done = InferenceCompleteEvent(model_name="a", latency_ms=1.5, success=False)
        more = await client.publish(
            "model-events", [done, {"event": "own", "deep": {"x": [1.0, None]}, "version": "1.0"}]
        )
        events = await take(client.subscribe("model-events", replay_from="earliest"), 3)
    assert [type(event) for event in events] == [ModelReadyEvent, InferenceCompleteEvent, BaseEvent]
    assert [event.position for event in events] == one.positions + more.positions
    assert events[0].version == "1.0"
    assert events[1].success is False
    assert events[1].id == done.id
    assert events[1].timestamp == done.timestamp
    assert events[2].model_extra == {"deep": {"x": [1.0, None]}, "version": "1.0"}
    assert events[2].cursor == f"model-events/0@{more.positions[1]}"


async def test_filters_replay_and_bounds(hub):
    async with SynapseClient(hub.url) as client:
        await client.publish("ticks", [Tick(n=n) for n in range(10)])
        moments = ["earliest", "2025-01-01", date(2025, 1, 1), timedelta(hours=1), "-90m"]
        for moment in moments:
            subscription = client.subscribe("ticks", filters={"n": [2, 5]}, replay_from=moment, until="latest")
            assert [event.n async for event in subscription] == [2, 5], moment
        either = [{"n": [{"numeric": ["<", 2]}]}, {"n": 9}]
        subscription = client.subscribe(
            topics=["tick*", "ticks"][1:], filters=either, replay_from="earliest", until="latest"
        )
        assert [event.n async for event in subscription] == [0, 1, 9]
        first = await take(client.subscribe("*", replay_from="earliest"), 4)
        rest = await take(client.subscribe("*", replay_from=first[-1].cursor), 6)
        assert [event.n for event in first + rest] == list(range(10))


async def test_what_is_refused_is_named(hub):
    async with SynapseClient(hub.url) as client:
        with pytest.raises(RefusedError) as caught:
            await client.publish("ticks", [Tick(n=1), {"no": "type"}, {"event": "x", "timestamp": "yesterday"}])
        assert [(one.index, one.code) for one in caught.value.refused] == [
            (1, "invalid_event"),
            (2, "invalid_timestamp"),
        ]
        part = await client.publish("ticks", [Tick(n=1), {"no": "type"}], partial=True)
        assert part.positions[0]
        assert not part.positions[1]
        assert part.refused[0].code == "invalid_event"
        with pytest.raises(RefusedError, match="invalid_topic"):
            await client.publish("no spaces", Tick(n=1))
        with pytest.raises(RefusedError, match="invalid_filter"):
            await take(client.subscribe("ticks", filters={"n": [{"prefxi": "x"}]}), 1)
        with pytest.raises(RefusedError, match="invalid_replay_point"):
            await take(client.subscribe("ticks", replay_from="yesterday"), 1)
        with pytest.raises(ValueError, match="durability"):
            await client.publish("ticks", Tick(n=1), durability="granite")


async def test_a_hub_that_is_not_there_is_said(unused_tcp_port):
    async with SynapseClient(f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(UnavailableError) as caught:
            await client.publish("ticks", Tick(n=1), timeout=0.5)
        assert caught.value.retryable
        with pytest.raises(UnavailableError):
            await take(client.subscribe("ticks", connect_timeout=0.5), 1)
    with pytest.raises(ValueError, match="no address"):
        await SynapseClient("ftp://x").publish("ticks", Tick(n=1))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:9000", ("127.0.0.1:9000", False)),
        ("synapse", ("synapse:8002", False)),
        ("localhost:9000", ("localhost:9000", False)),
        ("http://[::1]", ("[::1]:8002", False)),
        ("https://hub.example", ("hub.example:443", True)),
    ],
)
def test_an_address_without_a_port_means_the_port_of_hubs(url, target):
    assert target_of(url) == target


async def test_what_is_no_event_and_no_moment_is_named(hub):
    async with SynapseClient(hub.url) as client:
        with pytest.raises(TypeError, match="a BaseEvent or a dict, not str: 'tick'"):
            await client.publish("ticks", "tick")
        with pytest.raises(TypeError, match="not int: 7"):
            await client.publish("ticks", [7])
        with pytest.raises(TypeError, match="a moment is a text"):
            client.subscribe("ticks", replay_from=7)


async def test_a_hub_that_goes_and_comes_back_is_in_the_log_once(hub, caplog):
    caplog.set_level(logging.INFO, "synapse_client")
    async with SynapseClient(hub.url) as client:
        await client.publish("ticks", Tick(n=1))
        subscription = client.subscribe("ticks", replay_from="earliest")
        await take(subscription, 1)
        waiting = asyncio.create_task(take(subscription, 1))
        await asyncio.sleep(0.1)
        hub.kill()
        publishing = asyncio.create_task(client.publish("ticks", Tick(n=2)))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(hub.start)
        await publishing
        assert (await waiting)[0].n == 2
    told = [record.getMessage().split(" ")[0:2] for record in caplog.records]
    assert sorted(told) == [["connected", "to"], [f"{hub.url}:", "not"], ["no", "connection"]]


async def test_a_publisher_pipelines_and_keeps_the_order(hub):
    async with SynapseClient(hub.url) as client:
        async with client.publisher("ticks", batch_max=50) as publisher:
            for n in range(5000):
                await publisher.publish(Tick(n=n))
            await publisher.flush()
            assert publisher.stored == 5000
            await publisher.publish({"event": "tick", "n": 0}, topic="others")
        assert publisher.stored == 5001
        events = [event.n async for event in client.subscribe("ticks", replay_from="earliest", until="latest")]
        assert events == list(range(5000))


async def test_a_publisher_sends_at_once_when_nothing_is_under_way(hub):
    async with SynapseClient(hub.url) as client:
        subscription = client.subscribe("ticks", replay_from="earliest")
        async with client.publisher("ticks") as publisher:
            await publisher.publish(Tick(n=7))
            assert [event.n for event in await take(subscription, 1)] == [7]


async def test_a_publisher_names_each_event_that_was_not_stored(hub):
    async with SynapseClient(hub.url) as client:
        publisher = client.publisher("ticks", batch_max=10)

        async def publish_all():
            async with publisher:
                for n in range(100):
                    await publisher.publish(Tick(n=n) if n % 40 else {"no": "type", "n": n})

        with pytest.raises(PublishFailed) as caught:
            await publish_all()
        assert [one.index for one in caught.value.failures] == [0, 40, 80]
        assert caught.value.failures[1].data == b'{"no":"type","n":40}'
        assert publisher.stored == 97
        nowhere = client.publisher("no spaces")
        await nowhere.__aenter__()
        await nowhere.publish(Tick(n=1))
        with pytest.raises(PublishFailed):
            await nowhere.__aexit__(None, None, None)
        with pytest.raises(RuntimeError):
            await publisher.publish(Tick(n=1))


async def test_a_killed_hub_is_survived_without_loss_or_duplicate(hub):
    total = 20_000
    async with SynapseClient(hub.url) as client:
        await client.publish("other", Tick(n=0))
        subscription = client.subscribe("ticks", replay_from="earliest")

        async def publish():
            async with client.publisher("ticks", batch_max=50, timeout=120) as publisher:
                for n in range(total):
                    await publisher.publish(Tick(n=n))
                    if n % 500 == 0:
                        await asyncio.sleep(0.02)
            return publisher

        publishing = asyncio.create_task(publish())
        following = asyncio.create_task(take(subscription, total))
        for _ in range(2):
            await asyncio.sleep(0.2)
            hub.kill()
            await asyncio.to_thread(hub.start)
        publisher = await publishing
        assert publisher.stored == total
        seen = [event.n for event in await following]
        assert sorted(seen) == list(range(total))
        assert subscription.reconnects > 0


async def test_a_stopping_hub_tells_its_subscribers_who_resume(hub):
    async with SynapseClient(hub.url) as client:
        subscription = client.subscribe("ticks", replay_from="earliest")
        await client.publish("ticks", Tick(n=1))
        assert (await take(subscription, 1))[0].n == 1
        waiting = asyncio.create_task(take(subscription, 1))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(hub.stop)
        await asyncio.to_thread(hub.start)
        await client.publish("ticks", Tick(n=2))
        assert (await waiting)[0].n == 2


async def test_leaving_a_subscription_leaves_no_task_behind(hub):
    async with SynapseClient(hub.url) as client:
        await client.publish("ticks", [Tick(n=n) for n in range(3)])
        before = len(asyncio.all_tasks())
        async for _ in client.subscribe("ticks", replay_from="earliest"):
            break
        subscription = client.subscribe("ticks", replay_from="earliest")
        await take(subscription, 3)
        waiting = asyncio.create_task(subscription.__anext__())
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.publish("ticks", Tick(n=3))
        assert (await take(subscription, 1))[0].n == 3, "a cancelled wait loses nothing"
        await subscription.aclose()
        assert [event async for event in subscription] == []
        gc.collect()
        await asyncio.sleep(0.2)
        assert len(asyncio.all_tasks()) == before


async def test_history_that_is_gone_is_a_gap(redis_hub, redis_server):
    redis = Redis(port=redis_server.port)
    async with SynapseClient(redis_hub.url) as client:
        published = await client.publish("ticks", [Tick(n=n) for n in range(10)])
        redis.xtrim("ticks", maxlen=4, approximate=False)
        subscription = client.subscribe("ticks", replay_from=published.positions[1])
        assert [event.n for event in await take(subscription, 4)] == [6, 7, 8, 9]
        assert subscription.gaps[0].earliest == published.positions[6]
        with pytest.raises(GapError):
            await take(client.subscribe("ticks", replay_from=published.positions[1], gaps="raise"), 1)
        seen = []
        await take(client.subscribe("ticks", replay_from=published.positions[1], on_gap=seen.append), 1)
        assert [gap.reason for gap in seen] == ["trimmed"]


async def test_a_deleted_topic_is_said(hub):
    async with SynapseClient(hub.url) as client:
        await client.publish("ticks", Tick(n=1))
        subscription = client.subscribe("ticks", replay_from="earliest")
        await take(subscription, 1)
        waiting = asyncio.create_task(take(subscription, 1))
        await asyncio.sleep(0.1)
        async with httpx.AsyncClient() as http:
            assert (await http.delete(f"{hub.url}/v1/topics/ticks")).status_code < 300
        with pytest.raises(TopicNotFoundError):
            await waiting


def test_scripts_without_a_loop_have_a_synchronous_twin(hub):
    with SyncSynapseClient(hub.url) as client:
        client.publish("ticks", Tick(n=1))
        with client.publisher("ticks") as publisher:
            for n in range(2, 100):
                publisher.publish(Tick(n=n))
        subscription = client.subscribe(
            "ticks", replay_from="earliest", until="latest", filters={"n": [{"numeric": [">", 90]}]}
        )
        assert [event.n for event in subscription] == list(range(91, 100))
        with pytest.raises(RefusedError):
            client.publish("ticks", {"no": "type"})
        with client.subscribe("ticks", replay_from="earliest") as endless:
            assert next(endless).n == 1


def test_one_client_serves_several_loops(hub):
    client = SynapseClient(hub.url)
    for n in range(2):
        asyncio.run(client.publish("ticks", Tick(n=n)))


def test_the_generated_code_is_that_of_the_interface(tmp_path):
    folder = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location("generate", folder / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.generate(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_text() == (folder / "src/synapse_client/_proto" / path.name).read_text(), path.name
