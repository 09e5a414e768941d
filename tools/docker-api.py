#!/usr/bin/env python3
"""Lets clients that insist on a newer Docker API talk to an older engine: replaces the version in each request's path by the
engine's own. testcontainers (0.28) asks for 1.53 without looking, and uses nothing that older engines lack.

    docker-api.py VERSION [SOCKET]    VERSION such as 1.41; prints where it listens, for DOCKER_HOST; ends with its input
"""

import asyncio
import re
import sys

HEAD_BYTES_MAX = 64 * 1024


async def forward(client, version, socket):
    reader, writer = client
    head = await reader.readuntil(b"\r\n\r\n")
    head = re.sub(rb"^(\S+ )/v[0-9.]+/", rb"\1/v" + version.encode() + b"/", head, count=1)
    # One request for each connection: what follows is passed on unread.
    head = re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.IGNORECASE)
    if b"\r\nupgrade:" not in head.lower():
        head = head[:-2] + b"connection: close\r\n\r\n"
    else:
        head = head[:-2] + b"connection: upgrade\r\n\r\n"
    engine_reader, engine_writer = await asyncio.open_unix_connection(socket)
    engine_writer.write(head)
    onwards = asyncio.create_task(pipe(reader, engine_writer))
    await pipe(engine_reader, writer)
    onwards.cancel()
    engine_writer.close()
    writer.close()


async def pipe(reader, writer):
    while chunk := await reader.read(64 * 1024):
        writer.write(chunk)
        await writer.drain()


async def main(version, socket="/var/run/docker.sock"):
    async def serve(reader, writer):
        try:
            await forward((reader, writer), version, socket)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
    print("tcp://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
