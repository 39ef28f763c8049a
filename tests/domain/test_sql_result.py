"""The result of a statement: a list, with a cursor's methods."""

from __future__ import annotations

import pytest

from durable import json_text
from durable.domain.errors import SqlError
from durable.domain.sql_result import SqlResult
from durable.objects import codec

TWO = SqlResult(("a", "b"), [(1, "x"), (2, "y")], rows_written=3, schema="agent_1")


def test_it_is_a_list_of_mappings_that_travels_as_one() -> None:
    assert TWO == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert codec.decode(codec.encode(TWO)) == TWO.rows
    assert json_text.loads(json_text.dumps({"rows": TWO})) == {"rows": TWO.rows}
    assert type(TWO.to_array()) is list
    assert TWO.to_array() is not TWO


def test_it_says_what_a_cursor_says() -> None:
    assert TWO.column_names == ("a", "b")
    assert (TWO.rows_read, TWO.rows_written, TWO.schema) == (2, 3, "agent_1")
    assert TWO.raw() == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("count", [0, 2])
def test_one_refuses_anything_but_one_row(count: int) -> None:
    assert SqlResult(["a"], [(1,)]).one() == {"a": 1}
    with pytest.raises(SqlError, match=f"exactly one row, the statement gave {count}"):
        SqlResult(["a"], [(1,)] * count).one()


def test_raw_has_the_values_of_columns_with_one_name() -> None:
    result = SqlResult(("id", "id"), [(1, 2)])
    assert result.one() == {"id": 2}
    assert result.raw() == [(1, 2)]
