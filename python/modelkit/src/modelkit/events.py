"""The events that run on the platform."""

from __future__ import annotations

from typing import Any, Literal

from modelkit.base import BaseEvent
from pydantic import AliasChoices, Field

# --- model-events


class ModelEvent(BaseEvent):
    """What the events of a model share."""

    model_name: str
    version: str | None = None
    #: Where the model lies; Helox calls it ``checkpoint_path``.
    registry_path: str | None = Field(default=None, validation_alias=AliasChoices("registry_path", "checkpoint_path"))
    model_type: str | None = None
    accuracy: float | None = None
    size_mb: float | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class ModelReadyEvent(ModelEvent):
    """A model is trained and can be loaded."""

    event: Literal["model-ready"] = "model-ready"
    version: str


class ModelLoadedEvent(ModelEvent):
    """A runtime has loaded a model."""

    event: Literal["model-loaded"] = "model-loaded"
    load_time_ms: float | None = None
    cache_location: str | None = None


class ModelFailedEvent(ModelEvent):
    """A model could not be trained or loaded."""

    event: Literal["model-failed"] = "model-failed"
    error: str | None = None


class ModelUpdatedEvent(ModelEvent):
    """A model has a new version or new metadata."""

    event: Literal["model-updated"] = "model-updated"


class ModelDeprecatedEvent(ModelEvent):
    """A model should not be used any more."""

    event: Literal["model-deprecated"] = "model-deprecated"
    reason: str | None = None


# --- inference-events


class _InferenceEvent(BaseEvent):
    model_name: str
    version: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    latency_ms: float | None = None
    tokens_used: int | None = None
    cost: float | None = None
    confidence: float | None = None


class InferenceCompleteEvent(_InferenceEvent):
    """An inference was answered."""

    event: Literal["inference-complete"] = "inference-complete"
    success: bool = True


class InferenceFailedEvent(_InferenceEvent):
    """An inference failed."""

    event: Literal["inference-failed"] = "inference-failed"
    success: bool = False
    error: str | None = None


# --- training-events


class TrainingEvent(BaseEvent):
    """What the events of a training run share."""

    experiment_id: str
    model_name: str | None = None
    status: str | None = None
    #: From 0 to 1.
    progress: float | None = None
    metrics: dict[str, Any] | None = None
    error: str | None = None


class TrainingStartedEvent(TrainingEvent):
    """A training run has begun."""

    event: Literal["training-started"] = "training-started"


class TrainingProgressEvent(TrainingEvent):
    """A training run is under way."""

    event: Literal["training-progress"] = "training-progress"


class TrainingCheckpointEvent(TrainingEvent):
    """A training run has saved a checkpoint."""

    event: Literal["training-checkpoint"] = "training-checkpoint"
    checkpoint_path: str | None = None


class TrainingCompleteEvent(TrainingEvent):
    """A training run is done."""

    event: Literal["training-complete"] = "training-complete"


class TrainingFailedEvent(TrainingEvent):
    """A training run has failed."""

    event: Literal["training-failed"] = "training-failed"


# --- platform-events


class PlatformEvent(BaseEvent):
    """What the events of the platform's services share."""

    service: str | None = None
    user_id: str | None = None
    action: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    organization_id: str | None = None


class UserInteractionEvent(PlatformEvent):
    """A user did something."""

    event: Literal["user-interaction"] = "user-interaction"


class TaskCreatedEvent(PlatformEvent):
    """A task was created."""

    event: Literal["task-created"] = "task-created"


class TaskStartedEvent(PlatformEvent):
    """A task was started."""

    event: Literal["task-started"] = "task-started"


class TaskCompletedEvent(PlatformEvent):
    """A task is done."""

    event: Literal["task-completed"] = "task-completed"


class TaskFailedEvent(PlatformEvent):
    """A task has failed."""

    event: Literal["task-failed"] = "task-failed"


# --- agi-decisions


class _AGIEvent(BaseEvent):
    decision_type: str | None = None
    target_service: str | None = None
    action: str | None = None
    reasoning: str | None = None
    confidence: float | None = None


class AGIDecisionEvent(_AGIEvent):
    """A decision was taken."""

    event: Literal["agi-decision"] = "agi-decision"


class AGIActionEvent(_AGIEvent):
    """A decision is acted on."""

    event: Literal["agi-action"] = "agi-action"


# --- error-events


class ErrorEvent(BaseEvent):
    """Something went wrong in a service."""

    event: Literal["error"] = "error"
    error_type: str | None = None
    message: str
    traceback: str | None = None
