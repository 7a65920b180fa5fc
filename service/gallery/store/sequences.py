"""The numbers that the store gives to new rows; a number that was given is never given again."""

import sqlite3


def last_given(connection: sqlite3.Connection, table: str) -> int:
    """Return the largest number that a table has ever given to a row."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return 0 if row is None else int(row[0])


def continue_after(connection: sqlite3.Connection, table: str, least: int) -> None:
    """Let a table give only numbers above `least` from now on."""
    if last_given(connection, table) >= least:
        return
    if not connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (least, table)).rowcount:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, least))
