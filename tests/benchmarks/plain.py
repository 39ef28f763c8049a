"""What a Python team would write today: aiohttp, asyncpg, one row per counter.

Uvloop, a pool of 10 connections, prepared statements (asyncpg prepares and caches
each statement), one transaction per request. The rows exist before the first
request, as many as the generator has agents.
"""

from __future__ import annotations

import os

import asyncpg
import uvloop
from aiohttp import web

from tests.benchmarks.reference import serve

POOL_SIZE = 10
MANY_ROWS = 1000

CREATE = "CREATE TABLE counter (name text PRIMARY KEY, n bigint NOT NULL)"
FILL = """
    INSERT INTO counter
    SELECT $1 || i, 0 FROM generate_series(0, $2::int - 1) AS i
"""
INCREMENT = "UPDATE counter SET n = n + 1 WHERE name = $1 RETURNING n"
READ = "SELECT n FROM counter WHERE name = $1"

POOL: web.AppKey[asyncpg.Pool] = web.AppKey("pool", asyncpg.Pool)


async def prepare(dsn: str) -> None:
    """Make the table and the rows that the increment workloads will address."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(CREATE)
        await connection.execute(FILL, "http-incr-many-", MANY_ROWS)
        await connection.execute(FILL, "http-incr-one-", 1)
        await connection.execute("VACUUM ANALYZE counter")
    finally:
        await connection.close()


async def run_statement(request: web.Request, statement: str) -> web.Response:
    """Run one statement on the row that the URL names, answer its number."""
    pool = request.app[POOL]
    number = await pool.fetchval(statement, request.match_info["name"])
    if number is None:
        raise web.HTTPNotFound
    return web.Response(body=b'{"count":%d}' % number, content_type="application/json")


async def read(request: web.Request) -> web.Response:
    """Answer GET."""
    return await run_statement(request, READ)


async def increment(request: web.Request) -> web.Response:
    """Answer POST with the number after one durable increment."""
    return await run_statement(request, INCREMENT)


async def main() -> None:
    """Serve on the database of BENCH_PLAIN_DATABASE_URL."""
    dsn = os.environ["BENCH_PLAIN_DATABASE_URL"]
    app = web.Application()
    app.router.add_get("/agents/{class}/{name}", read)
    app.router.add_post("/agents/{class}/{name}", increment)
    async with asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        app[POOL] = pool
        await serve(app)


if __name__ == "__main__":
    uvloop.run(main())
