"""A server with the ASGI middleware: as much of ASGI as requests without a body need."""

import asyncio
import sys

host, port, url, example = sys.argv[1:]
sys.path.insert(0, example)
from rate_limit import RateLimit


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def limited(timeout, fail_open):
    def entries(scope):
        return {"user": dict(scope["headers"])[b"x-user"].decode("latin-1")}

    return RateLimit(hello, url, "shop", entries, timeout, fail_open)


apps = {
    "/patient": limited(60, True),
    "/open": limited(0.3, True),
    "/closed": limited(0.3, False),
}


async def serve(reader, writer):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return writer.close()
    headers = []
    for line in head[1:-2]:
        name, _, value = line.partition(":")
        headers.append((name.lower().encode("latin-1"), value.strip().encode("latin-1")))

    async def send(message):
        if message["type"] == "http.response.start":
            writer.write(b"HTTP/1.1 %d Status\r\nconnection: close\r\n" % message["status"])
            for name, value in message["headers"]:
                writer.write(name + b": " + value + b"\r\n")
            writer.write(b"\r\n")
        else:
            writer.write(message["body"])

    path = head[0].split(" ")[1]
    await apps[path]({"type": "http", "path": path, "headers": headers}, None, send)
    await writer.drain()
    writer.close()


async def main():
    async with await asyncio.start_server(serve, host, int(port)) as server:
        await server.serve_forever()


asyncio.run(main())
