"""A gateway that answers every question about a payment after a while: ``python -m benchmarks.slow_gateway MILLISECONDS``.

Prints the port that it listens on. It speaks just enough HTTP for keep-alive GETs without a body.
"""

import asyncio
import json
import sys

ANSWER = {
    "type": "invoice", "amount": 25, "currency": "USDT", "status": "waiting", "mixed_payment": False, "fee_paid_by_payer": 0,
    "under_paid_coverage": 0, "lifetime": 60, "callback_url": "https://shop.example/callbacks/", "return_url": "", "email": "",
    "description": "Order 1", "thanks_message": "", "expired_at": 4102444800, "date": 1760000000, "txs": [],
}  # fmt: skip


async def main(latency):
    async def serve(reader, writer):
        while request := await _read(reader):
            track_id = request.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            await asyncio.sleep(latency)
            data = ANSWER | {"track_id": track_id, "order_id": track_id.rjust(26, "R")}
            body = json.dumps({"data": data, "message": "", "error": {}, "status": 200, "version": "1.0.0"}).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def _read(reader):
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) / 1000))
