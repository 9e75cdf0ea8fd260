"""The command line `clocknext`: try the service, emulate it, send to it, look into it.

It needs the extra `cli`. Nothing of it is imported before `main` runs, so that without the extra there is a
message and not a traceback.
"""

import sys

EXTRA = frozenset({"click", "rich", "trio"})
"""What the extra `cli` installs."""


def main() -> None:
    """Run the command line with the arguments of the process, and exit.

    Exit status: the command's own; 2 for wrong usage or when the extra `cli` is not installed; 130 after
    Ctrl-C.
    """
    try:
        from clocknext_transports.cli.group import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        sys.stderr.write(f"The command line needs {missing}: pip install 'clocknext[cli]'\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)
    sys.exit(run())
