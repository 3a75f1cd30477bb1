"""From a fresh clone to a running chat: `python3 -m edge.bootstrap`, called by `make`.

    Python ──▶ .venv ──▶ llama.cpp's wheel ──▶ install ──▶ default model ──▶ chat
                          (built once for this CPU, kept in the user's cache)

It runs before anything is installed, so it uses the standard library alone.
"""

__all__: list[str] = []
