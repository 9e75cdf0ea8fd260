"""Django by WSGI and ASGI, in one file: sync and async views, streams."""

# The frameworks are not among our packages:
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false

import django
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from noted import HELD, note

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
    INSTALLED_APPS=["clocknext_transports.integrations.django"],
    MIDDLEWARE=["clocknext_transports.integrations.django.BillingMiddleware"],
    CLOCKNEXT={
        "client": {
            **HELD,
            "on_unbilled": lambda unbilled: print("unbilled", unbilled.reason, flush=True),
        },
        "customer": "app_django.customer_of",
        "billing": {"key": "chat_credit"},
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

from clocknext import AsyncClockNext, BatchPolicy  # noqa: E402
from clocknext_transports.integrations.asgi import ClockNextMiddleware  # noqa: E402
from clocknext_transports.integrations.django import client  # noqa: E402

acnk = AsyncClockNext(**HELD)
eager = AsyncClockNext(batch=BatchPolicy(max_size=5))
USAGE = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}


def customer_of(request):
    """Return the customer of a request; a real application looks at its user."""
    return request.GET.get("as")


def sync(request, key):
    """Record by threads."""
    client().signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return HttpResponse(key)


async def asynchronous(request, key):
    """Record in a loop; under WSGI it is this request's own, and ends before anything is sent."""
    await acnk.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return HttpResponse(key)


async def at_once(request, key):
    """Record in a loop, which may end while something is sent."""
    await eager.signals.wallet(customer_id="cus_123", model="gpt-4o", idempotency_key=key)
    note(key)
    return HttpResponse(key)


def answer(number):
    """Have a model answer."""
    answered = {"id": f"chatcmpl-77aa88bb{number}", "object": "chat.completion", "model": "gpt-4o"}
    client().start_call().answered({**answered, "usage": USAGE})


def called(request, number):
    """Call a model."""
    answer(number)
    return HttpResponse("ok")


async def async_called(request, number):
    """Call a model in a coroutine."""
    answer(number)
    return HttpResponse("ok")


def streamed(request, number):
    """Call a model while the response is sent."""

    def body():
        yield "a"
        answer(number)
        yield "b"

    return StreamingHttpResponse(body())


async def async_streamed(request, number):
    """Call a model while the response is sent, in a coroutine."""

    async def body():
        yield "a"
        answer(number)
        yield "b"

    return StreamingHttpResponse(body())


urlpatterns = [
    path("sync/<key>", sync),
    path("async/<key>", asynchronous),
    path("eager/<key>", at_once),
    path("called/<number>", called),
    path("async-called/<number>", async_called),
    path("streamed/<number>", streamed),
    path("async-streamed/<number>", async_streamed),
]
wsgi = get_wsgi_application()
plain = get_asgi_application()
asgi = ClockNextMiddleware(ClockNextMiddleware(plain, client()), acnk)
asgi = ClockNextMiddleware(asgi, eager)
