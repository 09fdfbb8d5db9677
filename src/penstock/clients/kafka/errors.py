"""What the errors of Kafka mean."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from ...errors import ConfigError, ConnectionLost, PenstockError, TransientError

AUTHORIZATION = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
"""Credentials that are refused may be renewed, and rights granted: no row is at fault."""
UNKNOWN_TOPIC = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION})
FENCED = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
_OF_CONFIGURATION = frozenset({KafkaError._INVALID_ARG, KafkaError._NOT_IMPLEMENTED, KafkaError.UNSUPPORTED_VERSION})


def describe_error(error: KafkaError) -> str:
    """Describe an error of Kafka for people, with its name in the protocol."""
    return f"{error.str()} ({error.name()})"


def classify_error(error: BaseException, what: str) -> PenstockError:
    """Convert an error of a call, named ``what``, to one of the five kinds."""
    if isinstance(error, PenstockError):
        return error
    if not isinstance(error, KafkaException) or not error.args or not isinstance(error.args[0], KafkaError):
        return ConnectionLost(f"kafka: {what}: {str(error) or type(error).__name__}")
    found: KafkaError = error.args[0]
    message = f"kafka: {what}: {describe_error(found)}"
    if found.code() in FENCED:
        return ConfigError(f"{message}: another process has taken over; give each its own `transactional_id`")
    if found.code() in _OF_CONFIGURATION:
        return ConfigError(message)
    if found.code() in AUTHORIZATION or found.fatal():
        return ConnectionLost(message)
    return TransientError(message) if found.retriable() else ConnectionLost(message)
