"""What differs between integrations, an adapter each: how a model is called with its package.

To join the contract, write an adapter and list it in `ADAPTERS`. A world of its own (threads, asyncio) is an
adapter of its own. An adapter is made once for each test; its package is imported in `__init__`.
"""

import asyncio
import gc
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from threading import Semaphore
from typing import Any, ClassVar, TypeAlias

import pytest

from clocknext_core.usage.streams import AbortPolicy
from clocknext_transports import ClockNext

LIMIT = 10.0
"""Longest that an answer may take to be handed over, seconds."""
MESSAGES = [{"role": "user", "content": "Hello?"}]
ASKED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
OPENAI_MODEL, ANTHROPIC_MODEL = "gpt-4o", "claude-sonnet-4"
FORGED = dict.fromkeys(("customer_id", "user_id", "user", "member", "key"), "cus_456")
FORGED_HEADERS = {f"x-{name}": "cus_456" for name in ("customer-id", "clocknext-customer", "user-id")}
OPENAI_FORGED: dict[str, Any] = {
    "user": "cus_456",
    "metadata": FORGED,
    "extra_headers": FORGED_HEADERS,
    "extra_body": {"customer_id": "cus_456"},
}


class Adapter(ABC):
    """A package in one world.

    Args:
        url: The model server's.
        cnk: Any client.
    """

    package: ClassVar[str]
    """The module that has to be there."""
    model: ClassVar[str] = OPENAI_MODEL
    prefix: ClassVar[str] = "chatcmpl-"
    """How the provider's ids begin."""
    ways_out: ClassVar[tuple[str, ...]]
    """Ways to leave a stream: `break`, `close`, `collected`, `cancelled`."""
    pace: ClassVar[int | None] = None
    """Bytes that the model sends in a second of a stream that is left. `None`: as fast as it can."""
    forged: ClassVar[dict[str, Any]]
    """Keywords of a request in which the user's own client names a customer, as `FORGED` has it."""

    def __init__(self, url: str, cnk: ClockNext) -> None:
        self.url = url
        self.cnk = cnk

    @classmethod
    def imported(cls) -> Any:
        """Import the package; the test is skipped where it is not installed."""
        return pytest.importorskip(cls.package, exc_type=ImportError)

    @abstractmethod
    def complete(self, **more: Any) -> str:
        """Ask for an answer in one piece, with further keywords of the package, and return its text."""

    @abstractmethod
    def read(self) -> str:
        """Ask for a stream, read it to its end, and return its text."""

    @abstractmethod
    def read_within(self) -> None:
        """Ask for a stream, read another one to its end, then the first to its end."""

    @abstractmethod
    def leave(self, how: str) -> None:
        """Ask for a stream and leave it after its first chunk."""

    @abstractmethod
    def complete_in(self, members: list[str]) -> None:
        """Ask for answers at the same time, each in a scope of its own."""

    def settle(self, calls: int) -> None:
        """Wait until the package has handed over so many answers, where it does that later."""
        del calls


class SyncAdapter(Adapter):
    """An adapter whose package is called by threads."""

    ways_out: ClassVar[tuple[str, ...]] = ("break", "close", "collected")

    @abstractmethod
    def stream(self) -> Any:
        """Ask for a stream: an iterator of pieces of text, with `close` if the package has that."""

    def read(self) -> str:
        return "".join(self.stream())

    def read_within(self) -> None:
        first = iter(self.stream())
        next(first)
        assert [*self.stream()]
        assert [*first]

    def leave(self, how: str) -> None:
        stream = self.stream()
        if how == "close":
            next(iter(stream))
            stream.close()
        elif how == "break":
            for _ in stream:
                break
            del stream
        else:
            next(iter(stream))
            cycle: list[object] = [stream]
            cycle.append(cycle)
            del stream, cycle
        gc.collect()

    def complete_in(self, members: list[str]) -> None:
        def one(member: str) -> None:
            with self.cnk.billing(customer_id="cus_123", key="chat_credit", member=member):
                self.complete()

        with ThreadPoolExecutor(len(members)) as pool:
            list(pool.map(one, members))


