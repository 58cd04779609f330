"""A process that takes whatever is delivered and keeps none of it: `python -m tests.bench.facebook_endpoint`.

The first line on stdout is its URL. `GET /count` tells of the requests for people that were taken so far.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

_MOST_BYTES = 64 * 1024 * 1024


class Endpoint:
    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0

    async def count(self, _: web.Request) -> web.Response:
        return web.json_response({"requests": self.requests, "bytes": self.bytes})

    async def node(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["id"]})

    async def users(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests += 1
        self.bytes += len(body)
        # How many rows arrived is not looked at, and finding out would cost what is measured.
        return web.json_response({"num_received": 0, "num_invalid_entries": 0, "invalid_entry_samples": {}})


async def main() -> None:
    endpoint = Endpoint()
    application = web.Application(client_max_size=_MOST_BYTES)
    application.router.add_get("/count", endpoint.count)
    application.router.add_get("/{version}/{id}", endpoint.node)
    application.router.add_route("*", "/{version}/{id}/users", endpoint.users)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
