"""What the three clients share: their arguments, their resources, and the pure engine behind them."""

import codecs
import importlib
import os
import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Protocol, TypeVar, cast

from clocknext_core import (
    BatchPolicy,
    ClockNextError,
    Config,
    EncodedSignal,
    Engine,
    Operation,
    Origin,
    Outbox,
    RandomSource,
    RetryPolicy,
    SpooledOutbox,
    Stats,
    TrackResult,
)
from clocknext_core.checks import check_bool, check_seconds
from clocknext_core.config import Mode
from clocknext_core.errors import invalid
from clocknext_core.outputs import key_to_forget
from clocknext_core.resources.binding import Completed, S
from clocknext_core.resources.calls import ModelCall
from clocknext_core.resources.credits import Credits
from clocknext_core.resources.customers import Customers
from clocknext_core.resources.invoices import Invoices
from clocknext_core.resources.outcomes import Outcomes
from clocknext_core.resources.payments import Payments
from clocknext_core.resources.plans import Plans
from clocknext_core.resources.portal import Portal
from clocknext_core.resources.purchases import Purchases
from clocknext_core.resources.runs import AsyncRun, Run, Runs
from clocknext_core.resources.signals import Signals
from clocknext_core.resources.units import Units
from clocknext_core.resources.webhooks import Webhooks
from clocknext_core.resources.workspace import Workspace
from clocknext_core.signals import SignalType
from clocknext_core.usage.attribution import Attribution, Scope, start_call
from clocknext_core.usage.catalogue import ModelNames
from clocknext_core.usage.meter import Meter
from clocknext_core.usage.streams import AbortPolicy, check_abort_policy
from clocknext_transports.client import environment
from clocknext_transports.client.arguments import explained
from clocknext_transports.client.billing import Billing, begun, call_around, open_scope
from clocknext_transports.client.driver import Driver
from clocknext_transports.client.hooks import Hooks, OnDrop, OnError, OnFlush, OnRetry, OnUnbilled
from clocknext_transports.client.nowait import NoWait
from clocknext_transports.client.seeding import current_seed
from clocknext_transports.process import fork, log
from clocknext_transports.process.clock import monotonic
from clocknext_transports.process.interrupts import let_pass

if TYPE_CHECKING:
    from clocknext_transports.spool.keeper import Keeper
    from clocknext_transports.spool.protocol import Spool

TransportT = TypeVar("TransportT")
D = TypeVar("D", bound=Driver[Any])

HURRIED_CLOSE_TIMEOUT = 2.0
"""Seconds that the end of a block waits for held signals when an exception ends it."""


class EngineFactory(Protocol):
    """What makes a client's engine."""

    def __call__(self, config: Config, *, rng: RandomSource, make_key: Callable[[], str]) -> Engine:
        """Make it."""
        ...


