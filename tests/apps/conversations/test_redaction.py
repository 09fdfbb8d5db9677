"""Secrets are taken out of lines, and lines stay lines."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.application import Installation
from penstock.apps.conversations.application import Conversations
from penstock.apps.conversations.lines import parse
from penstock.apps.conversations.redaction import Redact, Redaction
from penstock.metadata import VALUE

SECRETS = {
    "anthropic-key": "sk-ant-" + "api03-aaaaBBBBccccDDDDeeee",
    "github-token": "ghp_" + "a1B2" * 10,
    "aws-key": "AKIA" + "ABCDEFGH12345678",
    "slack-token": "xoxb-" + "1234567890-abcdef",
    "json-web-token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl",
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "password": "DB_PASSWORD=hunter2hunter2",
    "bearer": "Authorization: Bearer abcdefghijklmnop",
    "password-in-url": "postgresql://me:hunter2@db/x",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_known_by_its_form_wherever_it_stands(name: str) -> None:
    secret = SECRETS[name]
    kept = secret.split()[-1].split("=")[-1] if name != "password-in-url" else "hunter2"
    for found in ({"text": f"it is {secret} ."}, {"deep": [{"er": [f"{secret}"]}]}, {f"{secret}": 1}):
        for line in (json.dumps(found).encode(), b"cut " + secret.encode()):
            cleaned = Redaction().clean_line(line)
            assert f"[redacted:{name}]".encode() in cleaned
            assert kept.encode() not in cleaned


def test_what_only_looks_like_one_stays_byte_for_byte() -> None:
    line = b'{ "text":"token = next(tokens); password: str; sk-learn; https://a.b/c:d@e", "n": 1.50 }'
    assert Redaction().clean_line(line) == line


def test_half_of_a_character_does_not_hide_a_secret() -> None:
    line = json.dumps({"text": SECRETS["github-token"]}).encode()[:-2] + b' \\ud83d"}'
    assert b"ghp_" not in Redaction().clean_line(line)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_line_stays_json_whatever_is_taken_out_of_it(value: object) -> None:
    json.loads(Redaction(["[a-m]+", "\\d{2}"]).clean_line(json.dumps({"type": "user", "x": value}).encode()))


def test_lines_are_cleaned_before_they_reach_any_output() -> None:
    [stream] = Conversations(redact=["ACME-[0-9]+"], roots=["/nowhere"]).streams(Installation())
    [redact] = stream.pipeline.processors
    lines = [
        b'{"type":"user","message":{"content":"ACME-17 and ghp_' + b"a1B2" * 10 + b'"}}',
        b"no JSON: ACME-17",
        None,
    ]
    [cleaned] = redact.process(pa.record_batch({VALUE: pa.array(lines, pa.binary())}))
    found = cleaned.column(VALUE).to_pylist()
    assert parse(found[0]).text == "[redacted:pattern-1] and [redacted:github-token]"
    assert found[1:] == [b"no JSON: [redacted:pattern-1]", None]


@pytest.mark.parametrize("pattern", ["(", "a*"])
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="expression"):
        Redact(patterns=[pattern])
