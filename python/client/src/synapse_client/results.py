"""What the client returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synapse_client.errors import SynapseError


@dataclass(frozen=True)
class Refusal:
    """Why the hub refused an event."""

    #: Its index in the call.
    index: int
    #: A stable code such as ``event_too_large``.
    code: str
    #: The place within the event, or nothing.
    field: str
    #: What was wrong and what to do.
    message: str


@dataclass(frozen=True)
class PublishResult:
    """What became of the events of one call."""

    #: Where each event stands; ``""`` for a refused one.
    positions: list[str]
    #: The hub had stored this batch before: the call was a retry.
    duplicate: bool = False
    #: Events that a deduplication window recognised, by index.
    deduplicated: list[int] = field(default_factory=list)
    #: What was refused, when ``partial`` was asked for.
    refused: list[Refusal] = field(default_factory=list)
    #: What the storage gives, in words.
    durability: str = ""

    @property
    def position(self) -> str:
        """Where the last event stands."""
        return self.positions[-1] if self.positions else ""


@dataclass(frozen=True)
class FailedEvent:
    """An event of a publisher that was not stored."""

    #: Its number among the publisher's events, from 0.
    index: int
    topic: str
    #: The event as it was sent: flat JSON.
    data: bytes
    error: SynapseError


@dataclass(frozen=True)
class Gap:
    """History that a subscription should have seen is gone."""

    topic: str
    partition: int
    #: The position after which events are missing; ``""`` when unknown.
    after: str
    #: The earliest position that is left; ``""`` when there is none.
    earliest: str
    #: How many are missing, where that is known.
    lost: int | None
    #: ``trimmed``, ``recreated`` or ``unreadable``.
    reason: str