class ClientBase(Completed, ABC, Generic[S, TransportT, D]):
    """A client of ClockNext."""

    _unlisted = frozenset(
        {
            "billed_here",
            "cancellations",
            "hold",
            "is_async",
            "is_unclosed",
            "make_engine",
            "make_key",
            "record",
            "start_call",
            "stats_at",
            "store_in",
            "wrap_transport",
        }
    )
    """What integrations and drivers call; docs/api/clients.md lists them."""

    is_async: bool
    _is_started = False
    make_engine: ClassVar[EngineFactory] = Engine
    """What makes the engine of a new client: a trace recorder puts its own here."""

    @explained
    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        mode: Mode = "async",
        timeout: float = 10.0,
        batch: BatchPolicy | None = None,
        retry: RetryPolicy | None = None,
        on_error: OnError | None = None,
        on_flush: OnFlush | None = None,
        on_retry: OnRetry | None = None,
        on_drop: OnDrop | None = None,
        on_unbilled: OnUnbilled | None = None,
        models: ModelNames = "undated",
        transport: TransportT | None = None,
        allow_insecure_http: bool = False,
        spool: "str | os.PathLike[str] | Spool | None" = None,
        close_timeout: float = 10.0,
        disabled: bool = False,
    ) -> None:
        """Check the arguments and the environment; nothing is sent.

        Args:
            api_key: The secret key, `cnk_…`, a string. Default: the environment's `CLOCKNEXT_API_KEY`.
            base_url: Where the service is, an absolute `https://` URL. Default: the environment's
                `CLOCKNEXT_BASE_URL`, else `https://app.clocknext.com`.
            mode: `"async"`, the default: signals are buffered and the call returns at once. `"sync"`: every
                signal is sent at once and awaited. `wait=` of a call goes before it.
            timeout: Seconds for one whole attempt: connect, TLS, send, and the whole answer. Default: 10.
            batch: A `BatchPolicy`: when buffered signals are sent, and how many may wait. Default: sending
                starts at 20 signals or after 2 seconds, 5 at a time; at most 10,000 wait.
            retry: A `RetryPolicy`: how often and how soon a failed attempt is repeated. Default: 5 attempts,
                with waits from 0.2 to 10 seconds.
            on_error: A function `(error, signal)`: a buffered signal was refused or given up. Default of all
                hooks: none, the log has it.
            on_flush: A function `(count)`: signals delivered, each time the buffer has been emptied.
            on_retry: A function `(event)`, with `.attempt`, `.delay` in seconds, `.error` and `.signal`: an
                attempt will be repeated.
            on_drop: A function `(signal, reason)`: a buffered signal will not be sent; `"queue_full"`,
                `"send_failed"` (after `on_error`), `"closed"`, or with a spool `"expired"`.
            on_unbilled: A function `(unbilled)`, with `.reason`, `.reading`, `.customer_id` and `.detail`: a
                call to a model was not billed. Without it, a warning says so.
            models: How names of models in responses become names of the catalogue. `"undated"`, the default,
                drops a date at the end, `"workspace"` asks the service once, a mapping or a function says it,
                `None` leaves them as they are. A mapping may have names with a tier (`gpt-4o:batch`). A
                `model=` that is given is never changed.
            transport: Carries the requests. Default: the native one, or httpx (or httpx2) if the environment
                names a proxy.
            allow_insecure_http: Whether plain http to hosts other than this machine is allowed. Default:
                `False`; the environment's `CLOCKNEXT_ALLOW_INSECURE_HTTP=1` allows it too.
            spool: Where every buffered signal is stored before the call that records it returns, so that it
                survives the process: a directory, or a `Spool`. Default: in memory only.
            close_timeout: Seconds that the end of a `with` or `async with` block waits for held signals.
                Default: 10. After an exception other than SystemExit it waits 2 seconds at most.
            disabled: Whether nothing is sent, for tests and CI: no key is needed; signals are checked and
                dropped as `disabled`; calls that need an answer raise. Default: `False`; the environment's
                `CLOCKNEXT_DISABLED=1` does the same.

        Raises:
            SpoolError: The directory can't be used.
            ValidationError: An argument is wrong; the message names it.
            ClockNextError: The environment names a proxy for the host, and neither httpx nor httpx2 is
                installed.
        """
        if (level := environment.log_level()) is not None:
            log.write_to_stderr(level)
        is_disabled = check_bool("disabled", disabled) or environment.flag(environment.DISABLED)
        window, is_shared = (None, False) if spool is None else _checked_spool(spool)
        if is_disabled:
            window = spool = None  # nothing is stored either
        with environment.named(api_key=api_key, base_url=base_url):
            self.config: Config = Config(
                environment.api_key_or_default(api_key, disabled=is_disabled),
                base_url=environment.base_url_or_default(base_url),
                mode=mode,
                timeout=timeout,
                batch=BatchPolicy() if batch is None else batch,
                retry=RetryPolicy() if retry is None else retry,
                allow_insecure_http=check_bool("allow_insecure_http", allow_insecure_http)
                or environment.flag(environment.ALLOW_INSECURE_HTTP),
                disabled=is_disabled,
                spool_window=window,
                is_spool_shared=is_shared,
            )
        self._hooks = Hooks(
            on_error=on_error,
            on_flush=on_flush,
            on_retry=on_retry,
            on_drop=on_drop,
            on_unbilled=on_unbilled,
            key_to_forget=partial(key_to_forget, has_spool=window is not None, is_spool_shared=is_shared),
        )
        self._meter = Meter(
            models=models,
            on_unbilled=self._hooks.report,
            clock=monotonic,
            seed=current_seed,
            let_pass=let_pass,
        )
        self._meter.seen = self._hooks.seen
        self.close_timeout: float = check_seconds("close_timeout", close_timeout)
        if transport is not None:
            _check_transport(transport, "aclose" if self.is_async else "close")
            if callable(claim := getattr(transport, "claim", None)):
                claim(self)
        engine = self._new_engine()
        self.make_key: Callable[[], str] = engine.make_key
        """Makes a new idempotency key or run id: 128 random bits, in hex."""
        used: TransportT = self._default_transport() if transport is None else transport
        self._own_driver = self._make_driver(engine, used)
        self._own_driver.owns_transport = transport is None
        # Last of all, since it locks a file: whatever could be refused has been.
        if spool is not None:
            self._own_driver.keep(_opened(spool, engine.outbox))
        _import_for_connections(self.config.origin)
        fork.register(self, type(self)._restart)  # noqa: SLF001 - its own
        self._is_started = True
        self.credits: Credits[S] = Credits(self)
        self.customers: Customers[S] = Customers(self)
        self.invoices: Invoices[S] = Invoices(self)
        self.nowait: NoWait = NoWait(self.hold, self.make_key, self._meter)
        """Records signals from any thread, callback or finalizer without waiting."""
        self.outcomes: Outcomes[S] = Outcomes(self)
        self.payments: Payments[S] = Payments(self)
        self.plans: Plans[S] = Plans(self)
        self.portal: Portal[S] = Portal(self)
        self.purchases: Purchases[S] = Purchases(self)
        self.runs: Runs[S] = Runs(self, self._meter)
        self.signals: Signals[S] = Signals(self, self._meter)
        self.units: Units[S] = Units(self)
        self.webhooks: Webhooks[S] = Webhooks(self)
        self.workspace: Workspace[S] = Workspace(self)

    @property
    def _driver(self) -> D:
        """What serves this client in this process."""
        fork.notice()
        return self._own_driver

    @property
    def pending(self) -> int:
        """Signals held: recorded and not yet ended."""
        fork.notice()
        return self._own_driver.held

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__name__} {self.config.base_url} pending={self.pending}>"
        )

    @property
    def cancellations(self) -> tuple[type[BaseException], ...]:
        """Which exceptions end a coroutine from outside, besides those that are no `Exception`."""
        return ()

    @abstractmethod
    def run(self, operation: Operation[Any], /) -> Any:
        """Carry out an operation."""

    @abstractmethod
    def record(self, encoded: EncodedSignal, wait: bool | None = None, /) -> Any:
        """Buffer a signal, or send it and wait (`None`: as the client's mode says)."""

    def hold(self, encoded: EncodedSignal, /) -> TrackResult:
        """Buffer a signal without waiting: neither for room in the queue, nor for the spool, nor for a lock.

        Any thread may call it, with a loop or without, also in a task that is cancelled and in a finalizer.
        In a full queue, `block` and `raise` are as `drop_newest`, and `on_drop` reports the loss.
        """
        return self._driver.hold(encoded)

    def billing(
        self,
        *,
        customer_id: str,
        key: str | None = None,
        member: str | None = None,
        run: str | Run | AsyncRun | None = None,
        custom: Mapping[str, object] | None = None,
        type: SignalType | None = None,  # noqa: A002
    ) -> Billing:
        """Bill the calls to models that start in a block, `with` or `async with`, to one customer.

        It is for integrations: metered SDKs and callbacks bill to the block that is open where a call starts.
        A call that goes on after the end of the block is still billed; one that starts later is not, also
        where a thread pool has kept the block's context: it is reported to `on_unbilled` as `scope_ended`.

        Args:
            customer_id: Who is billed. Take it from your own session, never from a request's body or header.
            key: The credit's or outcome step's key.
            member: The member of the customer who caused it.
            run: The run that the calls are steps of: its id, or what `runs.start` returned.
            custom: A JSON object of your choice, for each signal.
            type: `credit`, `wallet` or `outcome`. Default: `outcome` with a run, else `credit`.

        Raises:
            ValidationError: A bad argument.
        """
        run_id = run if run is None or isinstance(run, str) else run.run_id
        billed_as = type if type is not None else "credit" if run is None else "outcome"
        if key is None and billed_as in {"credit", "outcome"}:
            raise invalid(
                "key", f'is required: the key of the {billed_as}; for the wallet give type="wallet"'
            )
        attribution = Attribution(
            customer_id=customer_id,
            type=billed_as,
            key=key,
            run_id=run_id,
            member=member,
            custom=custom,
        )
        seed = current_seed()
        scope_id = (
            self.make_key() if seed is None else seed.key("billing", customer_id, attribution.type, key)
        )
        return Billing(self._meter, Scope(scope_id, attribution))

    def billed_here(self) -> Attribution | None:
        """Return whom the `billing` block bills that is open here, for an integration; `None`: none is."""
        scope = open_scope(self._meter)
        return None if scope is None or scope.has_ended else scope.attribution

    def start_call(
        self,
        attribution: Attribution | None = None,
        *,
        on_abort: AbortPolicy = "partial",
        model: str | None = None,
        layer: str | None = None,
    ) -> ModelCall:
        """Begin a call to a model, for an integration: who is billed is captured now.

        Args:
            attribution: Who is billed. Default: as the `billing` block that is open here says.
            on_abort: What a stream is billed that is broken off before its counts are final.
            model: The model that is asked, for an answer that names none.
            layer: The name of what sees the call, such as `langchain`. Default: unknown. Two layers over one
                call are billed once; calls of one layer are separate, and so is all that starts while a call
                of the layer `provider`, an SDK's own, is open.

        Raises:
            ValidationError: `on_abort` is no policy.
        """
        policy = check_abort_policy(on_abort)
        origin = start_call(open_scope(self._meter), attribution)
        call = self.nowait.signals.start_call(
            origin, on_abort=policy, outer=call_around(self._meter), model=model, layer=layer
        )
        return begun(self._meter, call)

    def stats_at(self, now: float) -> Stats:
        """Count as `stats` does, at a time on the driver's clock, in any thread.

        While others use the client, the figures may be some events apart.
        """
        return self._with_unbilled(self._driver.engine.outbox.stats(now=now))

    def _with_unbilled(self, stats: Stats) -> Stats:
        return replace(stats, unbilled=self._meter.unbilled)

    def store_in(self, spool: "Spool") -> None:
        """Store signals in a spool from now on, and send what is found there, as `spool=` does.

        For what is given a client and brings a spool, such as a relay.

        Raises:
            ClockNextError: The client has a spool already, is closed, or has been used.
            ValidationError: It is no spool.
        """
        window, is_shared = _checked_spool(spool)
        if self.config.spool_window is not None or self._driver.is_used:
            raise ClockNextError(
                "The client has a spool or has been used already: give a new one that has recorded nothing."
            )
        self.config = replace(self.config, spool_window=window, is_spool_shared=is_shared)
        self._engine = self._new_engine()
        self._driver.restart(self._engine)
        self._driver.keep(_opened(spool, self._engine.outbox))

    def wrap_transport(self, wrap: Callable[[TransportT], TransportT]) -> None:
        """Lay another transport around the client's, such as one that measures it.

        It has to pass everything on to the one within.
        """
        self._driver.transport = wrap(self._driver.transport)

    def _block_timeout(self, error: BaseException | None) -> float:
        """Return how long the end of a block waits for held signals, by the exception that ends it."""
        if error is None or isinstance(error, SystemExit):
            return self.close_timeout
        return min(self.close_timeout, HURRIED_CLOSE_TIMEOUT)

    @abstractmethod
    def _make_driver(self, engine: Engine, transport: TransportT) -> D:
        """Make what serves the engine's outbox; the hooks are there."""

    if not TYPE_CHECKING:  # it refuses `async with` of a client for threads; this is for those who use none

        def __aenter__(self) -> NoReturn:
            raise TypeError(
                f"{type(self).__name__} is used with `with`, not with `async with`: use AsyncClockNext, or "
                "TrioClockNext under trio."
            )

        def __aexit__(self, *details: object) -> None:
            """Exist, so that `async with` gets as far as the message of `__aenter__`."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: a copy that is dropped would close what it shares."""
        raise TypeError(f"{type(self).__name__} can't be copied or pickled: make another client.")

    @property
    def is_unclosed(self) -> bool:
        """Whether there is anything that closing the client would end or deliver."""
        return self._own_driver.is_unclosed

    def __del__(self) -> None:
        fork.notice()
        if self._is_started and self._own_driver.is_unclosed:
            message = f"unclosed {self!r}: close it, or use it in a `with` block"
            self._own_driver.orphan()
            warnings.warn(message, ResourceWarning, stacklevel=1, source=self)

    def _new_engine(self) -> Engine:
        # The engine must not know the client, or the threads that know the engine would keep it alive.
        engine = self.make_engine(self.config, rng=random.Random(), make_key=environment.new_key)  # noqa: S311
        self._hooks.log.watch(engine.outbox.gate)
        return engine

    def _restart(self) -> None:
        """Begin anew after a fork, in the child: nothing held and no connection, but closed if it was."""
        engine = self._new_engine()
        if self._own_driver.engine.outbox.is_closing:
            engine.outbox.close()
        restart_transport: object = getattr(self._own_driver.transport, "restart", None)
        if callable(restart_transport):
            restart_transport()
        self._own_driver.restart(engine)

    @abstractmethod
    def _native_transport(self) -> TransportT: ...

    @abstractmethod
    def _proxied_transport(self, proxy: str) -> TransportT: ...

    def _default_transport(self) -> TransportT:
        proxy = None if self.config.disabled else environment.proxy_for(self.config.origin)
        if proxy is None:
            return self._native_transport()
        try:
            return self._proxied_transport(proxy)
        except ModuleNotFoundError as error:
            if error.name != "httpx":
                raise
            raise environment.httpx_is_missing() from None


