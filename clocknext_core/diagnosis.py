"""What is wrong with a client's settings, read from the answer to one request: `GET /api/v1/me`."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from clocknext_core.backoff import http_date
from clocknext_core.config import Config
from clocknext_core.envelope import Payload, as_object, open_answer
from clocknext_core.errors import AuthError, ClockNextError, NetworkError
from clocknext_core.messages import Answer, Request, Response
from clocknext_core.operations import Operation, path_of
from clocknext_core.text import printable, shortened
from clocknext_core.values import Value

Subject: TypeAlias = Literal["client", "address", "key", "service", "organisation", "clock"]

MAX_CLOCK_OFFSET = 60.0
"""Seconds by which this machine's clock may differ from the service's."""
_MAX_NAME = 200


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Problem(Value):
    """One thing that is wrong, and what to do about it."""

    subject: Subject
    what: str
    """What is wrong, a sentence."""
    remedy: str
    """What to do, a sentence."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} {self.remedy}"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CheckReport(Value):
    """What `check` has found. Its text has a line for each fact and each problem, and no API key."""

    base_url: str
    organisation: str | None = None
    """The name of the organisation that the key belongs to, else its id; `None` if it is not known."""
    environment: str | None = None
    """`sandbox` or `live`, as the service says; `None` if it is not known."""
    clock_offset: float | None = None
    """Seconds by which this machine's clock is ahead of the service's; `None` if it is not known."""
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"address: {self.base_url}"]
        if self.organisation is not None:
            environment = self.environment or "sandbox or live: not said"
            lines.append(f"organisation: {self.organisation} ({environment})")
        if self.clock_offset is not None:
            lines.append(f"clock: {_offset_text(self.clock_offset)}")
        return "\n".join([*lines, *(f"PROBLEM with the {problem}" for problem in self.problems)])


def check_request(config: Config) -> Request:
    """Make the request that a check sends, once."""
    return Operation("GET", path_of("me"), dict[str, object]).request(config)


def judge(answer: Answer | None, config: Config) -> CheckReport:
    """Say what the answer to `check_request` shows.

    Args:
        answer: The answer; `None` where the client is disabled, and nothing was sent.
        config: The client's settings.
    """
    if answer is None:
        what = "The client is disabled: it sends nothing, and drops every signal."
        remedy = "Unset CLOCKNEXT_DISABLED, and leave disabled=True away, to bill."
        return CheckReport(config.base_url, problems=(Problem("client", what, remedy),))
    outcome = open_answer(answer, request=check_request(config), config=config)
    offset = _offset(answer)
    problems: list[Problem] = []
    organisation = environment = None
    if isinstance(outcome, ClockNextError):
        problems.append(_problem(outcome))
    else:
        organisation, environment = _identity(outcome, config)
        if organisation is None:
            what = f"The answer of {config.base_url} names no organisation."
            remedy = "Check that base_url (CLOCKNEXT_BASE_URL) is the address of the ClockNext API."
            problems.append(Problem("organisation", what, remedy))
    if offset is not None and abs(offset) > MAX_CLOCK_OFFSET:
        what = f"This machine's clock is {_offset_text(offset)}."
        remedy = "Set it, by NTP for example: times of signals in a spool are measured with it."
        problems.append(Problem("clock", what, remedy))
    return CheckReport(config.base_url, organisation, environment, offset, tuple(problems))


def _problem(error: ClockNextError) -> Problem:
    message = error.message.rstrip(".") + "."
    if isinstance(error, NetworkError):
        remedy = "Check base_url (CLOCKNEXT_BASE_URL), the network, and the proxy if there is one."
        return Problem("address", message, remedy)
    if error.hint is not None:
        return Problem("address", f"Status {error.status}: {message}", error.hint)
    if isinstance(error, AuthError) or error.status == 403:
        remedy = "It is that of api_key, else of CLOCKNEXT_API_KEY: check that it belongs to this address."
        return Problem("key", message, remedy)
    return Problem("service", f"Status {error.status}: {message}", "Try again later.")


def _identity(payload: Payload, config: Config) -> tuple[str | None, str | None]:
    organisation = as_object(payload.get("organization"))
    name = _shown(organisation.get("name"), config) or _shown(organisation.get("id"), config)
    return name, _shown(payload.get("environment"), config)


def _shown(value: object, config: Config) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return shortened(printable(config.redact(value, limit=_MAX_NAME)), _MAX_NAME)


def _offset(answer: Answer) -> float | None:
    if not isinstance(answer, Response) or answer.received_at is None:
        return None
    sent_at = http_date(answer.header("date"))
    return None if sent_at is None else answer.received_at - sent_at


def _offset_text(offset: float) -> str:
    if -1.0 < offset < 2.0:  # the service's has no parts of a second, and the answer was on its way
        return "the same as the service's"
    return f"{abs(offset):.0f} s {'ahead of' if offset >= 0 else 'behind'} the service's"
