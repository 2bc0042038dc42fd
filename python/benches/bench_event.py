"""What both sides of the Python bench share: the events, the arguments, the report."""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from modelkit import InferenceCompleteEvent

TOPIC = "inference-events"


def make_events(count: int) -> list[InferenceCompleteEvent]:
    """Events of about 300 bytes. They are made before the clock starts: what is measured is publishing."""
    return [
        InferenceCompleteEvent(
            source="cyrex-runtime-7",
            model_name=f"classifier-{number % 100:03}",
            version="v2.0.1",
            user_id=f"user-{number % 1000:04}",
            request_id=f"request-{number:012}",
            latency_ms=number % 400 + 0.25,
            tokens_used=number % 2000,
            confidence=0.875,
            success=True,
        )
        for number in range(count)
    ]


def run(actions: dict[str, Callable[[int], Awaitable[float]]]) -> None:
    """Runs the action that the command line names, and prints how long its events took, as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=sorted(actions))
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    seconds = asyncio.run(actions[arguments.action](arguments.events))
    report = {"events": arguments.events, "seconds": seconds, "events_per_second": arguments.events / seconds}
    print(json.dumps(report))


class Clock:
    """Seconds since the start."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """How many have passed."""
        return time.perf_counter() - self._start
