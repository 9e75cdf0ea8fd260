# ruff: noqa: B018
"""Wrong calls, never run: each must be an error to mypy and to pyright.

Each is marked with mypy's name of the error; pyright heeds the marks as well. Where a checker accepts a
call, its mark is unnecessary, and both report that: then the project's own checks fail, and so does the
test beside this file.
"""

from clocknext_core import (
    BatchPolicy,
    ClockNextError,
    CreditSignal,
    OutcomeSignal,
    RetryPolicy,
    Signal,
    Tokens,
    WalletSignal,
)
from clocknext_transports import AsyncClockNext, ClockNext, TrioClockNext


def constructors() -> None:
    ClockNext(key="cnk_x")  # type: ignore[call-arg]
    ClockNext(api_key=7)  # type: ignore[arg-type]
    ClockNext(mode="batch")  # type: ignore[arg-type]
    ClockNext(batch={"max_size": 5})  # type: ignore[arg-type]
    ClockNext(on_drop=lambda signal: None)  # type: ignore[arg-type, misc]
    AsyncClockNext(api_key=7)  # type: ignore[arg-type]
    AsyncClockNext(time_out=5)  # type: ignore[call-arg]
    TrioClockNext(api_key=7)  # type: ignore[arg-type]
    TrioClockNext(time_out=5)  # type: ignore[call-arg]
    BatchPolicy(max_size="20")  # type: ignore[arg-type]
    BatchPolicy(overflow="drop_all")  # type: ignore[arg-type]
    RetryPolicy(attempts=5)  # type: ignore[call-arg]
    Tokens(5, 6)  # type: ignore[call-arg]
    Tokens(input=1.5)  # type: ignore[arg-type]
    CreditSignal(model="m", key="k")  # type: ignore[call-arg]
    CreditSignal(customer_id="c", model="m", run_id="r")  # type: ignore[call-arg]
    WalletSignal(customer_id="c", model="m", key="k")  # type: ignore[call-arg]
    OutcomeSignal(customer_id="c", model="m", key="k", status="DONE")  # type: ignore[arg-type]
    Signal(customer_id="c", model="m")  # type: ignore[abstract]


def blocking(cnk: ClockNext) -> None:
    cnk.signals.credit(model="m", key="k")  # type: ignore[call-arg]
    cnk.signals.credit(customer_id="c", model="m", name="k")  # type: ignore[call-arg]
    cnk.signals.credit(customer_id="c", model="m", key=7)  # type: ignore[arg-type]
    cnk.signals.credit("c", "m")  # type: ignore[call-arg]
    cnk.signals.wallet(customer_id="c", model="m", key="k")  # type: ignore[call-arg]
    cnk.signals.outcome(customer_id="c", model="m", key="k", complete="yes")  # type: ignore[arg-type]
    cnk.signals.track({"type": "credit"})  # type: ignore[arg-type]
    cnk.signals.list()  # type: ignore[call-arg]
    cnk.signals.from_response(object(), customer_id="c", type="debit")  # type: ignore[arg-type]
    cnk.customers.create(name="N")  # type: ignore[call-arg]
    cnk.customers.create(name="N", email="a@b.c", colour="red")  # type: ignore[call-arg]
    cnk.customers.create(name="N", email="a@b.c", notes=7)  # type: ignore[arg-type]
    cnk.customers.get()  # type: ignore[call-arg]
    cnk.customers.get(7)  # type: ignore[arg-type]
    cnk.customers.get(customer_id="c")  # type: ignore[call-arg]
    cnk.customers.update("c", email=None)  # type: ignore[arg-type]
    cnk.customers.list(50)  # type: ignore[call-arg]
    cnk.customers.list(limit="50")  # type: ignore[arg-type]
    cnk.customers.iterate(cursor="c")  # type: ignore[call-arg]
    cnk.customers.adjust_credit("c", credit_id="cr")  # type: ignore[call-arg]
    cnk.plans.set_active("p", False)  # type: ignore[call-arg]
    cnk.plans.create(name="N", components=[{"type": "CREDIT"}])  # type: ignore[typeddict-item]
    cnk.portal.create_token(customer_id="c", ttl_seconds="600")  # type: ignore[arg-type]
    cnk.runs.start(run_id="r")  # type: ignore[call-arg]
    cnk.close(timeout="5")  # type: ignore[arg-type]
    cnk.customers.get("c").nmae  # type: ignore[attr-defined]
    cnk.customers.get("c").name.upper()  # type: ignore[union-attr]
    for customer in cnk.customers.iterate():
        customer.nmae  # type: ignore[attr-defined]
    with cnk.runs.start(customer_id="c") as run:
        run.step()  # type: ignore[call-arg]
        run.step("a", tokens=5)  # type: ignore[arg-type]
        run.step("a", name="b")  # type: ignore[call-arg]
    report = cnk.flush()
    report.failed[0].error.nmae  # type: ignore[attr-defined]


