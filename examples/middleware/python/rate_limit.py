"""ASGI middleware that asks tollgate before each request."""

import asyncio
import json
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

PASSED_ON = ("retry-after", "ratelimit", "ratelimit-policy")


class RateLimit:
    """`entries` makes the descriptor of a request, a dict of strings, from the ASGI scope.

    Without an answer within `timeout` seconds, a request passes only if `fail_open`.
    """

    def __init__(self, app, url, domain, entries, timeout=0.1, fail_open=False):
        self.app, self.url, self.domain = app, urlsplit(url), domain
        self.entries, self.timeout, self.fail_open = entries, timeout, fail_open
        self.idle = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        status, headers = await self.ask(self.entries(scope))
        # An answer 4xx means that the question was wrong. It never lets a request pass.
        if status == 200 or (status >= 500 and self.fail_open):
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1013})
        status = 429 if status == 429 else 503
        fields = [(it.encode(), headers[it].encode()) for it in PASSED_ON if it in headers]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b""})

    async def ask(self, entries):
        entries = [{"key": key, "value": value} for key, value in entries.items()]
        question = json.dumps({"domain": self.domain, "descriptors": [{"entries": entries}]})
        try:
            answer = asyncio.to_thread(self.post, question)
            return await asyncio.wait_for(answer, self.timeout)
        except (OSError, HTTPException, asyncio.TimeoutError):
            return 503, {}

    def post(self, body):
        if self.idle:
            connection = self.idle.pop()
        else:
            address = self.url.hostname, self.url.port
            connection = HTTPConnection(*address, timeout=self.timeout)
        try:
            connection.request("POST", self.url.path, body)
            reply = connection.getresponse()
            reply.read()
        except BaseException:
            connection.close()
            raise
        self.idle.append(connection)
        return reply.status, reply.headers
