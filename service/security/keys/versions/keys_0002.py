"""Add the protocol that a key speaks, and what the protocols of other products need."""

import sqlalchemy as sa
from alembic import op

revision = "keys_0002"
down_revision = "keys_0001"


def upgrade() -> None:
    """Add the columns; the keys that exist speak the own protocol."""
    op.add_column("keys", sa.Column("protocol", sa.String(16), nullable=False, server_default="vultus"))
    op.add_column("keys", sa.Column("service", sa.String(16), nullable=True))
    op.add_column("keys", sa.Column("sealed_secret", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    """Remove the columns."""
    for column in ("sealed_secret", "service", "protocol"):
        op.drop_column("keys", column)
