"""The guard's rules, one for each kind of node that needs more than to be known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pglast import ast
from pglast.enums import (
    AlterTableType,
    ObjectType,
    SQLValueFunctionOp,
)

from durable.store import sql_names


class RefusedError(Exception):
    """A statement reaches for something that isn't permitted; ``str`` names it."""

    def __init__(
        self, what: str, position: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what)
        self.position = position
        self.hint = hint


_STATEMENT_KINDS = """
SelectStmt InsertStmt UpdateStmt DeleteStmt MergeStmt CreateStmt CreateTableAsStmt
ViewStmt IndexStmt DropStmt AlterTableStmt RenameStmt TruncateStmt CreateSeqStmt
AlterSeqStmt RefreshMatViewStmt ExplainStmt
"""

STATEMENTS = frozenset(_STATEMENT_KINDS.split())

_NODE_KINDS = """
Alias A_ArrayExpr A_Const A_Expr A_Indices A_Indirection A_Star AlterTableCmd
ATAlterConstraint BitString BoolExpr Boolean BooleanTest CaseExpr CaseWhen
CoalesceExpr CollateClause ColumnDef ColumnRef CommonTableExpr Constraint
CTECycleClause CTESearchClause DefElem Float FuncCall GroupingFunc GroupingSet
IndexElem InferClause Integer IntoClause JoinExpr JsonAggConstructor JsonArgument
JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFormat
JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor
JsonOutput JsonParseExpr JsonReturning JsonScalarExpr JsonSerializeExpr JsonTable
JsonTableColumn JsonTablePathSpec JsonValueExpr LockingClause MergeWhenClause
MinMaxExpr MultiAssignRef NamedArgExpr NullTest OnConflictClause ParamRef
PartitionBoundSpec PartitionElem PartitionSpec RangeFunction RangeSubselect RangeVar
ResTarget ReturningClause ReturningOption RowExpr SetToDefault SortBy
SQLValueFunction String SubLink TableLikeClause TypeCast TypeName WindowDef
WithClause
"""

NODES = STATEMENTS | frozenset(_NODE_KINDS.split())

_DROPPED = {
    ObjectType.OBJECT_TABLE,
    ObjectType.OBJECT_VIEW,
    ObjectType.OBJECT_MATVIEW,
    ObjectType.OBJECT_INDEX,
    ObjectType.OBJECT_SEQUENCE,
}
_RENAMED = _DROPPED | {ObjectType.OBJECT_COLUMN, ObjectType.OBJECT_TABCONSTRAINT}
_ALTERED = {ObjectType.OBJECT_TABLE, ObjectType.OBJECT_VIEW}
_ALTERATIONS = {
    AlterTableType.AT_AddColumn,
    AlterTableType.AT_ColumnDefault,
    AlterTableType.AT_DropNotNull,
    AlterTableType.AT_SetNotNull,
    AlterTableType.AT_SetExpression,
    AlterTableType.AT_DropExpression,
    AlterTableType.AT_DropColumn,
    AlterTableType.AT_AddConstraint,
    AlterTableType.AT_AlterConstraint,
    AlterTableType.AT_ValidateConstraint,
    AlterTableType.AT_DropConstraint,
    AlterTableType.AT_AlterColumnType,
    AlterTableType.AT_AddIdentity,
    AlterTableType.AT_SetIdentity,
    AlterTableType.AT_DropIdentity,
    AlterTableType.AT_SetRelOptions,
    AlterTableType.AT_ResetRelOptions,
}
_TIMES = {
    SQLValueFunctionOp.SVFOP_CURRENT_DATE,
    SQLValueFunctionOp.SVFOP_CURRENT_TIME,
    SQLValueFunctionOp.SVFOP_CURRENT_TIME_N,
    SQLValueFunctionOp.SVFOP_CURRENT_TIMESTAMP,
    SQLValueFunctionOp.SVFOP_CURRENT_TIMESTAMP_N,
    SQLValueFunctionOp.SVFOP_LOCALTIME,
    SQLValueFunctionOp.SVFOP_LOCALTIME_N,
    SQLValueFunctionOp.SVFOP_LOCALTIMESTAMP,
    SQLValueFunctionOp.SVFOP_LOCALTIMESTAMP_N,
}
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_SEQUENCE_FUNCTIONS = frozenset({"nextval", "setval"})