def _import_for_connections(origin: Origin) -> None:
    """Import now what Python would import in the thread that connects first.

    A child that is forked while a thread imports a module can never import it: the module's lock stays held.
    """
    codecs.lookup("idna")  # Python encodes every host name with it, also an address
    if origin.scheme == "https":
        importlib.import_module("ssl")


def _checked_spool(spool: object) -> tuple[float, bool]:
    """Check what was given as a spool, without opening anything; return its window, and if it is shared."""
    if isinstance(spool, str | os.PathLike):
        if not os.fspath(spool):  # an unset variable: it would be the working directory
            raise invalid("spool", "must not be empty: give a directory's path, or None for no spool")
        from clocknext_transports.spool.sqlite import WINDOW

        return WINDOW, False
    for method in ("append", "erase", "adopt", "quarantine", "suspend", "resume", "restart", "close"):
        if isinstance(spool, type) or not callable(getattr(spool, method, None)):
            raise invalid("spool", f"must be a path or a Spool, not an object of type {type(spool).__name__}")
    from clocknext_transports.spool.protocol import is_shared

    return cast("Spool", spool).window, is_shared(spool)


def _opened(spool: "str | os.PathLike[str] | Spool", outbox: Outbox | SpooledOutbox) -> "Keeper":
    from clocknext_transports.spool.keeper import Keeper
    from clocknext_transports.spool.sqlite import SqliteSpool

    return Keeper(SqliteSpool(spool) if isinstance(spool, str | os.PathLike) else spool, outbox)


_HTTPX = ("httpx", "httpx2")


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _check_transport(transport: object, closing: str) -> None:
    """Tell a transport for threads from one for event loops by how it is closed."""
    if isinstance(transport, type):
        raise invalid("transport", f"must be an object, not the class {transport.__name__}")
    is_async = closing == "aclose"
    package = next((name for kind in type(transport).__mro__ if (name := _package(kind)) in _HTTPX), None)
    if package is not None and not hasattr(transport, "exchange"):
        wrapper = "AsyncHttpxTransport" if is_async else "HttpxTransport"
        raise invalid(
            "transport",
            f"must be a transport, not {type(transport).__name__} itself. Wrap an {package}."
            f"{'AsyncClient' if is_async else 'Client'}: from clocknext_transports.httpx import {wrapper}; "
            f"transport={wrapper}(client)",
        )
    for method in ("exchange", closing):
        if not callable(getattr(transport, method, None)):
            raise invalid("transport", f"must have the method {method}: {type(transport).__name__} has none")


def checked_timeout(timeout: object) -> float | None:
    """Check how long a flush or close may take."""
    return None if timeout is None else check_seconds("timeout", timeout)
