from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from dockyard.config.durations import DurationInvalidError, of_nanoseconds, parse, render


LONGEST = timedelta(microseconds=((1 << 63) - 1) // 1000)


@given(st.timedeltas(min_value=-LONGEST, max_value=LONGEST))
def test_what_is_rendered_parses_to_the_same(duration: timedelta) -> None:
    assert parse(render(duration)) == duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", timedelta()),
        ("0s", timedelta()),
        ("5s", timedelta(seconds=5)),
        ("+5s", timedelta(seconds=5)),
        ("-2m", timedelta(minutes=-2)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("30m1h", timedelta(hours=1, minutes=30)),
        ("1.5h", timedelta(minutes=90)),
        (".5s", timedelta(milliseconds=500)),
        ("5.s", timedelta(seconds=5)),
        ("100ms", timedelta(milliseconds=100)),
        ("1us", timedelta(microseconds=1)),
        ("1µs", timedelta(microseconds=1)),
        ("1\u03bcs", timedelta(microseconds=1)),
        ("1500ns", timedelta(microseconds=2)),
        ("1ns", timedelta(microseconds=1)),
        ("-1ns", timedelta(microseconds=-1)),
        ("168h", timedelta(days=7)),
    ],
)
def test_go_notation_is_read(text: str, duration: timedelta) -> None:
    assert parse(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "+",
        "5",
        "s",
        ".s",
        "1d",
        "1 s",
        "1h 30m",
        "--1s",
        "1e3s",
        "\uff13s",
        "2562048h",
        "9" * 101,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DurationInvalidError) as caught:
        parse(text)
    assert caught.value.text == text


@given(st.text(max_size=120))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        duration = parse(text)
    except DurationInvalidError:
        return
    assert parse(render(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(days=7), "168h"),
        (timedelta(hours=1, minutes=30), "1h30m"),
        (timedelta(milliseconds=1500), "1s500ms"),
        (timedelta(microseconds=-1), "-1µs"),
    ],
)
def test_rendering_leaves_out_units_that_are_zero(duration: timedelta, text: str) -> None:
    assert render(duration) == text


def test_a_count_of_nanoseconds_is_bounded_as_in_go() -> None:
    assert of_nanoseconds((1 << 63) - 1) > timedelta(days=365 * 292)
    with pytest.raises(DurationInvalidError):
        of_nanoseconds(1 << 63)