class AsyncAdapter(Adapter):
    """An adapter whose package is awaited."""

    ways_out: ClassVar[tuple[str, ...]] = ("break", "close", "collected", "cancelled")

    @abstractmethod
    async def acomplete(self, **more: Any) -> str:
        """Ask for an answer in one piece, with further keywords of the package."""

    @abstractmethod
    def astream(self) -> AsyncIterator[str]:
        """Ask for a stream and pass its pieces of text on, as an asynchronous generator."""

    async def aclose(self) -> None:
        """End what the package keeps in the loop."""

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async def worked() -> Any:
            try:
                return await work()
            finally:
                await self.aclose()
                gc.collect()
                await asyncio.sleep(0)  # generators that were collected are closed by the loop

        return asyncio.run(worked())

    def complete(self, **more: Any) -> str:
        text: str = self.run(partial(self.acomplete, **more))
        return text

    def read(self) -> str:
        async def read() -> str:
            return "".join([piece async for piece in self.astream()])

        text: str = self.run(read)
        return text

    def read_within(self) -> None:
        async def read() -> None:
            first = self.astream()
            await anext(first)
            assert [piece async for piece in self.astream()]
            assert [piece async for piece in first]

        self.run(read)

    def leave(self, how: str) -> None:
        async def leave() -> None:
            stream = self.astream()
            if how == "break":
                async for _ in stream:
                    break
            else:
                await anext(stream)
            if how == "cancelled":
                begun = asyncio.Event()

                async def rest() -> None:
                    begun.set()
                    async for _ in stream:
                        await asyncio.Event().wait()

                task = asyncio.create_task(rest())
                await begun.wait()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            if how == "close":
                await stream.aclose()  # type: ignore[attr-defined]

        self.run(leave)

    def complete_in(self, members: list[str]) -> None:
        async def one(member: str) -> None:
            async with asyncio.timeout(LIMIT):
                with self.cnk.billing(customer_id="cus_123", key="chat_credit", member=member):
                    await self.acomplete()

        async def all_of_them() -> None:
            await asyncio.gather(*map(one, members))

        self.run(all_of_them)


class OpenAISync(SyncAdapter):
    package = "openai"
    forged = OPENAI_FORGED

    def __init__(self, url: str, cnk: ClockNext, on_abort: AbortPolicy = "partial") -> None:
        super().__init__(url, cnk)
        openai = self.imported()
        from clocknext_transports.integrations.openai import metered

        self.plain: Callable[[], Any] = lambda: openai.OpenAI(api_key="sk-test", base_url=f"{url}/v1")
        self.client: Any = metered(self.plain(), cnk, on_abort=on_abort)

    def complete(self, **more: Any) -> str:
        answer = self.client.chat.completions.create(model=self.model, messages=MESSAGES, **more)
        return str(answer.choices[0].message.content)

    def stream(self) -> Any:
        stream = self.client.chat.completions.create(model=self.model, messages=MESSAGES, stream=True)
        return Texts(stream, lambda chunk: chunk.choices[0].delta.content)


class OpenAIAsync(AsyncAdapter):
    package = "openai"
    forged = OPENAI_FORGED

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        openai = self.imported()
        from clocknext_transports.integrations.openai import metered

        self.plain: Callable[[], Any] = lambda: openai.AsyncOpenAI(api_key="sk-test", base_url=f"{url}/v1")
        self.make: Callable[[], Any] = lambda: metered(self.plain(), cnk)
        self.client: Any = self.make()

    async def aclose(self) -> None:
        await self.client.close()
        self.client = self.make()

    async def acomplete(self, **more: Any) -> str:
        answer = await self.client.chat.completions.create(model=self.model, messages=MESSAGES, **more)
        return str(answer.choices[0].message.content)

    async def astream(self) -> AsyncIterator[str]:
        create = self.client.chat.completions.create
        async with await create(model=self.model, messages=MESSAGES, stream=True) as stream:
            async for chunk in stream:
                yield chunk.choices[0].delta.content or ""


