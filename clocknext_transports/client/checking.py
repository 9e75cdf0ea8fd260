"""What `check` and `connect` do in every world, before any signal is recorded."""

from clocknext_core import CheckReport, ClockNextError, Config, Engine
from clocknext_core.diagnosis import check_request, judge
from clocknext_transports.client.script import Exchange, Script


def config_to_connect_by(engine: Engine) -> Config | None:
    """Return the configuration to connect by; `None`: the client is disabled.

    Raises:
        ClockNextError: It is closed.
    """
    if engine.outbox.is_closing:
        raise ClockNextError("The client is closed: make another one.")
    return None if engine.config.disabled else engine.config


def checking(engine: Engine, now: float) -> Script[CheckReport]:
    """Send one request, and say what its answer shows."""
    config, answer = config_to_connect_by(engine), None
    if config is not None:
        answer = yield Exchange(check_request(config), now + config.timeout)
    return judge(answer, engine.config)
