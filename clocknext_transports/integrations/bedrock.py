"""Amazon Bedrock over boto3: what one of its clients answers is billed, by boto3's own events."""

import io
import json
from typing import Any, TypeVar, Unpack, cast

from clocknext_core.resources.calls import PROVIDER, ModelCall
from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, check_client, starting, watch_events

C = TypeVar("C")

_OPERATIONS = ("Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream")
_CALL = "clocknext_call"


def metered(
    client: C,
    cnk: ClientBase[Any, Any, Any],
    *,
    on_abort: AbortPolicy = "partial",
    **billed: Unpack[Billed],
) -> C:
    """Bill the calls of a client from now on, and return it: boto3 keeps its events with the client.

    It covers `converse`, `converse_stream`, `invoke_model` and `invoke_model_with_response_stream`.

    Args:
        client: `boto3.client("bedrock-runtime")`.
        cnk: Any client of ClockNext; it is never waited for.
        on_abort: What a stream is billed that is broken off; see `AbortPolicy`.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument, or `client` is another one.
    """
    check_client(client, "converse", "invoke_model")
    start = starting(cnk, billed, PROVIDER, on_abort)

    def begin(params: Any, context: dict[str, Any], **_details: object) -> None:
        context[_CALL] = start(params.get("modelId"))

    def end(http_response: Any, parsed: Any, model: Any, context: dict[str, Any], **_details: object) -> None:
        call: ModelCall | None = context.pop(_CALL, None)
        if call is None or http_response.status_code >= 300:
            return
        if model.name.endswith("Stream"):
            watch_events(call, parsed["stream" if "stream" in parsed else "body"])
        else:
            call.answered(_read(parsed, call) if "body" in parsed else parsed)

    events = cast("Any", client).meta.events
    for operation in _OPERATIONS:
        events.register(f"provide-client-params.bedrock-runtime.{operation}", begin)
        events.register(f"after-call.bedrock-runtime.{operation}", end)
    return client


def _read(parsed: dict[str, Any], call: ModelCall) -> object:
    """Read the body of InvokeModel and leave another with the same content; return the answer in it."""
    try:
        raw = parsed["body"].read()
    except BaseException as error:
        call.broken_off(type(error).__name__, parsed["ResponseMetadata"])
        raise
    parsed["body"] = type(parsed["body"])(io.BytesIO(raw), len(raw))
    try:
        return {**parsed, "body": json.loads(raw)}
    except ValueError:
        return {**parsed, "body": None}
