"""A network between client and gateway that fails on request: whole, or for one transport."""

import asyncio
import threading

PASS = "pass"
# The answer is an error.
REFUSE = "refuse"
# The request never arrives.
HANG = "hang"
# The answer's head comes, and nothing after it.
HEAD_ONLY = "head-only"
# Besides these rules: while `is_gone`, no byte passes in either direction, and neither side is told.


class Proxy:
    def __init__(self, target_port):
        self.target_port = target_port
        # What happens to requests of each kind from now on.
        self.rules = {"websocket": PASS, "sse": PASS, "other": PASS}
        self.is_gone = False
        self.connections = 0
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        started = threading.Event()
        self._started = started
        self._thread.start()
        started.wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def cut(self):
        """Resets every connection."""
        def close():
            for writer in list(self._writers):
                writer.transport.abort()
        self._loop.call_soon_threadsafe(close)

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _end(self):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        state = {"rule": PASS}
        upstream = None
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.add(upstream)
            await asyncio.gather(
                self._requests(reader, upstream, writer, state), self._answers(upstream_reader, writer, state))
        except (OSError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for one in (writer, upstream):
                if one:
                    self._writers.discard(one)
                    one.close()

    async def _wait_for_network(self):
        while self.is_gone:
            await asyncio.sleep(0.02)

    async def _requests(self, reader, upstream, writer, state):
        while data := await reader.read(65_536):
            await self._wait_for_network()
            if data[:4] in (b"GET ", b"HEAD", b"POST", b"OPTI"):
                head = data.lower()
                kind = "other"
                if b"upgrade: websocket" in head:
                    kind = "websocket"
                elif b"accept: text/event-stream" in head:
                    kind = "sse"
                state["rule"], state["head"] = self.rules[kind], b""
                if state["rule"] == REFUSE:
                    writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    await writer.drain()
                    writer.close()
                    return upstream.close()
            if state["rule"] == HANG:
                continue
            upstream.write(data)
            await upstream.drain()
        upstream.close()

    async def _answers(self, reader, writer, state):
        while data := await reader.read(65_536):
            await self._wait_for_network()
            if state["rule"] == HANG:
                continue
            if state["rule"] == HEAD_ONLY:
                before = state["head"]
                state["head"] += data
                end = state["head"].find(b"\r\n\r\n") + 4
                if end < 4 or end > len(before):
                    data = state["head"][len(before):end if end >= 4 else None]
                else:
                    continue
            writer.write(data)
            await writer.drain()
        writer.close()
