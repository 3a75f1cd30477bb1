"""What is wrong with a value, as a person is told it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.fault import fault_text
from edge.manifest import Date, RelativePath, Text
from edge.server.refusal import from_validation


class Value(BaseModel):
    model_config = ConfigDict(extra="forbid")

    above: Annotated[float, Field(gt=0.5)] = 1
    least: Annotated[int, Field(ge=1)] = 1
    below: Annotated[int, Field(lt=2000)] = 1
    most: Annotated[float, Field(le=1e6)] = 1
    choice: Literal["a", "b"] = "a"
    some: Annotated[list[int], Field(min_length=1, max_length=2)] = [1]
    text: Text = ""
    day: Date = "2024"
    path: RelativePath = "a"


def refused(given: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Value.model_validate(given)
    return caught.value


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ({"above": 0.5}, "> 0.5"),
        ({"least": 0}, "≥ 1"),
        ({"below": 2000}, "< 2000"),
        ({"most": 1e6 + 1}, "≤ 1000000"),
    ],
)
def test_a_bound_is_told_with_its_sign(given: dict[str, float], bound: str) -> None:
    plain = fault_text(refused(given)).replace(",", "").replace("1e+06", "1000000")
    assert plain == f"{next(iter(given))}: must be {bound}"
    assert from_validation(refused(given), given).facts["bound"] == bound


def test_a_field_that_is_misspelt_comes_before_all_that_is_missing() -> None:
    assert fault_text(refused({"least": 0, "belw": 3})).startswith("belw: ")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"least": 1.5}, "least : doit être un nombre entier"),
        ({"above": "x"}, "above : doit être un nombre, et fini"),
        ({"choice": "c"}, "choice : doit être l’une de ces valeurs : 'a', 'b'"),
        ({"some": []}, "some : a trop peu d’éléments"),
        ({"some": [1, 2, 3]}, "some : a trop d’éléments"),
        ({"some": [1, "x"]}, "some.1 : doit être un nombre entier"),
        ({"text": 1}, "text : doit être un texte, entre guillemets"),
        ({"text": "x" * 2001}, "text : est trop long"),
        ({"text": "\x1b[2J"}, "text : contient des caractères de contrôle"),
        ({"day": "9999-99-99"}, "day : n’est pas une date"),
        ({"day": "2023-02-29"}, "day : n’est pas une date"),
        ({"day": "2024-W01-1"}, "day : n’est pas écrit comme il le faut"),
        ({"path": "../x"}, "path : n’est pas un chemin à l’intérieur du dossier"),
        ({"new\x1b": 1}, "new\ufffd : ce champ n’existe pas"),
        ([], "doit être une table"),
    ],
)
def test_a_reason_is_told_in_the_user_s_language(
    monkeypatch: pytest.MonkeyPatch, given: Any, said: str
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert fault_text(refused(given)).startswith(said)


def test_what_is_no_json_is_told_so() -> None:
    with pytest.raises(ValidationError) as caught:
        Value.model_validate_json(b"{")
    assert fault_text(caught.value) == "is not valid JSON"


@pytest.mark.parametrize("day", ["1800", "2024-05", "2024-02-29"])
def test_a_day_a_month_and_a_year_are_dates(day: str) -> None:
    assert Value(day=day).day == day
