"""Tables of the audit log; the migrations in `versions` create them."""

from pathlib import Path

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text

from service.storage.tables import Schema

SCHEMA = Schema("the audit log", Path(__file__).parent / "versions", "audit_0001")

_METADATA = MetaData()

audit_records = Table(
    "audit_records",
    _METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("content", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)

audit_ends = Table(
    "audit_ends",
    _METADATA,
    Column("first", BigInteger, nullable=False),
    Column("before_first", LargeBinary(32), nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("last_digest", LargeBinary(32), nullable=False),
    Column("seal", LargeBinary(32), nullable=False),
)
"""One row: numbers and digests of both ends of the table, sealed by the key of the chain, so that a cut is found."""
