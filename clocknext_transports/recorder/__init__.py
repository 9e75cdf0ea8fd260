"""Traces: the inputs and outputs of a client's machines, to be replayed exactly, anywhere.

```
python -m clocknext_transports.recorder record trace.jsonl app.py --its --arguments
python -m clocknext_transports.recorder replay trace.jsonl
```

All that a client decides, its core decides, and the core knows only its inputs, the time and the random
numbers it draws. So a trace holds only these: a line of JSON for each input with its output. A replay feeds
the same inputs to a core of today and compares the lines. Nothing is recorded unless it is asked for. If the
recording fails, only the recording ends.

The API key is in no trace, nor is any request header, nor any response header but the few that the core
reads. Bodies are in it as they were sent and received: a replay needs them.
"""

from clocknext_transports.recorder.replaying import Difference, NotATraceError, Replay, replay
from clocknext_transports.recorder.writing import (
    FORMAT,
    MAX_BYTES,
    Recorder,
    RecordingEngine,
    TraceFile,
    recording,
)

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "Difference",
    "NotATraceError",
    "Recorder",
    "RecordingEngine",
    "Replay",
    "TraceFile",
    "recording",
    "replay",
]
