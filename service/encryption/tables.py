"""Tables of the data keys; the migrations in `versions` create them."""

from pathlib import Path

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, String, Table

from service.storage.tables import Schema

DESTROYED = b""
"""What is left of a data key that was destroyed."""

SCHEMA = Schema("the store of data keys", Path(__file__).parent / "versions", "data_keys_0001")

_METADATA = MetaData()

data_keys = Table(
    "data_keys",
    _METADATA,
    Column("id", LargeBinary(16), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("key", BigInteger, nullable=False),
    Column("gallery", BigInteger, nullable=False),
    Column("wrapped", LargeBinary(60), nullable=False),
)
"""One row for each data key: a random id, what it encrypts (`gallery`, `subject` or `snapshot`), the key of that row.

The id tells data keys apart that were made for one row at different times, or for rows of different stores."""

Index("data_keys_key", data_keys.c.kind, data_keys.c.key)
Index("data_keys_gallery", data_keys.c.gallery)

data_keys_state = Table(
    "data_keys_state",
    _METADATA,
    Column("store", String(32), nullable=False),
    Column("master_key", String(16), nullable=False),
    Column("last_erasure", BigInteger, nullable=False),
)
"""One row: id of the gallery store, id of the master key, and number of the last erasure whose keys are destroyed."""
