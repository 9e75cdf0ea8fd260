"""A model server on loopback: it answers as OpenAI, Anthropic, Gemini and Bedrock do, with given usage.

```python
from clocknext_transports.emulator.models import Completion, model_server

with model_server() as models:
    models.script(Completion("Hello.", input_tokens=1200, cached_tokens=1000, output_tokens=340))
    ...  # OpenAI(base_url=models.url + "/v1"); Anthropic, Gemini or Bedrock at models.url
    assert models.requests[0].api == "chat"
```
"""

from clocknext_transports.emulator.models.completion import Completion, ToolCall
from clocknext_transports.emulator.models.server import ModelServer, model_server
from clocknext_transports.emulator.models.service import Api, ModelRequest, ModelService

__all__ = [
    "Api",
    "Completion",
    "ModelRequest",
    "ModelServer",
    "ModelService",
    "ToolCall",
    "model_server",
]
