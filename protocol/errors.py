"""Every error this project expects, in one tree.

    SpotError                    anything expected to go wrong; the text says what to do next
    ├── Malformed                bytes that are not what they claim to be (wrong form, not a group element)
    ├── NotMine                  well formed, but meant for another key, group or epoch
    ├── Refused                  well formed and meant for here, but a check of the protocol failed
    │   └── CodeRefused          a report code or an invitation that cannot be used (unknown, used, expired)
    ├── QuotaRefused             a submission is refused for its ticket, whatever contact it is about
    ├── KeyChanged               an authority's chain does not start or continue as it did before
    ├── Unreachable              the other side does not answer now; trying again later is right
    │   └── TooMany              it answers nothing more for the moment: too many ask
    ├── Misuse                   what the person asked for cannot be done as asked
    │   ├── NotJoined            there is no credential in this data folder yet
    │   ├── Busy                 something else holds what is needed (a second `spot run`)
    │   └── Moved                the agent of this device goes on on another one
    ├── StorageError             the store cannot be read or written (disk full, key lost, corrupt)
    └── RadioUnavailable         no radio, or it is off or forbidden

Each class has a `slug`, which names it over HTTP (RFC 9457) and in `--json`, and an `exit_code` for the command line.
"""

from __future__ import annotations


class SpotError(Exception):
    """Anything expected to go wrong; the text says what to do next and holds no secret."""

    slug = "error"
    exit_code = 1
    status = 500

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Malformed(SpotError):
    """Bytes that are not what they claim to be."""

    slug = "malformed"
    exit_code = 10
    status = 400


class NotMine(SpotError):
    """Well formed, but meant for another key, group or epoch."""

    slug = "not-mine"
    exit_code = 11
    status = 409


class Refused(SpotError):
    """Well formed and meant for here, but a check of the protocol failed."""

    slug = "refused"
    exit_code = 12
    status = 403


class CodeRefused(Refused):
    """A report code or an invitation that cannot be used."""

    slug = "code-refused"
    exit_code = 13


class QuotaRefused(SpotError):
    """A submission is refused for its ticket, whatever contact it is about: another ticket is right."""

    slug = "quota"
    exit_code = 15
    status = 409


class KeyChanged(SpotError):
    """An authority's chain does not start or continue as it did before."""

    slug = "key-changed"
    exit_code = 14
    status = 502


class Unreachable(SpotError):
    """The other side does not answer now; trying again later is right.

    after: seconds to wait at least, where it said so; else 0.
    """

    slug = "unreachable"
    exit_code = 20
    status = 503

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class TooMany(Unreachable):
    """The other side answers nothing more for the moment: too many ask."""

    slug = "too-many"
    exit_code = 21
    status = 429


class Misuse(SpotError):
    """What the person asked for cannot be done as asked."""

    slug = "misuse"
    exit_code = 2
    status = 400


class NotJoined(Misuse):
    """There is no credential in this data folder yet."""

    slug = "not-joined"
    exit_code = 30


class Busy(Misuse):
    """Something else holds what is needed."""

    slug = "busy"
    exit_code = 31
    status = 409


class Moved(Misuse):
    """The agent of this device goes on on another one."""

    slug = "moved"
    exit_code = 34
    status = 409


class StorageError(SpotError):
    """The store cannot be read or written."""

    slug = "storage"
    exit_code = 32
    status = 507


class RadioUnavailable(SpotError):
    """No radio, or it is off or forbidden."""

    slug = "radio"
    exit_code = 33


def error_named(slug: str) -> type[SpotError]:
    """The class of this slug; SpotError where it is unknown."""
    pending: list[type[SpotError]] = [SpotError]
    while pending:
        kind = pending.pop()
        if kind.slug == slug:
            return kind
        pending.extend(kind.__subclasses__())
    return SpotError
