"""OpenTelemetry: what GenAI spans say of calls to models is billed, by a span processor."""

from typing import Any, Unpack

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from clocknext_core.resources.calls import ModelCall
from clocknext_core.usage.finding import has_usage
from clocknext_transports.client.base import ClientBase
from clocknext_transports.integrations.watching import Billed, starting

_OPERATIONS = ("gen_ai.operation.name", "llm.request.type")
"""What a span is: in the conventions, and in OpenLLMetry before it followed them."""
_ANSWER = "gen_ai.response."
"""What a span has once an answer has begun."""
_FINISHED = frozenset({"gen_ai.response.finish_reasons", "llm.response.finish_reason"})
"""What a span has once its answer was complete."""
_CONVENTIONS = ("gen_ai.", "llm.")
_OF_MODELS = frozenset(
    {"chat", "completion", "embedding", "embeddings", "generate_content", "text_completion"}
)
"""Spans of one request; those of agents and workflows repeat the sums of the spans in them."""


class ClockNextSpanProcessor(SpanProcessor):
    """A span processor: `provider.add_span_processor(ClockNextSpanProcessor(cnk))`.

    It is a convenience for calls that no other integration sees, and not the record: a span that is sampled
    out, or whose instrumentation leaves out usage, is a call that is not billed.

    Args:
        cnk: Any client of ClockNext; it is never waited for.
        billed: Who is billed for all calls. Default: as the `billing` block says that a call starts in.

    Raises:
        ValidationError: A bad argument.
    """

    def __init__(self, cnk: ClientBase[Any, Any, Any], **billed: Unpack[Billed]) -> None:
        self._start = starting(cnk, billed, "opentelemetry")
        self._calls: dict[int, ModelCall] = {}

    def on_start(self, span: Span, parent_context: object = None) -> None:
        """Capture who is billed."""
        if _is_of_a_model(span):
            self._calls[_id_of(span)] = self._start()

    def on_end(self, span: ReadableSpan) -> None:
        """Hand over what the span says."""
        call = self._calls.pop(_id_of(span), None)
        if not _is_of_a_model(span):
            return
        # Some instrumentations say what a span is only after its start.
        call = call or self._start()
        said = _said_by(span)
        has_begun = any(name.startswith(_ANSWER) for name in said)
        if span.status.status_code is StatusCode.ERROR:
            call.failed(RuntimeError(span.status.description), said if has_begun else None)
        elif has_begun and _FINISHED.isdisjoint(said) and not has_usage(said):
            call.broken_off("the span has neither usage nor a finish reason", said)
        else:
            call.answered(said)


def _is_of_a_model(span: ReadableSpan) -> bool:
    attributes = span.attributes or {}
    return any(attributes.get(name) in _OF_MODELS for name in _OPERATIONS)


def _said_by(span: ReadableSpan) -> dict[str, object]:
    """Return what a span says in the conventions' names; what others add to it need not be of this call."""
    attributes = span.attributes or {}
    return {name: attributes[name] for name in attributes if name.startswith(_CONVENTIONS)}


def _id_of(span: ReadableSpan) -> int:
    return 0 if span.context is None else span.context.span_id
