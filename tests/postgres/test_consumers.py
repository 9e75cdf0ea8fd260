"""The consumers of SQS and Kafka in docs/many-machines.md, with stand-ins: billed once, none lost."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from clocknext_core import WalletSignal
from clocknext_core.signals import encode
from clocknext_transports.emulator import EmulatorServer, Fault, emulator
from tests.docs.test_examples import WITH_DATABASE, Block, blocks_of

GOOD = [f"k{number}" for number in range(25)]
PATH = "/api/v1/usage"


def example(package: str) -> Block:
    (found,) = [block for block in blocks_of(WITH_DATABASE) if f"{package}" in block.code]
    return found


def body(key: str, customer: str = "cus_123") -> bytes:
    return encode(WalletSignal(customer_id=customer, model="gpt-4o", idempotency_key=key), lambda: "").body


MESSAGES = [*map(body, GOOD), body(GOOD[3]), b"not a signal", body("refused", "nobody")]
"""One of them twice, one that can't be read, and one that the service refuses."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorServer]:
    with emulator() as running:
        monkeypatch.setenv("CLOCKNEXT_API_KEY", running.api_key)
        monkeypatch.setenv("CLOCKNEXT_BASE_URL", running.url)
        yield running


# SQS


@dataclass
class Queue:
    """A queue as SQS has them: what is not deleted is received again, three times in all."""

    bodies: dict[str, str]
    received: dict[str, int] = field(default_factory=dict[str, int])

    def receive_message(self, **arguments: Any) -> dict[str, Any]:
        assert arguments["QueueUrl"] == "https://queue.example/1"
        found = [name for name in self.bodies if self.received.get(name, 0) < 3]
        found = sorted(found, key=lambda name: self.received.get(name, 0))[: arguments["MaxNumberOfMessages"]]
        for name in found:
            self.received[name] = self.received.get(name, 0) + 1
        messages = [{"MessageId": name, "ReceiptHandle": name, "Body": self.bodies[name]} for name in found]
        return {"Messages": messages} if messages else {}

    def delete_message(self, **arguments: Any) -> None:
        del self.bodies[arguments["ReceiptHandle"]]


def test_a_message_of_sqs_is_deleted_when_its_signal_is_billed(
    service: EmulatorServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = Queue({f"m{number}": each.decode() for number, each in enumerate(MESSAGES)})
    package: Any = ModuleType("boto3")
    package.client = {"sqs": queue}.__getitem__
    monkeypatch.setitem(sys.modules, "boto3", package)
    monkeypatch.setenv("QUEUE_URL", "https://queue.example/1")
    service.faults.script(Fault("lost"), Fault("status", status=503), Fault("reset"), path=PATH)
    example("boto3").run()
    assert [service.ledger.billed(key) for key in GOOD] == [1] * len(GOOD)
    assert len(service.ledger.signals) == len(GOOD)
    assert list(queue.bodies) == ["m26", "m27"]  # for the dead-letter queue
    assert capsys.readouterr().out.count("stays in the queue") == 2 * 3


# Kafka


@dataclass
class Topic:
    """Two partitions, and how far the group has committed in each."""

    partitions: list[list[bytes]]
    committed: list[int]
    refused: list[bytes] = field(default_factory=list[bytes])


@dataclass
class Message:
    partition_of: int
    offset_of: int
    body: bytes

    def value(self) -> bytes:
        return self.body

    def error(self) -> None:
        return None


class Consumer:
    """Reads on from what was committed."""

    def __init__(self, topic: Topic, settings: dict[str, Any]) -> None:
        assert settings["enable.auto.commit"] is False
        self._topic = topic
        self._read = [*topic.committed]

    def subscribe(self, topics: list[str]) -> None:
        assert topics == ["signals"]

    def consume(self, *, num_messages: int, timeout: float) -> list[Message]:
        found = list[Message]()
        for number, messages in enumerate(self._topic.partitions):
            for each in messages[self._read[number] :][: min(num_messages, 10) - len(found)]:
                found.append(Message(number, self._read[number], each))
                self._read[number] += 1
        return found

    def commit(self, *, asynchronous: bool) -> None:
        assert not asynchronous
        self._topic.committed[:] = self._read

    def close(self) -> None:
        pass


class Producer:
    """Keeps what is produced, once it is flushed."""

    def __init__(self, topic: Topic, settings: dict[str, Any]) -> None:
        del settings
        self._topic = topic
        self._held = list[bytes]()

    def produce(self, name: str, value: bytes, *, headers: dict[str, str]) -> None:
        assert (name, bool(headers["why"])) == ("signals.refused", True)
        self._held.append(value)

    def flush(self) -> None:
        self._topic.refused += self._held
        self._held.clear()


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    topic = Topic([MESSAGES[::2], MESSAGES[1::2]], [0, 0])
    package: Any = ModuleType("confluent_kafka")
    package.Consumer = partial(Consumer, topic)
    package.Producer = partial(Producer, topic)
    package.KafkaException = RuntimeError
    monkeypatch.setitem(sys.modules, "confluent_kafka", package)
    monkeypatch.setenv("KAFKA_SERVERS", "kafka.example")
    return topic


def test_offsets_of_kafka_are_committed_when_a_batch_is_billed(service: EmulatorServer, topic: Topic) -> None:
    service.faults.script(Fault("lost"), Fault("status", status=503), Fault("reset"), path=PATH)
    example("confluent_kafka").run()
    assert [service.ledger.billed(key) for key in GOOD] == [1] * len(GOOD)
    assert len(service.ledger.signals) == len(GOOD)
    assert topic.committed == [len(messages) for messages in topic.partitions]
    assert sorted(topic.refused) == sorted(MESSAGES[-2:])


def test_an_outage_or_a_wrong_key_commits_nothing_and_the_next_start_bills_all(
    service: EmulatorServer, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = example("confluent_kafka")
    code = found.code.replace("timeout=60", "timeout=0.2").replace(
        "ClockNext()", "ClockNext(close_timeout=0)"
    )
    service.faults.chance(1.0, Fault("status", status=503), path=PATH)
    with pytest.raises(SystemExit, match="can't be reached"):
        replace(found, code=code).run()
    service.faults.clear()
    with monkeypatch.context() as patched:
        patched.setenv("CLOCKNEXT_API_KEY", "cnk_wrong")
        with pytest.raises(SystemExit, match="refuses the key"):
            found.run()
    assert (topic.committed, topic.refused, len(service.ledger.signals)) == ([0, 0], [], 0)
    found.run()
    assert [service.ledger.billed(key) for key in GOOD] == [1] * len(GOOD)
    assert sorted(topic.refused) == sorted(MESSAGES[-2:])
