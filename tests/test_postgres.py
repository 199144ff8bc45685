"""The PostgreSQL that tests and benches run keeps what was committed, whatever becomes of its processes."""

from __future__ import annotations

import asyncpg
import pytest

from scripts import postgres


async def test_what_was_committed_outlives_a_restart_and_a_kill() -> None:
    with postgres.running() as cluster:
        url = cluster.fresh()
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept (it integer)")
        await connection.close()
        for end in (cluster.stop, cluster.kill):
            end()
            with pytest.raises(OSError, match="Errno"):
                await asyncpg.connect(url)
            cluster.start()
            connection = await asyncpg.connect(cluster.over_tcp(url))
            assert await connection.fetch("SELECT it FROM kept") == []
            await connection.close()
    assert not cluster.folder.exists()


def test_missing_programs_are_said_plainly() -> None:
    with pytest.raises(postgres.PostgresError, match="apt-get install postgresql"):
        postgres.program("no-such-program")
