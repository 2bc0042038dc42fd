"""The same work done by hand with `redis.asyncio`, as services do it today. `REDIS_PORT` says where."""

import json
import os
from typing import Any

from bench_event import TOPIC, Clock, make_events, run
from modelkit import InferenceCompleteEvent
from redis.asyncio import Redis

PIPELINE = 100


def connect() -> Redis:
    """A connection that gives texts."""
    return Redis(port=int(os.environ.get("REDIS_PORT", "6379")), decode_responses=True)


def to_fields(event: InferenceCompleteEvent) -> dict[str, Any]:
    """One field a key: scalars as text, all else as JSON."""
    fields = event.model_dump(mode="json", exclude_none=True)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}


async def publish(count: int) -> float:
    """`XADD` in pipelines of 100."""
    events = make_events(count)
    async with connect() as redis:
        await redis.ping()
        clock = Clock()
        for start in range(0, count, PIPELINE):
            async with redis.pipeline(transaction=False) as pipeline:
                for event in events[start : start + PIPELINE]:
                    pipeline.xadd(TOPIC, to_fields(event))
                await pipeline.execute()
        return clock.seconds()


async def subscribe(count: int) -> float:
    """`XREAD COUNT 100`, each entry to a model."""
    async with connect() as redis:
        await redis.ping()
        clock, seen, last = Clock(), 0, "0"
        while seen < count:
            [[_, entries]] = await redis.xread({TOPIC: last}, count=PIPELINE, block=10_000)
            last = entries[-1][0]
            for _, fields in entries:
                event = InferenceCompleteEvent.model_validate(fields)
                assert event.event == "inference-complete"
                seen += 1
        return clock.seconds()


if __name__ == "__main__":
    run({"publish": publish, "subscribe": subscribe})
