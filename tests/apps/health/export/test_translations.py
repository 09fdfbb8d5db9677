"""Codes of the texts that the app translates."""

from __future__ import annotations

import pytest

from penstock.apps.health.export.translations import TABLES, code


@pytest.mark.parametrize(
    ("table", "text", "expected"),
    [
        ("severity", "Mild", "mild"),
        ("severity", "  LEVE ", "mild"),
        ("severity", "Sévère", "severe"),
        ("severity", "Stark", "severe"),
        ("severity", "Nicht vorhanden", "not_present"),
        ("flow", "Stark", "heavy"),
        ("flow", "Gemiddeld", "medium"),
        ("flow", "Abbondante", "heavy"),
        ("medication_status", "Prise", "taken"),
        ("medication_status", "Tomado", "taken"),
        ("medication_status", "Overgeslagen", "skipped"),
        ("classification", "Sinus Rhythm", "sinus_rhythm"),
        ("classification", "sinusRhythm", None),
        ("classification", "Vorhofflimmern", "atrial_fibrillation"),
        ("classification", "Rythme sinusal", "sinus_rhythm"),
        ("symptom", "Brûlures d\N{RIGHT SINGLE QUOTATION MARK}estomac", "heartburn"),
        ("symptom", "abdominal_cramps", "abdominal_cramps"),
        ("cycle_name", "Règles", "menstrual_flow"),
    ],
)
def test_codes(table: str, text: str, expected: str | None) -> None:
    assert code(table, text) == expected


@pytest.mark.parametrize("text", [None, 3, "", [], "unheard of"])
def test_what_is_no_text_or_unknown_has_no_code(text: object) -> None:
    assert all(code(table, text) is None for table in TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_a_code_is_its_own_text(table: str) -> None:
    assert all(code(table, each) == each for each in TABLES[table].values())
