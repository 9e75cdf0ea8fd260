"""Django: a client from the settings, a `billing` block for each request, and checks of the settings.

```text
INSTALLED_APPS = [..., "clocknext_transports.integrations.django"]
MIDDLEWARE = [..., "clocknext_transports.integrations.django.BillingMiddleware"]
CLOCKNEXT = {"client": {"api_key": ...}, "customer": "shop.billing.customer_of", "billing": {"key": "chat"}}
```
"""

import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from importlib import import_module
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast

from clocknext_core import ClockNextError
from clocknext_core.checks import shown
from clocknext_core.errors import invalid, nearest
from clocknext_transports.integrations.hosting import (
    AsyncStreamed,
    Streamed,
    block_for,
    check_details,
    check_function,
)
from clocknext_transports.sync import ClockNext

if TYPE_CHECKING:  # checked without the package

    class AppConfig:
        """Django's class of applications."""

else:
    from django.apps import AppConfig

# Django has no types of its own.
settings: Any = import_module("django.conf").settings
checks: Any = import_module("django.core.checks")
import_string: Any = import_module("django.utils.module_loading").import_string
_sync: Any = import_module("asgiref.sync")

NAMES = ("billing", "client", "customer")
_WANTED = {"billing": "keywords of billing", "client": "arguments of ClockNext"}
"""What the mappings within the setting have."""
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
_lock = threading.Lock()


def client() -> ClockNext:
    """Return this process's client of threads; it is made at the first call, as `CLOCKNEXT["client"]` says.

    Raises:
        ClockNextError: The settings are wrong; `manage.py check` shows it.
    """
    with _lock:  # two threads must not make two
        return _client()


@cache
def _client() -> ClockNext:
    return ClockNext(**_setting("client"))


class BillingMiddleware:
    """Opens a `billing` block for each request, under WSGI and ASGI, until a streamed answer is sent.

    `CLOCKNEXT["customer"]` names a function, or is one, that returns who is billed for a request: a
    customer's id, keywords of `billing`, or `None`; it may be a coroutine function. What it raises ends the
    request. `CLOCKNEXT["billing"]` has keywords of `billing` for all requests.

    Raises:
        ClockNextError: The settings are wrong. Servers run no checks, so this says it as they start.
        ImportError: There is no function of the name in `CLOCKNEXT["customer"]`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._customer = cast("Callable[[Any], Any] | None", _customer())
        self._details: Any = _details()
        self._is_async = bool(_sync.iscoroutinefunction(get_response))
        if self._is_async:
            _sync.markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve a request."""
        if self._is_async:
            return self._serve(request)
        customer = self._customer(request) if self._customer is not None else None
        if isawaitable(customer):
            customer = _sync.async_to_sync(_awaited)(customer)
        open_block = partial(block_for, client(), customer, self._details)
        with open_block():
            return _kept_open(self._get_response(request), open_block)

    async def _serve(self, request: Any) -> Any:
        customer = self._customer(request) if self._customer is not None else None
        if isawaitable(customer):
            customer = await customer
        open_block = partial(block_for, client(), customer, self._details)
        with open_block():
            return _kept_open(await self._get_response(request), open_block)


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _kept_open(response: Any, open_block: Callable[[], Any]) -> Any:
    """Have the body of a streamed response generated within a block."""
    if response.streaming and not hasattr(response, "file_to_stream"):
        kind = AsyncStreamed if response.is_async else Streamed
        response.streaming_content = kind(response.streaming_content, open_block)
    return response


class ClockNextConfig(AppConfig):
    """The application, for `INSTALLED_APPS`: it checks the settings. Django finds it in `apps`."""

    name = "clocknext_transports.integrations.django"
    label = "clocknext_integration"
    verbose_name = "ClockNext"

    def ready(self) -> None:
        """Register the checks."""
        checks.register(check_settings)


