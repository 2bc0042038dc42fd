from synapse_client._proto import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_MEMORY: _ClassVar[Durability]
    DURABILITY_STORED: _ClassVar[Durability]
    DURABILITY_SYNCED: _ClassVar[Durability]

class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMAT_UNSPECIFIED: _ClassVar[Format]
    FORMAT_EVENTS: _ClassVar[Format]
    FORMAT_FLAT: _ClassVar[Format]
DURABILITY_UNSPECIFIED: Durability
DURABILITY_MEMORY: Durability
DURABILITY_STORED: Durability
DURABILITY_SYNCED: Durability
FORMAT_UNSPECIFIED: Format
FORMAT_EVENTS: Format
FORMAT_FLAT: Format

class PublishRequest(_message.Message):
    __slots__ = ("topic", "batch", "flat", "durability", "producer_id", "producer_sequence", "partial", "request_id")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FLAT_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    topic: str
    batch: bytes
    flat: FlatBatch
    durability: Durability
    producer_id: str
    producer_sequence: int
    partial: bool
    request_id: int
    def __init__(self, topic: _Optional[str] = ..., batch: _Optional[bytes] = ..., flat: _Optional[_Union[FlatBatch, _Mapping]] = ..., durability: _Optional[_Union[Durability, str]] = ..., producer_id: _Optional[str] = ..., producer_sequence: _Optional[int] = ..., partial: bool = ..., request_id: _Optional[int] = ...) -> None: ...

class FlatBatch(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, events: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("request_id", "positions", "partitions", "duplicate", "deduplicated", "refused", "durability", "error", "ids")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DEDUPLICATED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    positions: _containers.RepeatedScalarFieldContainer[str]
    partitions: _containers.RepeatedScalarFieldContainer[int]
    duplicate: bool
    deduplicated: _containers.RepeatedScalarFieldContainer[int]
    refused: _containers.RepeatedCompositeFieldContainer[Refusal]
    durability: str
    error: Problem
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[int] = ..., positions: _Optional[_Iterable[str]] = ..., partitions: _Optional[_Iterable[int]] = ..., duplicate: bool = ..., deduplicated: _Optional[_Iterable[int]] = ..., refused: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., durability: _Optional[str] = ..., error: _Optional[_Union[Problem, _Mapping]] = ..., ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("index", "code", "field", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    code: str
    field: str
    message: str
    def __init__(self, index: _Optional[int] = ..., code: _Optional[str] = ..., field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "message", "retryable", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("topics", "filters", "replay_from", "until", "format", "batch_events_max", "batch_bytes_max", "client_name")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FROM_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    BATCH_EVENTS_MAX_FIELD_NUMBER: _ClassVar[int]
    BATCH_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedScalarFieldContainer[str]
    filters: _containers.RepeatedScalarFieldContainer[str]
    replay_from: str
    until: str
    format: Format
    batch_events_max: int
    batch_bytes_max: int
    client_name: str
    def __init__(self, topics: _Optional[_Iterable[str]] = ..., filters: _Optional[_Iterable[str]] = ..., replay_from: _Optional[str] = ..., until: _Optional[str] = ..., format: _Optional[_Union[Format, str]] = ..., batch_events_max: _Optional[int] = ..., batch_bytes_max: _Optional[int] = ..., client_name: _Optional[str] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("started", "delivery", "gap", "heartbeat", "ended")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    delivery: Delivery
    gap: Gap
    heartbeat: Heartbeat
    ended: Ended
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., delivery: _Optional[_Union[Delivery, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("cursor", "hub_version")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    HUB_VERSION_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    hub_version: str
    def __init__(self, cursor: _Optional[str] = ..., hub_version: _Optional[str] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("topic", "partition", "batch", "flat", "types", "type_counts", "positions", "cursor_rest", "attributes")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FLAT_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    TYPE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_REST_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    batch: bytes
    flat: _containers.RepeatedScalarFieldContainer[bytes]
    types: _containers.RepeatedScalarFieldContainer[str]
    type_counts: _containers.RepeatedScalarFieldContainer[int]
    positions: _containers.RepeatedScalarFieldContainer[str]
    cursor_rest: str
    attributes: _containers.RepeatedCompositeFieldContainer[FlatAttributes]
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., batch: _Optional[bytes] = ..., flat: _Optional[_Iterable[bytes]] = ..., types: _Optional[_Iterable[str]] = ..., type_counts: _Optional[_Iterable[int]] = ..., positions: _Optional[_Iterable[str]] = ..., cursor_rest: _Optional[str] = ..., attributes: _Optional[_Iterable[_Union[FlatAttributes, _Mapping]]] = ...) -> None: ...

class FlatAttributes(_message.Message):
    __slots__ = ("index", "attributes")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    index: int
    attributes: _containers.RepeatedCompositeFieldContainer[_event_pb2.Attribute]
    def __init__(self, index: _Optional[int] = ..., attributes: _Optional[_Iterable[_Union[_event_pb2.Attribute, _Mapping]]] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("topic", "partition", "after", "earliest", "lost", "reason", "cursor")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    after: str
    earliest: str
    lost: int
    reason: str
    cursor: str
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., after: _Optional[str] = ..., earliest: _Optional[str] = ..., lost: _Optional[int] = ..., reason: _Optional[str] = ..., cursor: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("cursor",)
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    def __init__(self, cursor: _Optional[str] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("cursor", "reason")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Ended.Reason]
        REASON_UNTIL: _ClassVar[Ended.Reason]
        REASON_SHUTDOWN: _ClassVar[Ended.Reason]
        REASON_TOPIC_DELETED: _ClassVar[Ended.Reason]
    REASON_UNSPECIFIED: Ended.Reason
    REASON_UNTIL: Ended.Reason
    REASON_SHUTDOWN: Ended.Reason
    REASON_TOPIC_DELETED: Ended.Reason
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    reason: Ended.Reason
    def __init__(self, cursor: _Optional[str] = ..., reason: _Optional[_Union[Ended.Reason, str]] = ...) -> None: ...
