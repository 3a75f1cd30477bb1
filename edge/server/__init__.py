"""An OpenAI-compatible HTTP server over one scheduler.

    bytes ──▶ body ──▶ schema ──▶ prepare ──▶ Scheduler
                                                  │ events
    socket ◀── reply ◀── sse/… ◀── answer ◀── mailbox

`process` is the life of the process: socket, loading, signals, end. `app` is the
table of routes. Nothing here knows how tokens are computed.
"""

__all__: list[str] = []
