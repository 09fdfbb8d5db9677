"""How many of the documented functions of VRL the library that runs it has, and has right."""

from __future__ import annotations

from penstock.errors import PermanentError
from penstock.processors.vrl.program import Program

from .vrl_cases import CASES

MISSING = {"basename", "dirname", "split_path", "encode_csv", "ip_version", "parse_yaml"}
"""Functions of later versions, which the library does not have: shrink it when the library grows."""


def run(expression: str) -> object:
    try:
        return Program(f".found = {expression}", "UTC").run({})["found"]
    except (PermanentError, ValueError) as error:
        return error


def test_functions_return_what_their_documentation_says() -> None:
    found = [(function, expression, run(expression), value) for function, expression, value in CASES]
    failed = [case for case in found if case[2] != case[3]]
    functions = {function for function, *_ in CASES}
    right = functions - {function for function, *_ in failed}
    print(f"VRL: {len(CASES) - len(failed)} of {len(CASES)} cases, {len(right)} of {len(functions)} functions")
    assert {function for function, *_ in failed} == MISSING, failed
