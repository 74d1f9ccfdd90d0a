"""The tables of the template, and the queries on them, with DuckDB in Athena's place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import duckdb
import sqlglot
from sqlglot import exp

from infra.deploy.build import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Schema = dict[str, Any]
QUERIES: Final = ROOT / "infra" / "queries"
#: A day's folder, as the partitions of the tables name it.
_DAY: Final = "[0-9]{4}/[0-9]{2}/[0-9]{2}"


def hive_type(schema: Schema, definitions: Schema) -> str:
    """Return the type of a column that holds what a JSON Schema of ours allows; a text holds what has several types."""
    if "$ref" in schema:
        return hive_type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        found = {hive_type(each, definitions) for each in schema["anyOf"] if each.get("type") != "null"}
        return found.pop() if len(found) == 1 else "string"
    kind = str(schema.get("type", "string"))
    if kind == "array":
        return f"array<{hive_type(schema['items'], definitions)}>"
    if kind == "object" and "properties" in schema:
        fields = ",".join(f"{name}:{hive_type(each, definitions)}" for name, each in schema["properties"].items())
        return f"struct<{fields}>"
    if kind == "object":
        return f"map<string,{hive_type(schema['additionalProperties'], definitions)}>"
    return {"integer": "bigint"}.get(kind, kind)


def database(folder: Path, tables: Mapping[str, Mapping[str, str]]) -> duckdb.DuckDBPyConnection:
    """Return a database with the tables, by their Hive types, on objects that are files under their keys.

    As in the catalog, a table has the objects of its days and no others.
    """
    # JSON is built in; nothing may be downloaded.
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    for name, columns in tables.items():
        types = {column: exp.DataType.build(hive, dialect="hive").sql("duckdb") for column, hive in columns.items()}
        files = [str(path) for path in sorted(folder.glob(f"{name}/[0-9]*/[0-9]*/[0-9]*/**/*.json"))]
        connection.execute(_view(name, types, files) if files else _empty(name, types))
    return connection


def _view(name: str, types: Mapping[str, str], files: list[str]) -> str:
    columns = ", ".join(f"'{column}': '{kind}'" for column, kind in types.items())
    return (
        f"CREATE VIEW {name} AS "  # noqa: S608 - our own names
        f"SELECT * EXCLUDE (filename), regexp_extract(filename, '/{name}/({_DAY})/', 1) AS day "
        f"FROM read_json({files}, columns = {{{columns}}}, filename = true, format = 'newline_delimited')"
    )


def _empty(name: str, types: Mapping[str, str]) -> str:
    return f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in types.items())}, day TEXT)"


def translated(query: str) -> str:
    """Return a query of infra/queries, which Athena runs, in DuckDB's dialect."""
    [statement] = sqlglot.transpile((QUERIES / f"{query}.sql").read_text(), read="athena", write="duckdb")
    return statement


def rows(connection: duckdb.DuckDBPyConnection, query: str, *parameters: str) -> list[dict[str, Any]]:
    """Return the rows of a query of infra/queries."""
    found = connection.execute(translated(query), parameters)
    names = [each[0] for each in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