class OpenAIResponses(OpenAISync):
    """OpenAI's Responses, whose events have another shape."""

    prefix = "resp_"

    def complete(self, **more: Any) -> str:
        return str(self.client.responses.create(model=self.model, input="Hello?", **more).output_text)

    def stream(self) -> Any:
        stream = self.client.responses.create(model=self.model, input="Hello?", stream=True)
        return Texts(stream, lambda event: event.delta if event.type == "response.output_text.delta" else "")


class AnthropicSync(SyncAdapter):
    package = "anthropic"
    model = ANTHROPIC_MODEL
    prefix = "msg_"
    forged: ClassVar[dict[str, Any]] = {
        "metadata": {"user_id": "cus_456"},
        "extra_headers": FORGED_HEADERS,
        "extra_body": {"customer_id": "cus_456"},
    }

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        anthropic = self.imported()
        from clocknext_transports.integrations.anthropic import metered

        self.plain: Callable[[], Any] = lambda: anthropic.Anthropic(api_key="sk-test", base_url=url)
        self.client: Any = metered(self.plain(), cnk)
        self.call = {"model": self.model, "messages": MESSAGES, "max_tokens": 100}

    def complete(self, **more: Any) -> str:
        return str(self.client.messages.create(**self.call, **more).content[0].text)

    def stream(self) -> Any:
        return Texts(self.client.messages.create(**self.call, stream=True), _text_of_event)


class AnthropicAsync(AsyncAdapter):
    package = "anthropic"
    model = ANTHROPIC_MODEL
    prefix = "msg_"
    forged: ClassVar[dict[str, Any]] = {
        "metadata": {"user_id": "cus_456"},
        "extra_headers": FORGED_HEADERS,
        "extra_body": {"customer_id": "cus_456"},
    }

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        anthropic = self.imported()
        from clocknext_transports.integrations.anthropic import metered

        self.plain: Callable[[], Any] = lambda: anthropic.AsyncAnthropic(api_key="sk-test", base_url=url)
        self.make: Callable[[], Any] = lambda: metered(self.plain(), cnk)
        self.client: Any = self.make()
        self.call = {"model": self.model, "messages": MESSAGES, "max_tokens": 100}

    async def aclose(self) -> None:
        await self.client.close()
        self.client = self.make()

    async def acomplete(self, **more: Any) -> str:
        return str((await self.client.messages.create(**self.call, **more)).content[0].text)

    async def astream(self) -> AsyncIterator[str]:
        async with await self.client.messages.create(**self.call, stream=True) as stream:
            async for event in stream:
                yield str(_text_of_event(event))


class LiteLLM(Adapter):
    """What both worlds of LiteLLM share: it calls back later, in a thread or a task of its own."""

    package = "litellm"
    forged = OPENAI_FORGED

    def prepare(self) -> dict[str, Any]:
        self.litellm = self.imported()
        from clocknext_transports.integrations.litellm import ClockNextLogger

        ended = self._ended = Semaphore(0)

        class Logger(ClockNextLogger):
            def log_success_event(self, *args: Any, **kwargs: Any) -> None:
                super().log_success_event(*args, **kwargs)
                ended.release()

        self.litellm.logging_callback_manager._reset_all_callbacks()
        self.litellm.callbacks = [Logger(self.cnk)]
        model, key = f"openai/{self.model}", "sk-test"
        return {"model": model, "messages": MESSAGES, "api_base": f"{self.url}/v1", "api_key": key}

    def settle(self, calls: int) -> None:
        for _ in range(calls):
            assert self._ended.acquire(timeout=LIMIT)


