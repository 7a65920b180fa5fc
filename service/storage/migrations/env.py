"""Environment of Alembic: migrates the store whose connection `service.storage.tables` passes."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
