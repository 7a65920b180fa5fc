"""Create the tables of keys."""

import sqlalchemy as sa
from alembic import op

revision = "keys_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("galleries", sa.JSON, nullable=True),
        sa.Column("rate", sa.String(32), nullable=True),
        sa.Column("concurrency", sa.Integer, nullable=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("lifetime_s", sa.Float, nullable=True),
        sa.Column("expires", sa.Float, nullable=True),
        sa.Column("revoked", sa.Float, nullable=True),
        sa.Column("last_used", sa.Float, nullable=True),
    )
    op.create_table("key_secret", sa.Column("secret_check", sa.LargeBinary(32), nullable=False))


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("key_secret")
    op.drop_table("keys")
