"""The outbox as an operation list: any inputs in any order, between polls, while time jumps to and fro.

Invariant: after every operation, every promise of the outbox holds, as the model beside it keeps the books
(`tests/core/outbox_model.py`, which checks them itself): every recorded signal is held or has ended, once;
all attempts send the same bytes under the same key; the limits of concurrency and queue hold; nothing goes
out before its back-off or the server's Retry-After; a wake-up exists whenever work does; flush and close tell
of what they waited for. And once every fault stops, all that is held is delivered within a bounded number of
steps.

Allowed exceptions: none. What the overflow policy `raise` raises, the model expects and catches.
"""

from typing import get_args

from clocknext_core import Adopt, BatchPolicy, RetryPolicy, SpooledOutput, Store, Transmit, Wait
from clocknext_core.config import Outage, Overflow
from fuzz.decoding import Decoder
from tests.core.outbox_model import REPLIES, World

MAX_BYTES = 256

MAX_OPERATIONS = 120

POLICIES: tuple[Overflow, ...] = get_args(Overflow)
OUTAGES: tuple[Outage, ...] = get_args(Outage)
INTERVALS = (0.0, 0.5, 2.0)
BYTES = (10**6, 300, 900)
PATIENCE = (0.0, 1.0, 10.0)
JUMPS = (0.0, 0.05, 0.2, 1.0, 2.0, 3.0, 30.0, 900.0, -0.1, -50.0)
WINDOWS = (None, 5.0, 86400.0)
"""Of the spool, where there is one."""
AGES = (0.0, 1.0, 4.0, 90000.0)
DEADLINES = (None, 0.0, 0.05, 1.0, 3.0, 30.0, 900.0)
NAMES = sorted(REPLIES)

TOKENS = (
    *(
        b"\x00\x00\x03\x00",
        b"\x03\x00\x04\x00",
        b"\x04\x01\x04\x02",
        b"\x0a\x00\x03\x00",
        b"\x0b\x00",
        b"\x0d\x00",
    ),
    *(
        b"\x01\x00\x02\x00\x03\x00",
        b"\x0c\x07",
        b"\x08\x00\x09\x00",
        b"\x00\x00\x00\x00\x00\x00\x03\x00\x03\x00",
    ),
)


def check(data: bytes) -> None:
    """Run operations: ten bytes for the policies, then two an operation: which one, and on what."""
    decoder = Decoder(data)
    batch = BatchPolicy(
        max_size=1 + decoder.below(4),
        max_interval=decoder.pick(INTERVALS),
        max_concurrency=1 + decoder.below(3),
        max_queue_size=1 + decoder.below(6),
        overflow=decoder.pick(POLICIES),
        block_timeout=decoder.pick(PATIENCE),
        max_queue_bytes=decoder.pick(BYTES),
        outage=decoder.pick(OUTAGES),
    )
    choice = decoder.below(256)
    spool_window = decoder.pick(WINDOWS)
    retry = RetryPolicy(
        max_attempts=1 + choice % 4,
        base_delay=(0.0, 0.2)[choice // 4 % 2],
        max_delay=(0.3, 10.0)[choice // 8 % 2],
    )
    world = World(batch, retry, choice // 16, spool_window)
    _Operations(world).run(decoder)
    world.recover()


class _Operations:
    """The operations on a world, and the tickets they are about.

    Args:
        world: The outbox and its model.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: list[int] = []
        self._wakes_at: float | None = None

    def run(self, decoder: Decoder) -> None:
        """Do one operation after the other."""
        for _ in range(MAX_OPERATIONS):
            if decoder.has_ended:
                return
            self._do(decoder.below(18), decoder.below(256))

    def _do(self, operation: int, argument: int) -> None:
        world = self._world
        match operation:
            case 0 | 1 | 2:
                for _ in range(1 + argument % 3):
                    world.record()
            case 4 | 5 | 6:
                world.answer(self._ticket(argument), NAMES[argument % len(NAMES)])
            case 7:
                world.answer(self._ticket(argument), "ok")
            case 8:
                world.abandon(self._ticket(argument))
            case 9:
                world.withdraw(max(self._sent, default=0) + argument % 8)  # calls that wait come after it
            case 10:
                world.flush(DEADLINES[argument % len(DEADLINES)])
            case 11 if argument % 8 == 0:
                world.flush(DEADLINES[argument // 8 % len(DEADLINES)], closes=True)
            case 12:
                world.jump(JUMPS[argument % len(JUMPS)])
            case 13:
                if self._wakes_at is not None:
                    world.jump(max(0.0, self._wakes_at - world.clock))
            case 14:
                self._live_through(NAMES[argument % len(NAMES)], 4 * (1 + argument // len(NAMES)))
            case 15 if world.storing:
                tickets = list(world.storing)
                world.store(tickets[argument % len(tickets)], fails=argument >= 240)
            case 16 if world.adopting is not None:
                self._end_look(world.adopting, argument)
            case _:
                for _ in range(1 + argument % 4):
                    self._poll()

    def _end_look(self, limit: int, argument: int) -> None:
        """Report what a look into the spool has found, or that it failed."""
        if argument % 8 == 0:
            self._world.fail_to_adopt()
        elif argument % 8 == 1:
            self._world.expire()
        else:
            count = min(argument // 8 % 3, limit)
            ages = [AGES[(argument + number) % len(AGES)] for number in range(count)]
            self._world.adopt(count, ages, is_last=argument % 2 == 0)

    def _live_through(self, name: str, steps: int) -> None:
        """Let every attempt be answered alike for a while, and time pass: one by one, outages are rare."""
        for _ in range(steps):
            match self._poll():
                case Transmit(ticket):
                    self._world.answer(ticket, name)
                case Store(ticket):
                    self._world.store(ticket)
                case Adopt():
                    self._world.adopt(0, [], is_last=True)
                case Wait(until=float(until)):
                    self._world.jump(max(0.0, until - self._world.clock))
                case _:
                    pass

    def _ticket(self, argument: int) -> int:
        """Choose a ticket: mostly one of the latest transmissions, now and then one over or unknown."""
        if not self._sent or argument >= 250:
            return argument
        return self._sent[-1 - argument // 32 % len(self._sent)]

    def _poll(self) -> SpooledOutput:
        output = self._world.poll()
        if isinstance(output, Transmit):
            self._sent.append(output.ticket)
        elif isinstance(output, Wait):
            self._wakes_at = output.until
        return output
