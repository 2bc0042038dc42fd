"""What can go wrong, with the hub's stable codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from synapse_client._proto import event_service_pb2 as pb
    from synapse_client.results import FailedEvent, Gap, Refusal

CODE_METADATA = "synapse-error-code"
RETRY_AFTER_METADATA = "synapse-retry-after-ms"

_RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


class SynapseError(Exception):
    """A failed call."""

    def __init__(self, message: str, *, code: str, retryable: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(f"{message} [{code}]")
        #: What was wrong and what to do.
        self.message = message
        #: A stable code such as ``topic_not_found``.
        self.code = code
        #: The same call may succeed later.
        self.retryable = retryable
        #: At least how many seconds to wait before that.
        self.retry_after = retry_after


class UnavailableError(SynapseError):
    """The hub or its backend cannot be reached; the same call may succeed later."""


class TopicNotFoundError(SynapseError):
    """There is no such topic, or it was deleted."""


class RefusedError(SynapseError):
    """The hub refused the input."""

    def __init__(self, message: str, *, code: str, refused: list[Refusal] | None = None) -> None:
        super().__init__(message, code=code)
        #: Each refused event and why.
        self.refused = refused or []

    @classmethod
    def naming(cls, refused: list[Refusal]) -> RefusedError:
        """The error of a batch in which these events were refused."""
        which = "; ".join(
            f"event {one.index}{', field ' + one.field if one.field else ''}: {one.message}" for one in refused[:10]
        )
        return cls(which, code=refused[0].code if len(refused) == 1 else "batch_refused", refused=refused)


class ClosedError(SynapseError):
    """The client or publisher was closed while the call was under way."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="closed")


class GapError(SynapseError):
    """History is gone, and the subscription was told to raise then."""

    def __init__(self, gap: Gap) -> None:
        lost = "an unknown number of" if gap.lost is None else str(gap.lost)
        super().__init__(f"{lost} events of {gap.topic} are gone after {gap.after} ({gap.reason})", code="gap")
        self.gap = gap


class PublishFailed(SynapseError):
    """Events of a publisher were not stored."""

    def __init__(self, failures: list[FailedEvent], failed: int) -> None:
        shown = "; ".join(f"event {one.index} for {one.topic}: {one.error}" for one in failures[:10])
        more = f"; and {failed - 10} more" if failed > 10 else ""
        known = f" (`failures` names the first {len(failures)})" if failed > len(failures) else ""
        super().__init__(f"{failed} events were not stored{known}: {shown}{more}", code=failures[0].error.code)
        self.retryable = all(one.error.retryable for one in failures)
        #: How many events were not stored.
        self.failed = failed
        #: Each event that was not stored, the first 10,000.
        self.failures = failures


def make_error(code: str, message: str, retryable: bool, retry_after: float = 0.0) -> SynapseError:
    """The error of this code, in its class."""
    if retryable:
        return UnavailableError(message, code=code, retryable=True, retry_after=retry_after)
    if code == "topic_not_found":
        return TopicNotFoundError(message, code=code)
    if code == "internal":
        return SynapseError(message, code=code)
    return RefusedError(message, code=code)


def from_rpc(error: grpc.aio.AioRpcError) -> SynapseError:
    """The error of a failed call."""
    metadata = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
    status = error.code()
    code = metadata.get(CODE_METADATA)
    message = error.details() or status.name.lower()
    if code is None:
        # No hub said this: the connection, or something in between.
        unreachable = status in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.CANCELLED,
            # What grpcio says when the connection breaks in the middle of a write. A hub's own has a code.
            grpc.StatusCode.INTERNAL,
        )
        code = "unreachable" if unreachable else status.name.lower()
        return make_error(code, message, unreachable or status in _RETRYABLE)
    retry_after = float(metadata.get(RETRY_AFTER_METADATA, 0)) / 1000
    return make_error(code, message, RETRY_AFTER_METADATA in metadata or status in _RETRYABLE, retry_after)


def from_problem(problem: pb.Problem) -> SynapseError:
    """The error of a batch in a stream."""
    return make_error(problem.code, problem.message, problem.retryable, problem.retry_after_ms / 1000)
