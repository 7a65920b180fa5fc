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
    Column("kind", String(8), primary_key=True),
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("gallery", BigInteger, nullable=False),
    Column("wrapped", LargeBinary(60), nullable=False),
)
"""One row for each data key: what it encrypts (`gallery`, `subject` or `snapshot`) and the key of that row."""

Index("data_keys_gallery", data_keys.c.gallery)

data_keys_state = Table(
    "data_keys_state",
    _METADATA,
    Column("store", String(32), nullable=False),
    Column("master_key", String(16), nullable=False),
    Column("last_erasure", BigInteger, nullable=False),
)
"""One row: id of the gallery store, id of the master key, and number of the last erasure whose keys are destroyed."""
