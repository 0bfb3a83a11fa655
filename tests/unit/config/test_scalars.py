import pytest
from hypothesis import given, strategies as st

from dockyard.config.nodes import Origin, ScalarNode
from dockyard.config.scalars import (
    parse_number,
    to_duration,
    to_duration_with_unit,
    to_flag,
    to_free,
    to_number,
    to_parameter_flag,
    to_parameter_number,
    to_text,
    to_text_or_none,
)


def scalar(text: str, *, plain: bool = True) -> ScalarNode:
    return ScalarNode(text, plain, Origin())


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0b101", 5),
        ("010", 8),
        ("0o10", 8),
        ("-010", -8),
        ("08", 8.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
    ],
)
def test_numbers_are_those_of_yaml(text: str, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "-", "x", "1:30", "0x", "0b", "1e", "0x_", "0b_", "1" * 65])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert parse_number(text) is None


@given(st.text(alphabet="0123456789xob_+-.e", max_size=70))
def test_no_text_breaks_the_reading_of_numbers(text: str) -> None:
    assert parse_number(text) is None or isinstance(parse_number(text), int | float)


@pytest.mark.parametrize("text", ["y", "Yes", "ON", "true", "TRUE"])
def test_truth_has_yamls_spellings(text: str) -> None:
    assert to_flag(scalar(text)) is True


@pytest.mark.parametrize("text", ["n", "No", "OFF", "false", "FALSE"])
def test_falsehood_has_yamls_spellings(text: str) -> None:
    assert to_flag(scalar(text)) is False


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (scalar("maybe"), "must be true or false"),
        (scalar("tRUE"), "must be true or false"),
        (scalar("1"), "must be true or false"),
        (scalar("true", plain=False), "must be true or false without quotes"),
    ],
)
def test_other_texts_are_no_truth(node: ScalarNode, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        to_flag(node)


def test_parameters_of_drivers_may_be_in_quotes() -> None:
    assert to_parameter_flag(scalar("true", plain=False)) is True
    assert to_parameter_flag(scalar("0", plain=False)) is False
    assert to_parameter_flag(scalar("yes")) is True
    assert to_parameter_number(scalar("30", plain=False)) == 30
    with pytest.raises(ValueError, match="true or false"):
        to_parameter_flag(scalar("maybe"))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (scalar("many"), "must be a whole number"),
        (scalar("5", plain=False), "must be a whole number without quotes"),
        (scalar("1e999"), "must be a whole number"),
        (scalar("9223372036854775808"), "must be a whole number"),
    ],
)
def test_other_texts_are_no_whole_numbers(node: ScalarNode, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        to_number(node)


def test_a_fraction_is_cut_off_as_distribution_does() -> None:
    assert to_number(scalar("10.9")) == 10


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (scalar("null"), None),
        (scalar("yes"), True),
        (scalar("5"), 5),
        (scalar("1e999"), "1e999"),
        (scalar("x"), "x"),
        (scalar("5", plain=False), "5"),
    ],
)
def test_free_values_are_what_yaml_sees(node: ScalarNode, value: object) -> None:
    assert to_free(node) == value


@pytest.mark.parametrize(
    "validator",
    [
        to_text,
        to_text_or_none,
        to_flag,
        to_number,
        to_duration,
        to_duration_with_unit,
        to_parameter_flag,
        to_parameter_number,
        to_free,
    ],
)
def test_what_is_not_from_a_file_passes_through(validator: object) -> None:
    assert callable(validator)
    assert validator(5) == 5
