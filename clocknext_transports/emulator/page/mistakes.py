"""What a caller did wrong, found in the signals that were sent: each kind once, with its number."""

from collections import OrderedDict
from dataclasses import dataclass

from clocknext_transports.emulator.page.entries import Attempt, Entry, count_of, object_in, signal_of, text_of

MAX_RESPONSES = 10_000
"""The most response ids that are remembered."""
MAX_KINDS = 50
"""The most kinds that are noted; a page shows no more."""
_RESPONSE_ID_NAMES = ("response_id", "responseId", "completion_id", "completionId")
_TOKENS = ("inputTokens", "outputTokens", "cacheTokens")


@dataclass(slots=True)
class Mistake:
    """One kind of mistake."""

    what: str
    """What is wrong, a sentence."""
    remedy: str
    count: int = 0
    latest: int = 0
    """The number of the latest entry with it."""

    def as_json(self) -> dict[str, object]:
        """Return the mistake as the page reads it."""
        return {"what": self.what, "remedy": self.remedy, "count": self.count, "latest": self.latest}


class Mistakes:
    """Notes mistakes, in the order in which each was made first."""

    def __init__(self) -> None:
        self.found: dict[str, Mistake] = {}
        self._responses: OrderedDict[tuple[str, str], str | None] = OrderedDict()
        """The idempotency key under which a customer's response was billed first."""

    def look_at(self, entry: Entry, attempt: Attempt) -> None:
        """Look at one attempt of a signal."""
        if attempt.state == "refused":
            self._refused(entry, attempt)
        elif attempt.state in ("billed", "held"):
            self._taken(entry)
        elif attempt.state == "repeat" and signal_of(attempt.record) != entry.body:
            what = f"Under the key {text_of(entry.key)!r} came another signal, which is not billed."
            remedy = "Give each signal a key of its own; only a repeat of the same signal has the same key."
            self._note(entry, f"twice {entry.key}", what, remedy)

    def _refused(self, entry: Entry, attempt: Attempt) -> None:
        message, status = attempt.message, attempt.record.status
        if status == 401:
            remedy = "Set CLOCKNEXT_API_KEY to the key that the emulator prints."
            self._note(entry, "key", "The API key was refused.", remedy)
        elif status == 404:
            customer = text_of(entry.body.get("customerId"))
            remedy = "Create it with customers.create, or use one of those on this page."
            self._note(entry, f"customer {customer}", f"There is no customer {customer!r}.", remedy)
        elif "is not a valid model" in message or "is not active" in message:
            model = text_of(entry.body.get("model"))
            remedy = "Use an id of the catalogue (workspace.models lists it), or map names with models=."
            self._note(entry, f"model {model}", f"The model {model!r} is not in the catalogue.", remedy)
        elif "with agent key" in message:
            key = text_of(entry.body.get("agentKey") or entry.body.get("key"))
            remedy = "Use the stable key of a credit or of an outcome's step, not its name."
            self._note(entry, f"agent key {key}", f"There is no key {key!r}.", remedy)
        elif "nsufficient" in message:
            customer = text_of(entry.body.get("customerId"))
            remedy = "Top the customer up, and handle AllowanceError where a call waits."
            self._note(entry, f"allowance {customer}", f"The allowance of {customer!r} ran out.", remedy)
        else:
            self._note(entry, f"refused {message}", message, "Correct the field that is named.")

    def _taken(self, entry: Entry) -> None:
        body = entry.body
        if not any(count_of(body.get(name)) for name in _TOKENS):
            remedy = "Give tokens={'input': …, 'output': …}, or use signals.from_response."
            self._note(entry, "no tokens", "A signal has no tokens: its model costs nothing.", remedy)
        if entry.key is None:
            remedy = "Send an idempotencyKey, as the SDK does: a retry would be billed again."
            self._note(entry, "no key", "A signal has no idempotency key.", remedy)
        custom = object_in(body, "custom")
        for name in _RESPONSE_ID_NAMES:
            response_id = custom.get(name)
            if isinstance(response_id, str) and response_id:
                self._of_response(entry, response_id)

    def _of_response(self, entry: Entry, response_id: str) -> None:
        where = (str(entry.body.get("customerId")), response_id)
        if where not in self._responses:
            self._responses[where] = entry.key
            if len(self._responses) > MAX_RESPONSES:
                self._responses.popitem(last=False)
        elif entry.key is None or self._responses[where] != entry.key:
            what = f"The response {text_of(response_id)!r} was billed under two idempotency keys."
            remedy = "Record a response once, or derive the key from its id, as signals.from_response does."
            self._note(entry, f"response {response_id}", what, remedy)

    def _note(self, entry: Entry, kind: str, what: str, remedy: str) -> None:
        mistake = self.found.get(kind)
        if mistake is None:
            if len(self.found) >= MAX_KINDS:
                return
            mistake = self.found[kind] = Mistake(what, remedy)
        mistake.count += 1
        mistake.latest = entry.number
