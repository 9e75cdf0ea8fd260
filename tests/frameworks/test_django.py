"""Django in real servers, by WSGI and ASGI: no signal is lost on SIGTERM, and settings are checked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clocknext_transports.emulator import emulator
from tests.frameworks.support import PATIENCE, Load, check_all_billed, check_customers, needs, start
from tests.life.test_hosts import ROOT

PYTHON = [sys.executable, "-m"]
GUNICORN = [*PYTHON, "gunicorn", "-b127.0.0.1:{port}", "-w2"]
EVERY_VIEW = ["/sync/", "/async/", "/eager/"]
CALLS = ["/called/", "/async-called/", "/streamed/"]
SERVERS = {
    "gunicorn": (("gunicorn",), [*GUNICORN, "app_django:wsgi"], EVERY_VIEW, CALLS),
    "gunicorn gevent": (
        ("gunicorn", "gevent"),
        [*GUNICORN, "-kgevent", "app_django:wsgi"],
        ["/sync/"],  # asgiref runs no coroutine in greenlets
        ["/called/", "/streamed/"],
    ),
    "uvicorn": (
        ("uvicorn",),
        [*PYTHON, "uvicorn", "--port={port}", "app_django:asgi"],
        EVERY_VIEW,
        [*CALLS, "/async-streamed/"],
    ),
    # It has no lifespan: its exit delivers what a client of threads holds, and each loop's what that holds.
    "daphne": (("daphne",), [*PYTHON, "daphne", "-p{port}", "app_django:plain"], EVERY_VIEW, CALLS[:2]),
}
any_server = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs("django", *server[0])) for name, server in SERVERS.items()]
)


@any_server
def test_nothing_is_lost_on_sigterm_under_load(name: str, tmp_path: Path) -> None:
    _, command, views, _ = SERVERS[name]
    with emulator() as server:
        host = start(command, server, tmp_path)
        try:
            Load(host, *views).stop_the_host()
        finally:
            host.stop()
        check_all_billed(host, server, tmp_path)


@any_server
def test_each_request_is_billed_to_its_own_customer(name: str, tmp_path: Path) -> None:
    _, command, _, calls = SERVERS[name]
    with emulator() as server:
        host = start(command, server, tmp_path)
        try:
            check_customers(host, server, *calls)
        finally:
            host.stop()


CHECKING = """
import django
from django.conf import settings
from django.core import checks
settings.configure(
    INSTALLED_APPS=["clocknext_transports.integrations.@"], {}
)
django.setup()
for each in checks.run_checks():
    print(each.id, each.msg)
"""
MINE = "clocknext_transports.integrations.django.BillingMiddleware"

AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


@needs("django")
@pytest.mark.parametrize("app", ["django", "django.ClockNextConfig", "django.apps.ClockNextConfig"])
@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ("CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'customer': repr}", ""),
        ("CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'customer': None, 'billing': None}", ""),
        ("CLOCKNEXT={'api_key': 'cnk_test'}", "clocknext.E001 CLOCKNEXT: has the unknown key 'api_key'\n"),
        (
            "CLOCKNEXT={'custmer': repr}",
            "clocknext.E001 CLOCKNEXT: has the unknown key 'custmer'; did you mean 'customer'?",
        ),
        ("CLOCKNEXT={7: repr}", "clocknext.E001 CLOCKNEXT: has the unknown key an object of type int"),
        (
            "CLOCKNEXT='x'",
            "clocknext.E001 CLOCKNEXT: must be a mapping with the keys billing, client, customer, not str",
        ),
        ("CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'customer': 'shop.nothing'}", "clocknext.E002 "),
        (
            "CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'customer': 7}",
            "clocknext.E002 CLOCKNEXT['customer']: must be a function, not an object of type int",
        ),
        (
            "CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'customer': lambda: 'x'}",
            "clocknext.E002 CLOCKNEXT['customer']: must take what it is called with, by position: (request)",
        ),
        (
            "CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'billing': 'chat_credit'}",
            "clocknext.E003 CLOCKNEXT['billing']: must be a mapping with keywords of billing, not an object",
        ),
        ("CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'billing': {'keys': 'a'}}", "clocknext.E003 "),
        ("CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'billing': {'key': 5}}", "clocknext.E003 "),
        ("CLOCKNEXT={}", "clocknext.E004 "),
        (
            "CLOCKNEXT={'client': __import__('clocknext').ClockNext(disabled=True)}",
            "clocknext.E004 CLOCKNEXT['client']: must be a mapping with arguments of ClockNext, not an obj",
        ),
        ("CLOCKNEXT={'client': {'api_key': 'cnk_test', 'time_out': 1}}", "clocknext.E004 "),
        (
            f"CLOCKNEXT={{'client': {{'api_key': 'cnk_test'}}}}, MIDDLEWARE=['{MINE}', '{AUTHENTICATION}']",
            "clocknext.W005 ",
        ),
    ],
)
def test_the_system_check_says_what_is_wrong_with_the_settings(settings: str, found: str, app: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLOCKNEXT_")}
    done = subprocess.run(
        [sys.executable, "-c", CHECKING.replace("{}", settings, 1).replace("@", app)],
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout.startswith(found), done.stdout
    assert done.stdout.count("\n") == bool(found), done.stdout


SERVING = """
import django
from django.conf import settings
settings.configure(MIDDLEWARE=["clocknext_transports.integrations.django.BillingMiddleware"], {})
django.setup()
from django.core.wsgi import get_wsgi_application
try:
    get_wsgi_application()
except Exception as error:
    print(type(error).__name__, error)
from clocknext_transports.integrations.django import client
try:
    client()
except Exception as error:
    print(type(error).__name__, error)
"""


@needs("django")
@pytest.mark.parametrize(
    ("settings", "found", "in_both"),
    [
        ("CLOCKNEXT={'client': {'api_key': 'cnk_test'}, 'customer': repr}", "", False),
        ("CLOCKNEXT='x'", "CLOCKNEXT: must be a mapping with the keys ", True),
        ("CLOCKNEXT={'custmer': repr}", "CLOCKNEXT: has the unknown key 'custmer'; did you ", True),
        (
            "CLOCKNEXT={'client': {'disabled': True}, 'customer': lambda: 'x'}",
            "CLOCKNEXT['customer']: must take what it is called with, by position: (request)",
            False,
        ),
        (
            "CLOCKNEXT={'client': {'disabled': True}, 'billing': 'chat'}",
            "CLOCKNEXT['billing']: must be a mapping",
            False,
        ),
        (
            "CLOCKNEXT={'client': {'disabled': True}, 'billing': {'keys': 'chat'}}",
            "CLOCKNEXT['billing']: can't be used: got an unexpected keyword argument 'keys'; did you mean ",
            False,
        ),
    ],
)
def test_under_wsgi_where_no_checks_run_the_start_says_it(settings: str, found: str, in_both: bool) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLOCKNEXT_")}
    done = subprocess.run(
        [sys.executable, "-c", SERVING.replace("{}", settings, 1)],
        env={**clean, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == bool(found) + in_both, done.stdout
    assert all(each.startswith(f"ValidationError {found}") for each in lines), done.stdout
