"""The Python client of Synapse, the event-streaming hub for AI platforms."""

from synapse_client.client import DEFAULT_URL, SynapseClient
from synapse_client.errors import (
    ClosedError,
    GapError,
    PublishFailed,
    RefusedError,
    SynapseError,
    TopicNotFoundError,
    UnavailableError,
)
from synapse_client.publisher import Publisher
from synapse_client.results import FailedEvent, Gap, PublishResult, Refusal
from synapse_client.subscription import Subscription
from synapse_client.sync import SyncPublisher, SyncSubscription, SyncSynapseClient

__all__ = [
    "DEFAULT_URL",
    "ClosedError",
    "FailedEvent",
    "Gap",
    "GapError",
    "PublishFailed",
    "PublishResult",
    "Publisher",
    "Refusal",
    "RefusedError",
    "Subscription",
    "SynapseClient",
    "SynapseError",
    "SyncPublisher",
    "SyncSubscription",
    "SyncSynapseClient",
    "TopicNotFoundError",
    "UnavailableError",
]