class LiteLLMSync(LiteLLM, SyncAdapter):
    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        self.call = self.prepare()

    def complete(self, **more: Any) -> str:
        answer = self.litellm.completion(**self.call, num_retries=2, **more)
        return str(answer.choices[0].message.content)

    def stream(self) -> Any:
        return Texts(self.litellm.completion(**self.call, **ASKED), _text_of_chunk)


class LiteLLMAsync(LiteLLM, AsyncAdapter):
    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        self.call = self.prepare()

    async def acomplete(self, **more: Any) -> str:
        answer = await self.litellm.acompletion(**self.call, num_retries=2, **more)
        await asyncio.to_thread(self.settle, 1)
        self._ended.release()
        return str(answer.choices[0].message.content)

    async def astream(self) -> AsyncIterator[str]:
        async for chunk in await self.litellm.acompletion(**self.call, **ASKED):
            yield str(_text_of_chunk(chunk) or "")
        await asyncio.to_thread(self.settle, 1)
        self._ended.release()


class LangChain(Adapter):
    """What both worlds of LangChain share."""

    package = "langchain_openai"
    forged: ClassVar[dict[str, Any]] = {
        "user": "cus_456",
        "extra_headers": FORGED_HEADERS,
        "config": {"metadata": FORGED, "tags": ["cus_456"], "configurable": FORGED},
    }

    def __init__(self, url: str, cnk: ClockNext) -> None:
        super().__init__(url, cnk)
        langchain_openai = self.imported()
        openai = pytest.importorskip("openai")
        from clocknext_transports.integrations.langchain import ClockNextCallbackHandler

        self.handler = ClockNextCallbackHandler(cnk)
        self.make: Callable[[], Any] = lambda: langchain_openai.ChatOpenAI(
            model=self.model,
            api_key="sk-test",
            base_url=f"{url}/v1",
            callbacks=[self.handler],
            stream_usage=True,
            stream_chunk_timeout=None,  # in Python 3.11 its wait_for swallows cancellations
            http_async_client=openai.DefaultAsyncHttpxClient(),  # else all of them share one, over loops
        )
        self.chat: Any = self.make()


class LangChainSync(LangChain, SyncAdapter):
    def complete(self, **more: Any) -> str:
        return str(self.chat.invoke("Hello?", **more).content)

    def stream(self) -> Any:
        return Texts(self.chat.stream("Hello?"), lambda chunk: chunk.content)


class LangChainAsync(LangChain, AsyncAdapter):
    async def aclose(self) -> None:
        await self.chat.root_async_client.close()
        self.chat = self.make()

    async def acomplete(self, **more: Any) -> str:
        return str((await self.chat.ainvoke("Hello?", **more)).content)

    async def astream(self) -> AsyncIterator[str]:
        async with aclosing(self.chat.astream("Hello?")) as stream:
            async for chunk in stream:
                yield str(chunk.content)


class Texts:
    """The pieces of text of a stream, which is left as this is left."""

    def __init__(self, stream: Any, text_of: Callable[[Any], object]) -> None:
        self.whole = stream
        self._chunks = iter(stream)
        self._text_of = text_of

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return str(self._text_of(next(self._chunks)) or "")

    def close(self) -> None:
        self.whole.close()


def _text_of_chunk(chunk: Any) -> object:
    return chunk.choices[0].delta.content if chunk.choices else ""


def _text_of_event(event: Any) -> object:
    return getattr(event.delta, "text", "") if event.type == "content_block_delta" else ""


Made: TypeAlias = Callable[[str, ClockNext], Adapter]
ADAPTERS: dict[str, type[Adapter]] = {
    "openai": OpenAISync,
    "openai-asyncio": OpenAIAsync,
    "openai-responses": OpenAIResponses,
    "anthropic": AnthropicSync,
    "anthropic-asyncio": AnthropicAsync,
    "litellm": LiteLLMSync,
    "litellm-asyncio": LiteLLMAsync,
    "langchain": LangChainSync,
    "langchain-asyncio": LangChainAsync,
}
