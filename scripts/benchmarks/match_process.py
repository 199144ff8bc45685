"""One side of scripts/bench match, in a process of its own: `match_process agent|floor LINKS STORE`."""

from __future__ import annotations

import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

from agent.lookup import Lookup
from agent.store import open_store
from protocol import chain, messages, publication
from protocol.encounter import TOKEN_SIZE, token_of
from scripts.benchmarks.match import KEY, read_links


def megabytes() -> float:
    """The most memory that this process ever had, 2^20 bytes. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def as_agent(links: Path, store_folder: Path) -> dict[str, Any]:
    """What the agent does with each link that it has downloaded. Processor seconds."""
    store = open_store(store_folder, "file")
    keys = [messages.PublicationKey(first=0, key=(links / KEY).read_bytes())]
    before = megabytes()
    begun = time.process_time()
    lookup = Lookup(store)
    own = time.process_time() - begun
    head, found, size, look, count = chain.EMPTY, 0, 0, 0.0, 0
    begun = time.process_time()
    for length, link in read_links(links):
        head, batch = publication.follow(head, keys, link)
        start = time.process_time()
        found += len(lookup.find(batch))
        look += time.process_time() - start
        size += length
        count += 1
    check = time.process_time() - begun - look
    store.close()
    return {
        "own": own,
        "look": look,
        "check": check,
        "found": found,
        "links": count,
        "bytes": size,
        "megabytes": megabytes() - before,
    }


def as_floor(links: Path, store_folder: Path) -> dict[str, Any]:
    """Each published token looked up once, as fast as Python can."""
    store = open_store(store_folder, "file")
    own = {token_of(one.secret, 1 - one.role) for one in store.undeclared()}
    store.close()
    before = megabytes()
    begun, found = time.process_time(), 0
    for _, link in read_links(links):
        for day in messages.decode(messages.Publication, link.body).days:
            found += len(own.intersection(token for (token,) in struct.iter_unpack(f"{TOKEN_SIZE}s", day.tokens)))
    return {"seconds": time.process_time() - begun, "found": found, "megabytes": megabytes() - before}


if __name__ == "__main__":
    side = {"agent": as_agent, "floor": as_floor}[sys.argv[1]]
    print(json.dumps(side(Path(sys.argv[2]), Path(sys.argv[3]))))
