"""What a check says of the answer to its one request."""

import json

import pytest

from clocknext_core import CheckReport, Config, Failure, Problem, Response
from clocknext_core.diagnosis import check_request, judge

KEY = "cnk_secret_key"
CONFIG = Config(KEY, base_url="https://api.example")
DATE = ("Date", "Thu, 01 Jan 1970 00:16:40 GMT")  # 1000
ME = {"ok": True, "organization": {"id": "org_1", "name": "Acme"}, "environment": "sandbox"}


def answered(status: int, body: object, *headers: tuple[str, str], at: float | None = 1000.0) -> CheckReport:
    return judge(Response(status, headers, json.dumps(body).encode(), at), CONFIG)


def test_the_request_reads_who_the_key_belongs_to() -> None:
    request = check_request(CONFIG)
    assert (request.method, request.target, request.body) == ("GET", "/api/v1/me", None)


def test_nothing_is_wrong() -> None:
    report = answered(200, ME, DATE)
    assert report == CheckReport("https://api.example", "Acme", "sandbox", 0.0)
    assert report.ok
    assert str(report) == (
        "address: https://api.example\norganisation: Acme (sandbox)\nclock: the same as the service's"
    )


def test_an_organisation_without_a_name_is_shown_by_its_id() -> None:
    report = answered(200, {"ok": True, "organization": {"id": "org_1"}})
    assert (report.organisation, report.environment, report.ok) == ("org_1", None, True)
    assert "organisation: org_1 (sandbox or live: not said)" in str(report)


def test_a_name_is_printable_short_and_without_the_key() -> None:
    report = answered(200, {"ok": True, "organization": {"name": f"{KEY}\x1b[2J" + "x" * 500}})
    assert report.organisation is not None
    assert report.organisation.startswith(r"cnk_[redacted]\x1b[2J")
    assert len(report.organisation) == 200


@pytest.mark.parametrize("name", ["", None, 5, ["Acme"]])
def test_an_organisation_whose_name_is_no_text_is_shown_by_its_id(name: object) -> None:
    report = answered(200, {"ok": True, "organization": {"id": "org_1", "name": name}})
    assert report.organisation == "org_1"


@pytest.mark.parametrize(
    ("status", "body", "subject", "what"),
    [
        (401, {"ok": False, "error": "Invalid API key."}, "key", "Invalid API key."),
        (403, {"ok": False, "error": "Forbidden"}, "key", "Forbidden."),
        (503, {"ok": False, "error": "Down"}, "service", "Status 503: Down."),
        (404, "<html>", "address", 'Status 404: "<html>".'),
        (200, {"ok": True}, "organisation", "The answer of https://api.example names no organisation."),
    ],
)
def test_what_is_wrong(status: int, body: object, subject: str, what: str) -> None:
    (problem,) = answered(status, body).problems
    assert (problem.subject, problem.what) == (subject, what)
    assert problem.remedy


def test_the_remedies_name_what_to_change() -> None:
    remedies = {
        status: answered(status, body).problems[0].remedy
        for status, body in ((401, {"ok": False}), (404, {}), (200, {"ok": True}))
    }
    assert remedies[401] == (
        "It is that of api_key, else of CLOCKNEXT_API_KEY: check that it belongs to this address."
    )
    assert "https://api.example/api/v1/me: check base_url" in remedies[404]
    assert remedies[200] == "Check that base_url (CLOCKNEXT_BASE_URL) is the address of the ClockNext API."
    assert answered(503, {"ok": False}).problems[0].remedy == "Try again later."


def test_no_answer() -> None:
    report = judge(Failure("Could not connect to https://api.example: refused"), CONFIG)
    what = "Could not connect to https://api.example: refused."
    remedy = "Check base_url (CLOCKNEXT_BASE_URL), the network, and the proxy if there is one."
    assert report == CheckReport("https://api.example", problems=(Problem("address", what, remedy),))
    assert str(report) == f"address: https://api.example\nPROBLEM with the address: {what} {remedy}"


def test_a_disabled_client() -> None:
    report = judge(None, CONFIG)
    assert (report.ok, report.base_url) == (False, "https://api.example")
    (problem,) = report.problems
    assert (problem.subject, problem.what) == (
        "client",
        "The client is disabled: it sends nothing, and drops every signal.",
    )
    assert problem.remedy == "Unset CLOCKNEXT_DISABLED, and leave disabled=True away, to bill."


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (1060.0, None),
        (940.0, None),
        (1061.0, "This machine's clock is 61 s ahead of the service's."),
        (939.0, "This machine's clock is 61 s behind the service's."),
    ],
)
def test_the_clock(at: float, what: str | None) -> None:
    report = answered(200, ME, DATE, at=at)
    assert report.clock_offset == at - 1000
    assert [problem.what for problem in report.problems] == ([] if what is None else [what])
    remedy = "Set it, by NTP for example: times of signals in a spool are measured with it."
    told = [(problem.subject, problem.remedy) for problem in report.problems]
    assert told == ([] if what is None else [("clock", remedy)])


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (999.0, "1 s behind the service's"),
        (999.5, "the same as the service's"),
        (1001.5, "the same as the service's"),
        (1002.0, "2 s ahead of the service's"),
    ],
)
def test_a_difference_that_a_date_without_parts_of_a_second_may_have_is_none(at: float, said: str) -> None:
    assert f"clock: {said}" in str(answered(200, ME, DATE, at=at)).splitlines()


@pytest.mark.parametrize(("headers", "at"), [((DATE,), None), ((), 1000.0), ((("Date", "soon"),), 1000.0)])
def test_a_clock_that_can_not_be_compared(headers: tuple[tuple[str, str], ...], at: float | None) -> None:
    report = answered(200, ME, *headers, at=at)
    assert report.clock_offset is None
    assert "clock" not in str(report)
    assert report.ok