def _strings(names: Any) -> list[str]:
    return [getattr(name, "sval", None) or "" for name in names or ()]


def _built_in(names: Any, what: str, position: int | None = None) -> str:
    """The last part of a name that is unqualified or qualified with pg_catalog."""
    parts = _strings(names)
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "pg_catalog"):
        raise RefusedError(f"{what} {'.'.join(parts)}", position)
    return parts[-1] if parts else ""


def _own_name(name: str | None, position: int | None = None) -> None:
    if name and name.startswith("pg_"):
        raise RefusedError(f"the name {name}", position)


def _relation(node: Any) -> None:
    if node.catalogname or node.schemaname:
        full = ".".join(filter(None, (node.catalogname, node.schemaname, node.relname)))
        raise RefusedError(
            f"another schema's relation {full}",
            node.location,
            "name tables without a schema: an agent has one of its own",
        )
    if node.relname == "sqlite_master":
        raise RefusedError("sqlite_master", node.location, "keep a table of your own")
    _own_name(node.relname, node.location)
    if node.relpersistence != "p":
        raise RefusedError(
            "a temporary or unlogged table",
            node.location,
            "what an agent stores must survive; create an ordinary table",
        )


def _function(node: Any) -> None:
    name = _built_in(node.funcname, "the function", node.location)
    if name not in sql_names.FUNCTIONS and name not in sql_names.TYPES:
        known = sql_names.FUNCTION_HINTS.get(name)
        hint = f"write {known}" if known else None
        raise RefusedError(f"the function {name}", node.location, hint)
    if name in _SEQUENCE_FUNCTIONS:
        argument = node.args[0] if node.args else None
        value = getattr(argument, "val", None)
        sequence = value.sval if isinstance(value, ast.String) else None
        if sequence is None or not _PLAIN_NAME.fullmatch(sequence):
            raise RefusedError(
                f"{name} of anything but a sequence's plain name", node.location
            )
        _own_name(sequence, node.location)


def _type(node: Any) -> None:
    name = _built_in(node.names, "the type", node.location)
    if name not in sql_names.TYPES or node.pct_type or node.setof:
        known = sql_names.TYPE_HINTS.get(name)
        hint = f"write {known}" if known else None
        raise RefusedError(f"the type {name}", node.location, hint)


def _time_value(node: Any) -> None:
    if node.op not in _TIMES:
        raise RefusedError(node.op.name.removeprefix("SVFOP_"), node.location)


def _operator(node: Any) -> None:
    _built_in(node.name, "the operator", node.location)


def _select(node: Any) -> None:
    if node.intoClause is not None:
        raise RefusedError("SELECT INTO", None, "write CREATE TABLE … AS SELECT …")


def _storage(node: Any) -> None:
    """Nothing but the default tablespace and access method, no typed tables."""
    for field in ("tablespacename", "tableSpaceName", "tableSpace", "indexspace"):
        if getattr(node, field, None):
            raise RefusedError("TABLESPACE")
    if getattr(node, "accessMethod", None) or getattr(node, "ofTypename", None):
        raise RefusedError("a table of another type or access method")


def _index(node: Any) -> None:
    if node.tableSpace:
        raise RefusedError("TABLESPACE")
    if node.accessMethod and node.accessMethod not in sql_names.INDEX_METHODS:
        raise RefusedError(f"the index method {node.accessMethod}")
    if node.concurrent:
        raise RefusedError("CREATE INDEX CONCURRENTLY", None, "leave CONCURRENTLY out")


def _constraint(node: Any) -> None:
    if node.indexspace:
        raise RefusedError("TABLESPACE", node.location)
    if node.access_method and node.access_method not in sql_names.INDEX_METHODS:
        raise RefusedError(f"the index method {node.access_method}", node.location)
    for exclusion in node.exclusions or ():
        _built_in(exclusion[1], "the operator", node.location)


