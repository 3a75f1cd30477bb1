"""A server that is not ours may send anything; what it sends does not fill a board's memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

__all__ = ["BoundedTransport"]

_MAX_LINE = 1 << 20
"""Bytes without a line end: an event of a stream, or a body that is no stream."""


class BoundedTransport(httpx.AsyncHTTPTransport):
    """HTTP whose responses are plain and have lines of up to 1 MiB.

    Raises:
        httpx.DecodingError: a response is compressed, or has a longer line.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the bounds hold while the response is read."""
        response = await super().handle_async_request(request)
        if "content-encoding" in response.headers:  # we ask for none; a few bytes may hide GBs
            await response.aclose()
            raise httpx.DecodingError("compressed", request=request)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Bounded(response, request),
            extensions=response.extensions,
        )


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for data in self._response.aiter_raw():
            end = data.rfind(b"\n")
            length = length + len(data) if end < 0 else len(data) - end - 1
            if length > _MAX_LINE:
                raise httpx.DecodingError("a line without end", request=self._request)
            yield data

    async def aclose(self) -> None:
        await self._response.aclose()
