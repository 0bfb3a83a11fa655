"""The steps from each form of the state database to the next. Alembic runs them."""
