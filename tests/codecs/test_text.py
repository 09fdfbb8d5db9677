import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.codecs.text import Text
from penstock.component import Codec
from penstock.errors import PermanentError
from penstock.testing.suites.codecs import CodecSuite


class TestSuite(CodecSuite):
    garbage = (b"\xff", b"ok\xc3")
    types = ()

    @pytest.fixture
    def component(self) -> Codec:
        return Text()

    def sample(self, start: int, rows: int) -> pa.RecordBatch:
        return pa.record_batch({"text": pa.array([f"line {n}" for n in range(start, start + rows)], pa.string())})

    def test_what_is_encoded_is_decoded_again(self, component: Codec) -> None:
        batch = self.sample(0, 9)
        assert component.decode(component.encode(batch)) == batch

    def test_a_decoder_agrees_with_decode(self, component: Codec) -> None:
        payloads = self.payloads(component, 0, 9)
        assert component.decoder()(payloads) == component.decode(payloads)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1)))
def test_text_survives_in_every_encoding_that_has_it(texts: list[str]) -> None:
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    for encoding in ("utf-8", "UTF8", "utf-16-le"):
        codec = Text(encoding=encoding)
        assert codec.decode(codec.encode(batch)) == batch


def test_line_ends_are_cut_off_and_blank_lines_are_no_rows() -> None:
    payloads = pa.array([b"one\r\n", b"\n", b" two\n", b"\r\n", b"three\nfour\n", b"five"], pa.binary())
    assert Text(column="line").decode(payloads).column("line").to_pylist() == ["one", " two", "three\nfour", "five"]


def test_only_the_text_column_is_written() -> None:
    batch = pa.record_batch({"text": ["a", None], "n": [1, 2]})
    assert Text().encode(batch).to_pylist() == [b"a", b""]
    assert Text(column="n").encode(batch).to_pylist() == [b"1", b"2"]
    with pytest.raises(PermanentError, match="no column `line`: the batch has text, n"):
        Text(column="line").encode(batch)
    with pytest.raises(PermanentError, match="`text` cannot be written as latin-1"):
        Text(encoding="latin-1").encode(pa.record_batch({"text": ["€"]}))
    with pytest.raises(PermanentError, match="is not text"):
        Text().encode(pa.record_batch({"text": [[1]]}))


def test_what_is_not_in_the_encoding_is_refused() -> None:
    with pytest.raises(PermanentError, match="the payload is not ascii: caf"):
        Text(encoding="ascii").decode(pa.array(["café".encode()], pa.binary()))
    for encoding in ("nonsense", "base64"):
        with pytest.raises(ValidationError, match="no text encoding is called"):
            Text(encoding=encoding)
