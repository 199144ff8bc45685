"""As it was before versions were kept."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Nothing: this is where versions begin."""
