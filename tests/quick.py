"""Which tests `pytest -m quick` runs: a minute on two cores, over every package.

A test is quick unless a rule here says otherwise: a new one belongs to the minute until it proves slow.
"""

from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test

TESTS = Path(__file__).parent

SLOW = (
    "benchmarks/*",
    "browser/*",
    "cli/test_demo.py",
    "cli/test_doctor.py",
    "cli/test_emulator.py",
    "cli/test_hostile_text.py",
    "cli/test_lookups.py",
    "cli/test_main.py",
    "cli/test_send.py",
    "cli/test_verify.py",
    "*_properties.py",
    "contract/test_faults.py",
    "core/resources/test_refusals.py",
    "core/test_poison.py",
    "core/test_purity.py",
    "core/test_whose_word.py",
    "docs/test_typed.py",
    "emulator/test_our_client.py",
    "frameworks/test_django.py",
    "frameworks/test_pages.py",
    "fuzz/test_replay.py",
    "life/test_dropped.py",
    "life/test_endings.py",
    "life/test_exit.py",
    "life/test_fork.py",
    "life/test_frozen.py",
    "life/test_imports.py",
    "life/test_interrupts.py",
    "life/test_loop_transports.py",
    "matrix/test_answers.py",
    "matrix/test_bad_data.py",
    "matrix/test_clients.py",
    "matrix/test_secrets.py",
    "matrix/test_service.py",
    "matrix/test_spool.py",
    "matrix/test_virtual_time.py",
    "packaging/test_builds.py",
    "packaging/test_changelog.py",
    "postgres/test_command.py",
    "postgres/test_recording.py",
    "postgres/test_refusals.py",
    "postgres/test_page.py",
    "postgres/test_relay.py",
    "postgres/test_surroundings.py",
    "simulation/*",
    "spool/test_command.py",
    "spool/test_damage.py",
    "spool/test_flips.py",
    "spool/test_full_disk.py",
    "spool/test_kills.py",
    "spool/test_power_cut.py",
    "transports/test_addresses.py",
    "transports/test_exit.py",
    "transports/test_frames.py",
    "transports/test_proxies.py",
    "transports/test_speaking.py",
    "transports/test_httpx_client.py",
    "transports/test_imports.py",
    "transports/test_tls.py",
    "transports/test_wire.py",
    "testing/test_mistakes.py",
    "testing/test_plugin.py",
    "twisted/test_contract.py",
    "twisted/test_driver.py",
    "typing/*",
)
"""Files, below this folder, that take some seconds, start many processes, or have a thousand cases."""

OTHER_CLIENTS = ("threads", "trio", "httpx")
"""The contract holds for all clients and transports; the minute tries it with asyncio and the native one."""


def is_quick_file(path: Path) -> bool:
    """Return whether a file or folder may hold quick tests."""
    if not path.is_relative_to(TESTS):
        return True
    name = path.relative_to(TESTS).as_posix()
    return not any(fnmatch(name, pattern) for pattern in SLOW)


def is_quick(item: pytest.Item) -> bool:
    """Return whether a test is one of the minute: it searches no property, and tries no other client."""
    if not is_quick_file(item.path) or is_hypothesis_test(getattr(item, "obj", None)):
        return False
    is_contract = item.path.is_relative_to(TESTS / "contract")
    return not (is_contract and any(client in item.name for client in OTHER_CLIENTS))
