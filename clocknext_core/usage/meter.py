"""What a client knows of its exchanges with models: names, what was seen, and what was not billed. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from clocknext_core.errors import invalid
from clocknext_core.usage.attribution import REASONS, Origin, Reason, Unbilled
from clocknext_core.usage.catalogue import ModelNames, check_model_names, renamed
from clocknext_core.usage.exchange import Seen
from clocknext_core.usage.reading import Reading
from clocknext_core.usage.seeds import Seed
from clocknext_core.usage.streams import keep

OnUnbilled: TypeAlias = Callable[[Unbilled], object]
"""What is called for a call to a model that was not billed."""


class Meter:
    """Turns readings into the arguments of signals, and counts what was not billed.

    It holds no lock: what threads share are single steps of the interpreter.

    Args:
        models: How names from responses become names of the catalogue. Default: a date suffix is dropped.
        on_unbilled: Called with each `Unbilled`; what it raises is dropped. Default: they are only counted.
        clock: Seconds on a monotonic clock, which bound how long a stream is drained. Default: chunks alone
            do.
        seed: Returns what makes the keys of the work that is being done, such as a task's. Default: they are
            random.
        let_pass: Raises an exception again that was caught here and is not metering's, such as a signal
            handler's. Default: none is.

    Raises:
        ValidationError: `models` is no mapping of names, function, `"workspace"` or `None`.
    """

    def __init__(
        self,
        *,
        models: ModelNames = "undated",
        on_unbilled: OnUnbilled | None = None,
        clock: Callable[[], float] | None = None,
        seed: Callable[[], Seed | None] | None = None,
        let_pass: Callable[[BaseException], None] = keep,
    ) -> None:
        self._models: ModelNames = check_model_names(models)
        self._known: tuple[str, ...] | None = None
        self._on_unbilled = on_unbilled
        self._counts: Counter[Reason] = Counter()
        self.clock: Callable[[], float] = clock if clock is not None else _stopped
        self.seed: Callable[[], Seed | None] = seed if seed is not None else _unseeded
        self.let_pass: Callable[[BaseException], None] = let_pass
        self.seen: Seen = Seen()
        self._client_id: dict[str, str] = {}
        self._running: dict[str, Origin] = {}
        """Who is billed for responses that run in the background, by the response's id."""

    @property
    def wants_catalogue(self) -> bool:
        """Whether to ask for the workspace's catalogue: once, before the first name is needed."""
        return self._models == "workspace" and self._known is None

    def learn_catalogue(self, ids: Iterable[str]) -> None:
        """Take the ids of the workspace's catalogue; none, where it could not be read."""
        self._known = tuple(ids)

    @property
    def unbilled(self) -> Mapping[str, int]:
        """How many calls were not billed, by reason."""
        return {reason: self._counts[reason] for reason in REASONS}

    def report(self, unbilled: Unbilled) -> None:
        """Count a call that was not billed, and say so."""
        self._counts[unbilled.reason] += 1
        if self._on_unbilled is not None:
            try:
                self._on_unbilled(unbilled)
            except Exception as error:  # noqa: BLE001 - the user's request must not break over a report
                self.let_pass(error)

    def client_id(self, make_key: Callable[[], str]) -> str:
        """Return a random text that tells this client from others, drawn where it is needed first."""
        return self._client_id.get("") or self._client_id.setdefault("", make_key())

    def remember(self, response_id: str | None, origin: Origin) -> None:
        """Remember who is billed for a response that runs in the background; the oldest are forgotten."""
        if response_id is None:
            return
        self._running[response_id] = origin
        while len(self._running) > _MOST_RUNNING:
            self._running.pop(next(iter(self._running)), None)

    def recall(self, response_id: str | None) -> Origin | None:
        """Say who is billed for a response that ran in the background; `None`: another client began it."""
        return None if response_id is None else self._running.get(response_id)

    def model_of(self, reading: Reading, given: str | None = None) -> str:
        """Return the model to record: the one given as it is, else the response's by the policy.

        Raises:
            ValidationError: Neither names one.
        """
        if given is not None:
            return given
        if reading.model is None:
            raise invalid("model", "is required, since the response names none")
        return renamed(reading.model, self._models, self._known, tier=reading.tier)


_MOST_RUNNING: Final = 10_000


def _unseeded() -> None:
    """Say that keys are random."""


def _stopped() -> float:
    return 0.0


def with_usage(custom: Mapping[str, object] | None, reading: Reading) -> Mapping[str, object] | None:
    """Add to `custom` what has no field in the API: the tier, and other counts, under `usage`.

    A `usage` of the caller's own stays.
    """
    usage: dict[str, object] = dict(reading.other)
    if reading.tier is not None:
        usage["tier"] = reading.tier
    return custom if not usage else {"usage": usage, **(custom or {})}


def named(reading: Reading, model: str | None) -> Reading:
    """Return a reading with a model, where it names none itself."""
    return reading if model is None or reading.model is not None else replace(reading, model=model)
