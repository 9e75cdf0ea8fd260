"""Turn what a transport must not raise into a failure."""

import traceback

from clocknext_core import Config, Failure
from clocknext_core.text import printable
from clocknext_transports.process.interrupts import let_pass
from clocknext_transports.process.log import logger


def broken_transport(error: Exception, config: Config) -> Failure:
    """Turn an exception that a transport should not have raised into a failure, so that no signal is lost.

    A signal handler's is raised again: it is the program's, and its caller must have it.
    """
    let_pass(error)
    trace = "".join(traceback.format_exception(error))
    # Its messages may hold what a server sent: each line is made printable, the line ends stay.
    shown = "\n".join(map(printable, config.redact(trace).split("\n")))
    logger.error("The transport raised; the attempt has failed.\n%s", shown)
    return Failure(f"The transport raised {type(error).__name__}.")
