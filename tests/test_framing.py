import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PermanentError
from penstock.framing import Framing, join, split

LINE = st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))


def taken(framing: Framing, data: bytes, **options: bool) -> tuple[list[bytes], int]:
    payloads, consumed = split(framing, data, **{"final": False, **options})
    payloads.validate(full=True)
    return payloads.to_pylist(), consumed


def test_a_half_line_is_left_until_it_is_whole() -> None:
    assert taken(Framing.LINES, b"one\r\ntwo\nthr") == ([b"one", b"two"], 9)
    assert taken(Framing.LINES, b"thr") == ([], 0)
    assert taken(Framing.LINES, b"thr", final=True) == ([b"thr"], 3)
    assert taken(Framing.LINES, b"") == ([], 0)
    assert taken(Framing.LINES, b"", final=True) == ([], 0)


def test_blank_lines_are_no_payloads() -> None:
    assert taken(Framing.LINES, b"\n\r\none\n\n\r\ntwo\n\n") == ([b"one", b"two"], 15)
    assert taken(Framing.LINES, b"\n\n") == ([], 2)


def test_kept_ends_are_a_view_of_the_data() -> None:
    data = pa.py_buffer(b"one\r\n\ntwo\nthr")
    payloads, consumed = split(Framing.LINES, data, final=False, keep_ends=True)
    assert (payloads.to_pylist(), consumed) == ([b"one\r\n", b"\n", b"two\n"], 10)
    assert payloads.buffers()[2].address == data.address
    assert join(Framing.LINES, payloads).address == data.address
    assert join(Framing.LINES, payloads[1:]).to_pybytes() == b"\ntwo\n"


@given(st.lists(LINE), st.booleans(), st.booleans())
def test_lines_are_those_of_python(lines: list[bytes], dos: bool, ended: bool) -> None:
    end = b"\r\n" if dos else b"\n"
    data = end.join(lines) + end * ended
    assert taken(Framing.LINES, data, final=True) == ([line for line in lines if line], len(data))
    kept, consumed = taken(Framing.LINES, data, final=True, keep_ends=True)
    assert (b"".join(kept), consumed) == (data, len(data))


@pytest.mark.parametrize("framing", [Framing.LINES, Framing.LENGTH_DELIMITED])
@given(payloads=st.lists(LINE.filter(bool)), cut=st.integers(0, 40))
def test_split_undoes_join_however_the_stream_is_cut(framing: Framing, payloads: list[bytes], cut: int) -> None:
    data = join(framing, pa.array(payloads, pa.binary())).to_pybytes()
    first, consumed = taken(framing, data[:cut])
    rest, more = taken(framing, data[consumed:], final=True)
    assert first + rest == payloads
    assert consumed + more == len(data)


def test_joining_ends_only_the_lines_that_lack_an_end() -> None:
    payloads = pa.array([b"x", b"one\n", None, b"two", b""], pa.binary())
    assert join(Framing.LINES, payloads[1:]).to_pybytes() == b"one\ntwo\n\n"
    assert join(Framing.WHOLE, payloads[1:]).to_pybytes() == b"one\ntwo"
    assert join(Framing.LENGTH_DELIMITED, payloads[3:]).to_pybytes() == b"\0\0\0\3two\0\0\0\0"
    for framing in Framing:
        assert join(framing, pa.array([], pa.binary())).to_pybytes() == b""


def test_whole_waits_for_the_end() -> None:
    assert taken(Framing.WHOLE, b"one\ntwo") == ([], 0)
    assert taken(Framing.WHOLE, b"one\ntwo", final=True) == ([b"one\ntwo"], 7)
    assert taken(Framing.WHOLE, b"", final=True) == ([], 0)


def test_frames_beyond_the_limit_and_unfinished_ones_are_refused() -> None:
    with pytest.raises(PermanentError, match="4294967295 bytes long: expected at most 10"):
        split(Framing.LENGTH_DELIMITED, b"\xff\xff\xff\xffab", final=False, most_bytes=10)
    with pytest.raises(PermanentError, match="last 6 bytes"):
        split(Framing.LENGTH_DELIMITED, b"\0\0\0\1x\0\0\0\3ab", final=True)
    assert taken(Framing.LENGTH_DELIMITED, b"\0\0\0\1x\0\0") == ([b"x"], 5)
