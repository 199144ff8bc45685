"""Messages: there and back, strangers' bytes, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from protocol import messages
from protocol.errors import Malformed
from protocol.messages import Band, ContactRecord, Message, Nonce, ProxyGroup, Risk, Submission
from tests.support import world_of

if TYPE_CHECKING:
    from tests.support import World

KINDS = [kind for kind in Message.__subclasses__() if kind.__module__ == messages.__name__]
SAMPLES = st.deferred(lambda: st.sampled_from([messages.encode(one) for one in _samples(world_of("arkworks"))]))


def _samples(world: World) -> list[Message]:
    one = world.contacts[0]
    return [
        world.users.public,
        world.removed.request,
        world.alice.request,
        world.alice.issued,
        one.submission,
        messages.Submissions(submissions=(one.submission,)),
        one.partial,
        messages.Outcomes(outcomes=(messages.Outcome(partial=one.partial), messages.Outcome())),
        messages.Answer(record=one.record),
        one.declared,
        world.body,
        world.report,
        world.parameters,
        world.genesis,
    ]


def _encoded(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def test_messages_come_back_from_their_bytes(world: World) -> None:
    for message in _samples(world):
        assert messages.decode(type(message), messages.encode(message)) == message


@given(st.data())
@settings(max_examples=200)
def test_any_message_that_can_be_built_comes_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    message = data.draw(_built(kind))
    assert messages.decode(kind, messages.encode(message)) == message


def _built(kind: Any) -> st.SearchStrategy[Any]:
    """Messages of this kind within the bounds that its fields state."""
    return st.builds(
        kind, **{entry.name: _of(info.type) for entry, info in zip(fields(kind), _inspected(kind), strict=True)}
    )


def _inspected(kind: Any) -> tuple[msgspec.inspect.Field, ...]:
    found = msgspec.inspect.type_info(kind)
    assert isinstance(found, msgspec.inspect.StructType)
    return found.fields


def _of(info: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case msgspec.inspect.BytesType(min_length=low, max_length=high):
            return st.binary(min_size=low or 0, max_size=min(high or 200, 200))
        case msgspec.inspect.IntType(ge=low, le=high):
            return st.integers(low, high)
        case msgspec.inspect.FloatType(ge=low, gt=over, le=high):
            return st.floats(low if over is None else over, high, exclude_min=over is not None, allow_nan=False)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern)
        case msgspec.inspect.StrType(min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=high)
        case msgspec.inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            return st.lists(_of(item), min_size=low or 0, max_size=min(high or 3, 3)).map(tuple)
        case msgspec.inspect.UnionType(types=types):
            return st.one_of(*map(_of, types))
        case msgspec.inspect.StructType(cls=cls):
            return _built(cls)
    raise AssertionError(f"no strategy for {info}")


@given(st.sampled_from(KINDS), st.binary(max_size=300))
@settings(max_examples=200)
def test_arbitrary_bytes_are_malformed_or_a_message(kind: type[Message], data: bytes) -> None:
    _decode_or_malformed(kind, data)


@given(st.sampled_from(KINDS), SAMPLES, st.data())
@settings(max_examples=200)
def test_messages_with_bytes_exchanged_are_malformed_or_a_message(
    kind: type[Message], sample: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(sample)))
    end = data.draw(st.integers(start, min(len(sample), start + 9)))
    _decode_or_malformed(kind, sample[:start] + data.draw(st.binary(max_size=9)) + sample[end:])


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.sampled_from(KINDS), st.data())
@settings(max_examples=200)
def test_the_right_fields_with_anything_in_them_are_malformed_or_a_message(
    kind: type[Message], data: st.DataObject
) -> None:
    names = [entry.encode_name for entry in fields(kind)]
    keys = st.sampled_from(names) | st.text(max_size=8)
    _decode_or_malformed(kind, _encoded(data.draw(st.dictionaries(keys, _ANYTHING))))


def _decode_or_malformed(kind: type[Message], data: bytes) -> None:
    try:
        message = messages.decode(kind, data)
    except Malformed as refusal:
        error = refusal
    else:
        assert isinstance(message, kind)
        assert messages.decode(kind, messages.encode(message)) == message
        return
    assert kind.__name__ in error.text
    assert len(error.text) < 400
    assert error.text.isprintable()
    assert error.__suppress_context__


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"\x81\xa5nonce" * 100_000,
        b"\x81\xa5nonce" + b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa5nonce\xc6\xff\xff\xff\xff",
        b"\x81\xa2\xff\xfe\x01",
        b"\x81\xa5nonce\xd6\xff\x00\x00\x00\x00",
        b"\x81\x91\x01\x01",
        _encoded({"nonce": bytes(32)}) + b"\0",
        _encoded({"nonce": bytes(31)}),
        _encoded({"nonce": bytes(33)}),
        _encoded({"nonce": "0" * 32}),
        _encoded({"nonce": None}),
        _encoded({}),
        _encoded([bytes(32)]),
        _encoded({"nonce": bytes(32), "more": 1}),
    ],
    ids=range(18),
)
def test_hostile_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="this is not a Nonce"):
        messages.decode(Nonce, data)


def test_the_error_names_the_field(world: World) -> None:
    raw = msgspec.msgpack.decode(messages.encode(world.contacts[0].submission))
    raw["show"]["answer"] = b"\0"
    with pytest.raises(Malformed, match=r"\$\.show\.answer"):
        messages.decode(Submission, _encoded(raw))


@pytest.mark.parametrize("name", ["\x1b[2J\r\nall is well", "x" * 100_000, "\u202egnihtyna"])
def test_what_a_stranger_wrote_does_not_reach_logs_and_terminals(name: str) -> None:
    with pytest.raises(Malformed, match="unknown field") as refusal:
        messages.decode(Nonce, _encoded({name: 1}))
    assert refusal.value.text.isprintable()
    assert len(refusal.value.text) < 400


@pytest.mark.parametrize("name", ["north\n", "\nnorth", "North", "", "-north", "n" * 33, "nörth"])
def test_a_group_has_a_plain_name(world: World, name: str) -> None:
    raw = msgspec.msgpack.decode(messages.encode(world.contacts[0].record))
    raw["group"] = name
    with pytest.raises(Malformed, match=r"\$\.group"):
        messages.decode(ContactRecord, _encoded(raw))


@pytest.mark.parametrize(
    "url", ["https://a.example\n", "ftp://a.example", "https://a.example/\x1b[2J", "https://", "https://a b"]
)
def test_a_proxy_has_a_plain_address(world: World, url: str) -> None:
    raw = msgspec.msgpack.decode(messages.encode(world.parameters.groups[0]))
    raw["proxies"] = [url]
    with pytest.raises(Malformed, match=r"\$\.proxies"):
        messages.decode(ProxyGroup, _encoded(raw))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
def test_a_weight_is_a_number(world: World, weight: float) -> None:
    risk = msgspec.msgpack.decode(messages.encode(world.parameters.risk))
    with pytest.raises(Malformed, match=r"\$\.weight"):
        messages.decode(Band, _encoded({"below": 1.0, "weight": weight}))
    with pytest.raises(Malformed, match=r"\$\.infectiousness"):
        messages.decode(Risk, _encoded({**risk, "infectiousness": [weight]}))
    with pytest.raises(Malformed, match=r"\$\.warn_at"):
        messages.decode(Risk, _encoded({**risk, "warn_at": weight}))


def test_messages_print_nothing_of_what_they_hold(world: World) -> None:
    for message in _samples(world):
        assert repr(message) == str(message) == f"<{type(message).__name__}>"


def test_an_answer_fits_its_size(world: World) -> None:
    record = msgspec.structs.replace(world.contacts[0].record, group="n" * 32, day=10**6)
    padded = messages.pad(messages.encode(messages.Answer(record=record)), messages.ANSWER_SIZE)
    assert (
        len(padded)
        == messages.ANSWER_SIZE
        == len(messages.pad(messages.encode(messages.Answer()), messages.ANSWER_SIZE))
    )


# --- padding ---


@given(st.binary(max_size=200), st.integers(0, 200))
def test_padding_comes_off_again(data: bytes, more: int) -> None:
    padded = messages.pad(data, len(data) + 4 + more)
    assert len(padded) == len(data) + 4 + more
    assert messages.unpad(padded) == data


@given(st.binary(max_size=50))
def test_any_padding_is_right_or_malformed(padded: bytes) -> None:
    try:
        data = messages.unpad(padded)
    except Malformed:
        return
    assert messages.pad(data, len(padded)) == padded


@given(st.binary(max_size=50), st.integers(1, 50), st.data())
def test_padding_that_holds_anything_is_malformed(data: bytes, more: int, drawn: st.DataObject) -> None:
    padded = bytearray(messages.pad(data, len(data) + 4 + more))
    padded[drawn.draw(st.integers(len(data) + 4, len(padded) - 1))] = drawn.draw(st.integers(1, 255))
    with pytest.raises(Malformed, match="padding"):
        messages.unpad(bytes(padded))


@pytest.mark.parametrize("padded", [b"", b"\0", b"\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff"])
def test_padding_that_was_cut_is_malformed(padded: bytes) -> None:
    with pytest.raises(Malformed, match="padding"):
        messages.unpad(padded)


def test_what_does_not_fit_is_not_padded() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        messages.pad(bytes(10), 13)
