"""Which galleries and subjects of a store have data keys, in a file of data keys that is attached to the connection."""

import sqlite3

from service.encryption.data_keys import Owner

OWNERS: dict[str, Owner] = {"galleries": "gallery", "subjects": "subject"}
"""By table, the kind of the data keys of its rows."""


def count_lacking(connection: sqlite3.Connection, schema: str, destroyed_count: bool = False) -> dict[str, int]:
    """Count the galleries and subjects of a store that have no data key, by table.

    Args:
        connection: Connection to the store.
        schema: Name under which the file of the data keys is attached.
        destroyed_count: Whether a destroyed data key counts as one, also that of the gallery of a subject.
    """
    lacking = {}
    destroyed = f"SELECT key FROM {schema}.data_keys WHERE kind = 'gallery' AND wrapped = x''"
    for table, owner in OWNERS.items():
        found = f"SELECT 1 FROM {schema}.data_keys AS found WHERE found.kind = ? AND found.key = {table}.key"
        live = "" if destroyed_count else " AND found.wrapped != x''"
        query = f"SELECT COUNT(*) FROM {table} WHERE NOT EXISTS ({found}{live})"
        if destroyed_count and owner == "subject":
            query += f" AND gallery NOT IN ({destroyed})"
        (lacking[table],) = connection.execute(query, (owner,)).fetchone()
    return lacking
