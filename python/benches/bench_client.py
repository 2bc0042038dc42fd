"""Publishes and reads typed events with synapse_client. `SYNAPSE_URL` says where."""

from bench_event import TOPIC, Clock, make_events, run
from modelkit import InferenceCompleteEvent

from synapse_client import SynapseClient


async def publish(count: int) -> float:
    """From the first event handed over to the last acknowledgement."""
    events = make_events(count)
    async with SynapseClient() as client:
        clock = Clock()
        async with client.publisher(TOPIC) as publisher:
            for event in events:
                await publisher.publish(event)
        assert publisher.stored == count
        return clock.seconds()


async def subscribe(count: int) -> float:
    """From the call to the last typed event; they are there already."""
    async with SynapseClient() as client:
        clock, seen = Clock(), 0
        async for event in client.subscribe(TOPIC, replay_from="earliest"):
            assert isinstance(event, InferenceCompleteEvent)
            seen += 1
            if seen == count:
                break
        return clock.seconds()


if __name__ == "__main__":
    run({"publish": publish, "subscribe": subscribe})