def _drop(node: Any) -> None:
    if node.removeType not in _DROPPED or node.concurrent:
        kind = node.removeType.name.removeprefix("OBJECT_").replace("_", " ")
        raise RefusedError(
            f"DROP {kind}" + (" CONCURRENTLY" if node.concurrent else "")
        )
    for names in node.objects:
        parts = _strings(names)
        if len(parts) != 1:
            raise RefusedError(f"another schema's relation {'.'.join(parts)}")
        _own_name(parts[0])


def _rename(node: Any) -> None:
    if node.renameType not in _RENAMED or node.relation is None:
        raise RefusedError("this RENAME")
    _own_name(node.newname)


def _alter(node: Any) -> None:
    if node.objtype not in _ALTERED:
        raise RefusedError("this ALTER")


def _alteration(node: Any) -> None:
    if node.subtype not in _ALTERATIONS:
        words = re.findall(r"[A-Z][a-z]*", node.subtype.name.removeprefix("AT_"))
        raise RefusedError("ALTER TABLE … " + " ".join(words).upper())


def _create_as(node: Any) -> None:
    if node.is_select_into:
        raise RefusedError("SELECT INTO", None, "write CREATE TABLE … AS SELECT …")


def _option(node: Any) -> None:
    if node.defname not in sql_names.OPTIONS or node.defnamespace:
        raise RefusedError(f"the option {node.defname}", node.location)
    if node.defname == "owned_by" and len(node.arg) > 2:
        raise RefusedError("another schema's relation", node.location)


def _explain(node: Any) -> None:
    if type(node.query).__name__ not in STATEMENTS:
        raise RefusedError("EXPLAIN of this statement")


def _collation(node: Any) -> None:
    _built_in(node.collname, "the collation", node.location)


def _index_element(node: Any) -> None:
    _built_in(node.opclass, "the operator class")
    _built_in(node.collation, "the collation")


def _sort(node: Any) -> None:
    _built_in(node.useOp, "the operator", node.location)


def _subquery(node: Any) -> None:
    _built_in(node.operName, "the operator", node.location)


NODE_RULES: dict[str, Callable[[Any], None]] = {
    "A_Expr": _operator,
    "AlterTableCmd": _alteration,
    "AlterTableStmt": _alter,
    "CollateClause": _collation,
    "Constraint": _constraint,
    "CreateStmt": _storage,
    "CreateTableAsStmt": _create_as,
    "DefElem": _option,
    "DropStmt": _drop,
    "ExplainStmt": _explain,
    "FuncCall": _function,
    "IndexElem": _index_element,
    "IndexStmt": _index,
    "IntoClause": _storage,
    "PartitionElem": _index_element,
    "RangeVar": _relation,
    "RenameStmt": _rename,
    "SQLValueFunction": _time_value,
    "SelectStmt": _select,
    "SortBy": _sort,
    "SubLink": _subquery,
    "TypeName": _type,
}

_READS = frozenset({"SelectStmt", "ExplainStmt"})


def is_write(node: ast.Node) -> bool:
    """Whether a statement with this node in it may change or lock anything."""
    if isinstance(node, ast.FuncCall):
        return _strings(node.funcname)[-1] in _SEQUENCE_FUNCTIONS
    kind = type(node).__name__
    return kind == "LockingClause" or (kind in STATEMENTS and kind not in _READS)


def integer_columns(statement: ast.Node) -> Iterator[int]:
    """Where columns are declared INTEGER or INT, which the parser reads as int4.

    SQLite's INTEGER holds 64 bits, and its users store milliseconds in it. A column
    declared as ``int4`` keeps its 32 bits.
    """
    stack: list[Any] = [statement]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            stack.extend(item)
        elif isinstance(item, ast.Node):
            declared = item.typeName if isinstance(item, ast.ColumnDef) else None
            if declared and _strings(declared.names) == ["pg_catalog", "int4"]:
                yield declared.location or 0
            stack.extend(getattr(item, name) for name in item)
