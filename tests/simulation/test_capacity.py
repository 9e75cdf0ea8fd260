"""`max_concurrency="auto"` against servers with a delay, a capacity and a limit, in virtual time."""

import math
from random import Random

import pytest

from tests.simulation.capacity import Client, Field, Service

HELD = 4000


def drained(
    concurrency: int | str, service: Service, held: int = HELD, work: float = 0.0
) -> tuple[float, Client]:
    """Return how long it takes to deliver what is held, and the client."""
    field = Field(service)
    client = field.add(concurrency, work=work)
    client.record(held)
    field.run(600.0, lambda: len(client.seen.delivered) == held)
    assert len(client.seen.delivered) == held
    return field.now, client


def test_a_server_far_off_is_used_almost_as_much_as_by_the_most_at_once() -> None:
    service = Service(away=0.05)
    took, client = drained("auto", service, 10_000)
    assert took <= 1.25 * drained(64, service, 10_000)[0]
    assert next(at for at, width in client.seen.widths if width >= 32) <= 2.0


def test_a_driver_that_is_late_itself_does_not_take_the_server_for_busy() -> None:
    work = 0.00015  # a turn with 64 answers takes 29 ms
    took, client = drained("auto", Service(away=0.05), 10_000, work=work)
    assert next(at for at, width in client.seen.widths if width >= 32) <= 1.5
    assert next(at for at, width in client.seen.widths if width >= 60) <= 2.3
    assert took <= 1.18 * drained(64, Service(away=0.05), 10_000, work=work)[0]


def test_a_server_whose_latency_varies_is_not_taken_for_one_that_queues() -> None:
    def takes(rng: Random) -> float:
        return 0.03 * math.exp(rng.gauss(0.0, 0.5))

    service = Service(away=0.02, takes=takes)
    assert drained("auto", service)[0] <= 1.5 * drained(64, service)[0]


@pytest.mark.parametrize("seconds", [0.02, 0.05])
def test_a_server_that_serves_eight_at_once_is_kept_busy_and_not_made_to_queue(seconds: float) -> None:
    service = Service(away=0.0, serves=8, takes=lambda _: seconds)
    fixed = {width: drained(width, service)[0] for width in (8, 16, 64)}
    took, client = drained("auto", service)
    assert min(fixed.values()) / took >= 0.95
    assert client.seen.median_latency() <= 1.5 * drained(8, service)[1].seen.median_latency()


def test_a_producer_that_five_at_once_cannot_follow_loses_nothing() -> None:
    dropped: dict[int | str, int] = {}
    for concurrency in ("auto", 5):
        field = Field(Service(away=0.05))
        client = field.add(concurrency)
        client.produce(150.0, until=600.0)
        field.run(600.0)
        dropped[concurrency] = client.seen.dropped
        assert client.events["FallingBehind"] == (concurrency == 5)
    assert dropped["auto"] == 0
    assert dropped[5] > 10_000


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("by_the_second", [True, False])
def test_a_server_that_limits_the_rate_is_used_up_to_its_limit(
    retry_after: float | None, *, by_the_second: bool
) -> None:
    field = Field(Service(away=0.05, most=100.0, retry_after=retry_after, window=by_the_second))
    client = field.add("auto")
    client.record(9000)
    field.run(70.0)
    assert client.seen.rate(10.0, 70.0) >= 90.0
    assert client.seen.share_of(429, after=10.0) <= 0.1


@pytest.mark.parametrize("apart", [0.0, 3.0])
def test_ten_clients_share_a_server_evenly(apart: float) -> None:
    field = Field(Service(away=0.05, serves=40, takes=lambda rng: 0.04 + 0.02 * rng.random()))
    clients = [field.add("auto") for _ in range(10)]
    for number, client in enumerate(clients):
        client.produce(300.0, until=math.inf, start=number * apart)
    start = 10.0 * apart + 10.0
    field.run(start + 30.0)
    shares = [client.seen.rate(start, start + 30.0) for client in clients]
    assert max(shares) <= 1.5 * min(shares)
    assert sum(shares) >= 0.95 * 800.0


def test_ten_clients_do_not_break_a_server_with_less_room_than_clients() -> None:
    field = Field(Service(away=0.0, serves=8, takes=lambda _: 0.05))
    clients = [field.add("auto") for _ in range(10)]
    for client in clients:
        client.record(2000)
    field.run(60.0)
    assert sum(client.seen.rate(10.0, 60.0) for client in clients) >= 0.99 * 160.0
    assert max(client.seen.median_latency(10.0) for client in clients) <= 1.0