async def blocking_is_not_awaited(cnk: ClockNext) -> None:
    await cnk.customers.get("c")  # type: ignore[misc]
    await cnk.signals.credit(customer_id="c", model="m", key="k")  # type: ignore[misc]
    await cnk.flush()  # type: ignore[misc]
    await cnk.close()  # type: ignore[misc]
    async for _ in cnk.customers.iterate():  # type: ignore[attr-defined]
        pass
    async with cnk.runs.start(customer_id="c"):  # type: ignore[attr-defined]
        pass
    async with cnk:  # type: ignore[attr-defined]
        pass


async def asynchronous(cnk: AsyncClockNext) -> None:
    await cnk.signals.credit(model="m", key="k")  # type: ignore[call-arg]
    await cnk.signals.credit(customer_id="c", model="m", name="k")  # type: ignore[call-arg]
    await cnk.signals.credit(customer_id="c", model="m", key=7)  # type: ignore[arg-type]
    await cnk.signals.track({"type": "credit"})  # type: ignore[arg-type]
    await cnk.customers.create(name="N")  # type: ignore[call-arg]
    await cnk.customers.create(name="N", email="a@b.c", colour="red")  # type: ignore[call-arg]
    await cnk.customers.create(name="N", email="a@b.c", notes=7)  # type: ignore[arg-type]
    await cnk.customers.get()  # type: ignore[call-arg]
    await cnk.customers.get(7)  # type: ignore[arg-type]
    await cnk.customers.list(limit="50")  # type: ignore[arg-type]
    cnk.customers.iterate(cursor="c")  # type: ignore[call-arg]
    await cnk.plans.set_active("p", False)  # type: ignore[call-arg]
    (await cnk.customers.get("c")).nmae  # type: ignore[attr-defined]
    async with cnk.runs.start(customer_id="c") as run:
        await run.step()  # type: ignore[call-arg]
        await run.step("a", tokens=5)  # type: ignore[arg-type]


async def asynchronous_is_awaited(cnk: AsyncClockNext) -> None:
    cnk.customers.get("c")  # type: ignore[unused-coroutine]
    cnk.customers.get("c").name  # type: ignore[attr-defined]
    cnk.signals.credit(customer_id="c", model="m", key="k")  # type: ignore[unused-coroutine]
    cnk.signals.credit(customer_id="c", model="m", key="k").queued  # type: ignore[attr-defined]
    cnk.flush()  # type: ignore[unused-coroutine]
    cnk.close()  # type: ignore[unused-coroutine]
    for _ in cnk.customers.iterate():  # type: ignore[attr-defined]
        pass
    with cnk.runs.start(customer_id="c"):  # type: ignore[attr-defined]
        pass
    async with cnk.runs.start(customer_id="c") as steps:
        steps.step("a")  # type: ignore[unused-coroutine]
    with cnk:  # type: ignore[attr-defined]
        pass


async def trio_is_awaited_as_well(cnk: TrioClockNext) -> None:
    await cnk.signals.credit(model="m", key="k")  # type: ignore[call-arg]
    await cnk.customers.create(name="N", email="a@b.c", colour="red")  # type: ignore[call-arg]
    await cnk.customers.get(7)  # type: ignore[arg-type]
    cnk.customers.get("c")  # type: ignore[unused-coroutine]
    cnk.customers.get("c").name  # type: ignore[attr-defined]
    cnk.flush()  # type: ignore[unused-coroutine]
    for _ in cnk.customers.iterate():  # type: ignore[attr-defined]
        pass
    with cnk:  # type: ignore[attr-defined]
        pass


def hooks() -> None:
    def one(error: ClockNextError) -> None: ...
    def wrong(error: int, signal: Signal) -> None: ...

    ClockNext(on_error=one)  # type: ignore[arg-type]
    ClockNext(on_error=wrong)  # type: ignore[arg-type]
    AsyncClockNext(on_error=one)  # type: ignore[arg-type]
    TrioClockNext(on_error=one)  # type: ignore[arg-type]


def names() -> None:
    import clocknext_core
    import clocknext_transports
    import clocknext_transports.spool

    clocknext_core.OutBox  # type: ignore[attr-defined]
    clocknext_transports.AsyncClocknext  # type: ignore[attr-defined]
    clocknext_transports.spool.SQLiteSpool  # type: ignore[attr-defined]
