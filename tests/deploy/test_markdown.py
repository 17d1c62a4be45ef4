"""Text in Markdown that shows as it is."""

import json

import pytest

from sklearn_iis.deploy._markdown import (
    as_code,
    as_text,
    make_front_matter,
    make_table,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lily_of_the_valley", "lily_of_the_valley"),
        ("_rose_", r"\_rose\_"),
        ("a|b", r"a\|b"),
        ("<b>[x](y)`*", r"\<b\>\[x\](y)\`\*"),
        ("two\nlines\r\n# no title", r"two lines \# no title"),
        ("\x1b[2J", r"\\x1b\[2J"),
        ("x" * 400, "x" * 300 + " ... (400 characters)"),
    ],
)
def test_text_is_no_markup(text, expected):
    assert as_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a__b", "`a__b`"),
        ("a`b", "``a`b``"),
        ("``a", "``` ``a ```"),
        ("a|b", r"`a\|b`"),
    ],
)
def test_code_may_hold_backticks(text, expected):
    assert as_code(text) == expected


def test_numbers_of_a_table_are_to_the_right():
    rows = [["1", "x", "0.5", "\N{EM DASH}"], ["2", "y", "\N{MINUS SIGN}1", "3"]]
    lines = make_table(["a", "b", "c", "d"], rows)
    assert lines == [
        "",
        "| a | b | c | d |",
        "| --- | --- | ---: | ---: |",
        "| 1 | x | 0.5 | \N{EM DASH} |",
        "| 2 | y | \N{MINUS SIGN}1 | 3 |",
        "",
    ]


def test_front_matter_is_one_line_per_key():
    values = {"a": 'x: "y"\n---', "b": [1, {"c": "d\udce9"}]}
    first, *lines, last, _ = make_front_matter(values)
    assert first == last == "---"
    assert {key: json.loads(value) for key, _, value in map(_split, lines)} == values


def _split(line):
    return line.partition(": ")
