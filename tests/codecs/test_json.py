import pyarrow as pa
import pytest

from penstock.codecs.json import Json
from penstock.errors import PermanentError


def decode(*payloads: bytes) -> list[dict[str, object]]:
    return Json().decode(pa.array(payloads, pa.binary())).to_pylist()


def test_a_payload_is_an_object_an_array_of_them_or_lines() -> None:
    assert decode(b'{"a": 1}', b'[{"a": 2}, {"a": 3}]', b'{"a": 4}\n\n{"a": 5}\r\n') == [{"a": n} for n in range(1, 6)]


def test_not_json_is_refused_with_an_excerpt() -> None:
    with pytest.raises(PermanentError, match=r'"a": '):
        decode(b'{"a": ')
