"""Tables of the store of keys; the migrations in `versions` create them."""

from pathlib import Path

from sqlalchemy import JSON, Column, Float, Integer, LargeBinary, MetaData, String, Table

from service.storage.tables import Schema

SCHEMA = Schema("the store of keys", Path(__file__).parent / "versions", "keys_0002")

_METADATA = MetaData()

keys = Table(
    "keys",
    _METADATA,
    Column("id", String(12), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("galleries", JSON(none_as_null=True)),
    Column("rate", String(32)),
    Column("concurrency", Integer),
    Column("created", Float, nullable=False),
    Column("lifetime_s", Float),
    Column("expires", Float),
    Column("revoked", Float),
    Column("last_used", Float),
    Column("protocol", String(16), nullable=False),
    Column("service", String(16)),
    Column("sealed_secret", LargeBinary),
)

key_secret = Table("key_secret", _METADATA, Column("secret_check", LargeBinary(32), nullable=False))
"""One row: a digest of the server secret under which the keys were made."""