def check_settings(app_configs: object = None, **details: object) -> list[Any]:
    """Return what is wrong with `CLOCKNEXT`, for `manage.py check`."""
    try:
        _settings()
    except ClockNextError as error:
        hint = f"Its keys are {', '.join(NAMES)}."
        return [checks.Error(str(error), hint=hint, id="clocknext.E001")]
    found: list[Any] = []
    try:
        _customer()
    except (ClockNextError, ImportError) as error:
        text = str(error) if isinstance(error, ClockNextError) else f"CLOCKNEXT['customer']: {error}"
        found.append(checks.Error(text, hint="Name a function of a request.", id="clocknext.E002"))
    try:
        _details()
    except ClockNextError as error:
        hint = "Its keys are key, member, custom and type, as cnk.billing has them."
        found.append(checks.Error(str(error), hint=hint, id="clocknext.E003"))
    found += _faults_of_the_client()
    names = list(settings.MIDDLEWARE)
    mine = f"{BillingMiddleware.__module__}.{BillingMiddleware.__name__}"
    if mine in names and _AUTHENTICATION in names and names.index(mine) < names.index(_AUTHENTICATION):
        text = "BillingMiddleware comes before AuthenticationMiddleware: requests have no user there."
        found.append(checks.Warning(text, hint="Move it behind.", id="clocknext.W005"))
    return found


def _faults_of_the_client() -> list[Any]:
    try:
        arguments: Any = {**_setting("client"), "spool": None}  # not what a server may have open
    except ClockNextError as error:
        hint = f"The client is made of them: {__name__}.client() returns it."
        return [checks.Error(str(error), hint=hint, id="clocknext.E004")]
    try:
        ClockNext(**arguments)
    except (ClockNextError, TypeError) as error:
        text = f"CLOCKNEXT['client'] can't be used: {error}"
        hint = "Tests and CI need no key with CLOCKNEXT_DISABLED=1 in the environment."
        return [checks.Error(text, hint=hint, id="clocknext.E004")]
    return []


def _settings() -> Mapping[str, object]:
    """Return the whole setting.

    Raises:
        ValidationError: It is no mapping, or has an unknown key. One that is passed over would leave every
            request unbilled where it is `customer`, misspelt.
    """
    given: object = getattr(settings, "CLOCKNEXT", {})
    if not isinstance(given, Mapping):
        names = ", ".join(NAMES)
        raise invalid("CLOCKNEXT", f"must be a mapping with the keys {names}, not {type(given).__name__}")
    for name in cast("Mapping[object, object]", given):
        if name not in NAMES:
            near = nearest(name, NAMES) if isinstance(name, str) else None
            hint = "" if near is None else f"; did you mean {near!r}?"
            raise invalid("CLOCKNEXT", f"has the unknown key {shown(name)}{hint}")
    return cast("Mapping[str, object]", given)


def _setting(name: str) -> dict[str, Any]:
    """Return one of the mappings within the setting; it may be left out.

    Raises:
        ValidationError: It is no mapping. The message never shows it: it may be a key of the API.
    """
    given = _settings().get(name)
    if given is not None and not isinstance(given, Mapping):
        wanted = f"must be a mapping with {_WANTED[name]}, not an object of type {type(given).__name__}"
        raise invalid(f"CLOCKNEXT[{name!r}]", wanted)
    return dict(cast("Mapping[str, Any]", given or {}))


def _details() -> dict[str, Any]:
    """Return the keywords of `billing` for all requests.

    Raises:
        ValidationError: They can't be used.
    """
    details = _setting("billing")
    try:
        check_details(details)
    except (ClockNextError, TypeError) as error:
        raise invalid("CLOCKNEXT['billing']", f"can't be used: {error}") from error
    return details


def _customer() -> Callable[[Any], object] | None:
    """Return the function that says who is billed; `None`: no one.

    Raises:
        ImportError: There is none of that name.
        ValidationError: It is no function, or none of a request.
    """
    named = _settings().get("customer")
    function: Any = import_string(named) if isinstance(named, str) else named
    if function is not None:
        check_function("CLOCKNEXT['customer']", function, arguments=("request",))
    return cast("Callable[[Any], object] | None", function)
