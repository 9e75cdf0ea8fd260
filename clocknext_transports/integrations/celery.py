"""Celery: tasks are billed to whom they were sent for, a retried task is billed once, and workers deliver."""

import importlib
from contextlib import ExitStack
from typing import Any

from clocknext_core.usage.attribution import Attribution
from clocknext_transports.client.seeding import seeded
from clocknext_transports.integrations.hosting import AnyClient, block_for
from clocknext_transports.integrations.watching import check_cnk
from clocknext_transports.process import exit as process_exit

HEADER = "clocknext"
_OPENED = "clocknext_blocks"
_CARRIED = {name: name for name in ("customer_id", "type", "key", "member", "custom")} | {"run": "run_id"}
"""Keywords of `billing`, and the fields of an attribution that they are."""


def bill_tasks(cnk: AnyClient) -> None:
    """Take part in the tasks of this process: in the one that sends them, and in its workers.

    - A task that is sent within a `billing` block of `cnk` runs in a block of its own for the same customer.
      The block travels in the message's headers: any program that may write to the broker says who is billed.
    - What a task records has keys made from the task's id: a task that is retried, or delivered again by the
      broker, is billed once.
    - A process of the prefork pool delivers what is held before it ends, which it does without exit handlers.
      Workers of threads, solo and gevent exit as other programs do, which delivers.

    Call it once, where the application is made.

    Args:
        cnk: Any client of ClockNext.

    Raises:
        ValidationError: `cnk` is no client.
    """
    check_cnk(cnk)
    signals: Any = importlib.import_module("celery.signals")

    def carry(headers: Any = None, **details: object) -> None:
        billed = cnk.billed_here()
        if billed is not None and headers is not None:
            headers.setdefault(HEADER, _packed(billed))

    def begin(task_id: str, task: Any, **details: object) -> None:
        stack = ExitStack()
        stack.enter_context(seeded(task_id))
        stack.enter_context(block_for(cnk, _carried(task.request), {}))
        setattr(task.request, _OPENED, stack)

    def end(task: Any, **details: object) -> None:
        stack = getattr(task.request, _OPENED, None)
        if stack is not None:
            stack.close()

    def deliver(**details: object) -> None:
        process_exit.drain()

    # Not weakly: nothing else refers to these functions.
    signals.before_task_publish.connect(carry, weak=False)
    signals.task_prerun.connect(begin, weak=False)
    signals.task_postrun.connect(end, weak=False)
    signals.worker_process_shutdown.connect(deliver, weak=False)


def _packed(attribution: Attribution) -> dict[str, Any]:
    found = {name: getattr(attribution, field) for name, field in _CARRIED.items()}
    return {name: value for name, value in found.items() if value is not None}


def _carried(request: Any) -> Any:
    """Return the block in a task's headers, which the broker's protocol may have nested once more."""
    headers: Any = getattr(request, "headers", None) or {}
    nested: Any = headers.get("headers") or {}
    return getattr(request, HEADER, None) or headers.get(HEADER) or nested.get(HEADER)
