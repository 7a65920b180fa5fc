"""Create the tables of data keys."""

import sqlalchemy as sa
from alembic import op

revision = "data_keys_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "data_keys",
        sa.Column("id", sa.LargeBinary(16), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("key", sa.BigInteger, nullable=False),
        sa.Column("gallery", sa.BigInteger, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(60), nullable=False),
    )
    op.create_index("data_keys_key", "data_keys", ["kind", "key"])
    op.create_index("data_keys_gallery", "data_keys", ["gallery"])
    op.create_table(
        "data_keys_state",
        sa.Column("store", sa.String(32), nullable=False),
        sa.Column("master_key", sa.String(16), nullable=False),
        sa.Column("last_erasure", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("data_keys_state")
    op.drop_table("data_keys")
