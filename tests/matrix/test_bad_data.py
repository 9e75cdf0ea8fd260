"""Row 25: what the caller hands over can't be sent, and what is called back raises."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import TypeAlias

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from clocknext_core import BatchPolicy, ValidationError
from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from tests.contract.worlds import WORLDS, LogKeeper, World
from tests.matrix.support import PERSISTENT

Custom: TypeAlias = Mapping[str, object]

ON_FLUSH = BatchPolicy(max_size=1000, max_interval=3600.0, max_concurrency=1)


class BrokenMappingError(Exception):
    """The caller's own trouble."""


class BrokenHookError(Exception):
    """And what its hooks raise."""


class BrokenMapping(Mapping[str, object]):
    """Raises when it is read."""

    def __getitem__(self, key: str) -> object:
        raise BrokenMappingError

    def __iter__(self) -> Iterator[str]:
        raise BrokenMappingError

    def __len__(self) -> int:
        return 1


def cycle() -> Custom:
    made: dict[str, object] = {}
    made["self"] = [made]
    return made


def nested(depth: int) -> Custom:
    made: object = 1
    for _ in range(depth):
        made = [made]
    return {"deep": made}


BAD: Sequence[Custom] = [
    {"n": float("nan")},
    {"n": [float("-inf")]},
    {"s": "\ud800"},
    {"\udfff": 1},
    {"b": b"bytes"},
    {"o": object()},
    {"long": "x" * 40_000},
    cycle(),
    nested(100_000),
    BrokenMapping(),
]
GOOD: Sequence[Custom] = [{}, {"a": [1, None, {"é": 0.5}]}]

SURROGATES = st.text(st.characters(categories=("Cs", "Ll")), max_size=3)
LEAVES = (
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), SURROGATES),
    *(st.binary(max_size=3), st.builds(object), st.sets(st.integers(), max_size=2)),
)
VALUES = st.recursive(
    st.one_of(*LEAVES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
CUSTOMS = st.dictionaries(st.text(max_size=3) | SURROGATES, VALUES, max_size=3)


class Play:
    """Records what can be sent and what can't, with hooks that all raise.

    Args:
        server: Where it is billed.
        name: The name of the world.
    """

    def __init__(self, server: EmulatorServer, name: str) -> None:
        self.seen: Counter[str] = Counter()
        self._server = server
        self._name = name
        self._keys = (f"k{number}" for number in count())

    def run(self, customs: Sequence[Custom]) -> None:
        log, logger = LogKeeper(), logging.getLogger("clocknext")
        logger.addHandler(log)
        world = WORLDS[self._name]()
        try:
            world.run(lambda: self._scenario(world, customs))
        finally:
            logger.removeHandler(log)
        lines = log.take()
        # One was rejected, one retried, and the buffer emptied once: each of the four hooks has raised once.
        told = sorted(line.partition(";")[0].removeprefix("A hook raised on ") for line in lines)
        assert told == ["Emptied", "Rejected", "Rejected", "Retrying"]
        assert all("BrokenHookError" in line for line in lines)

    async def _scenario(self, world: World, customs: Sequence[Custom]) -> None:
        accepted: dict[str, Custom] = {}
        self._server.faults.script(Fault("status", status=503), Fault("status", status=400))
        async with world.open(
            self._server.url,
            batch=ON_FLUSH,
            retry=PERSISTENT,
            on_error=broken_hook,
            on_flush=broken_hook,
            on_retry=broken_hook,
            on_drop=broken_hook,
        ) as client:
            for custom in (*GOOD, *customs):
                key = next(self._keys)
                try:
                    await client.signals.wallet(
                        customer_id="cus_wallet", model="gpt-4o", custom=custom, idempotency_key=key
                    )
                except (ValidationError, BrokenMappingError) as error:
                    self.seen[type(error).__name__] += 1
                else:
                    accepted[key] = custom
                assert client.pending == len(accepted)
            report = await client.flush()
            assert (report.delivered, report.pending) == (len(accepted) - 1, 0)
            ((refused),) = report.failed
        del accepted[str(refused.signal.idempotency_key)]
        self.seen["accepted"] += len(accepted)
        billed = [signal for signal in self._server.ledger.signals if signal.idempotency_key in accepted]
        assert Counter(signal.idempotency_key for signal in billed) == Counter(accepted.keys())
        for signal in billed:
            assert signal.custom == json.loads(json.dumps(accepted[str(signal.idempotency_key)]))


def broken_hook(*_: object) -> None:
    """Raise, whatever it is told."""
    raise BrokenHookError


@pytest.mark.parametrize("name", WORLDS)
def test_row_25_hook_or_serializer_raises(name: str) -> None:
    """The call that can't be sent says so and queues nothing; a hook that raises is logged; others flow."""
    with emulator() as server:
        play = Play(server, name)
        play.run(BAD)

        @settings(max_examples=10, deadline=None)
        @given(st.lists(CUSTOMS, max_size=5))
        def plays(customs: Sequence[Custom]) -> None:
            play.run(customs)

        plays()
    assert play.seen["ValidationError"] >= len(BAD) - 1
    assert play.seen["BrokenMappingError"] >= 1
    assert play.seen["accepted"] >= 10
