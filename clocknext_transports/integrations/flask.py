"""Flask: each request has its `billing` block."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

from clocknext_core.errors import invalid
from clocknext_transports.integrations.hosting import (
    AnyClient,
    Customer,
    Details,
    Streamed,
    block_for,
    check_details,
    check_function,
)
from clocknext_transports.integrations.watching import check_cnk


def init_app(
    app: Any, cnk: AnyClient, *, customer: Callable[[], Customer], **details: Unpack[Details]
) -> None:
    """Open a `billing` block for each request of an application of Flask, until a streamed answer is sent.

    Call it after what signs users in: Flask runs functions before a request in the order of registration.

    Args:
        app: The application, or a blueprint.
        cnk: Any client of ClockNext.
        customer: Returns who is billed for the current request, from `flask.session` or your own user: a
            customer's id, keywords of `billing`, or `None`. What it raises ends the request.
        details: What else the `billing` block says.

    Raises:
        TypeError: A detail is none of `billing`.
        ValidationError: `app` is no application of Flask or blueprint, `cnk` no client, `customer` no plain
            function, or a detail of the wrong kind.
    """
    check_cnk(cnk)
    check_function("customer", customer, arguments=(), is_awaited=False)
    check_details(details)
    flask: Any = importlib.import_module("flask")
    if not isinstance(app, (flask.Flask, flask.Blueprint)):
        kind = type(app).__name__
        raise invalid("app", f"must be an application of Flask, or a blueprint, not an object of type {kind}")

    def open_block() -> None:
        open_for = partial(block_for, cnk, customer(), details)
        block = open_for()
        block.__enter__()
        flask.g.clocknext = (block, open_for)

    def keep_open(response: Any) -> Any:
        if response.is_streamed and not response.direct_passthrough and "clocknext" in flask.g:
            response.response = Streamed(response.response, flask.g.clocknext[1])
        return response

    def close_block(error: BaseException | None) -> None:
        opened = flask.g.pop("clocknext", None)
        if opened is not None:
            opened[0].__exit__(None, None, None)

    app.before_request(open_block)
    app.after_request(keep_open)
    app.teardown_request(close_block)
