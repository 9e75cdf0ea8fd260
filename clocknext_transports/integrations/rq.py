"""RQ: what a job recorded is delivered before its process ends, and a job that is retried is billed once.

```text
rq worker --worker-class clocknext_transports.integrations.rq.ClockNextWorker
```
"""

from typing import TYPE_CHECKING, Any

from clocknext_transports.client.seeding import seeded
from clocknext_transports.process import exit as process_exit

if TYPE_CHECKING:  # checked without the package

    class Worker:
        """RQ's worker, which forks a process for each job."""

        def perform_job(self, job: Any, *details: Any, **named: Any) -> bool:
            """Perform a job, in the process that was forked for it."""
            ...

else:
    from rq import Worker


class ClockNextWorker(Worker):
    """A worker of RQ, which forks a process for each job; the process leaves by `os._exit`.

    All clients of the process deliver first, for 5 seconds at most, and log what they could not deliver. Keys
    of what a job records are made from the job's id, so that a job that is retried is billed once.
    """

    def perform_job(self, job: Any, *details: Any, **named: Any) -> bool:
        """Perform a job, and deliver what it recorded."""
        try:
            with seeded(job.id):
                return super().perform_job(job, *details, **named)
        finally:
            process_exit.drain()
