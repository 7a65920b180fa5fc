"""Create the tables of the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "audit_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "audit_records",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "audit_ends",
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("before_first", sa.LargeBinary(32), nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("last_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("seal", sa.LargeBinary(32), nullable=False),
    )


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("audit_ends")
    op.drop_table("audit_records")
