"""What other databases are held against userservice_db; within it the constraints say all that must hold."""

from typing import Final

KNOWN_USERS: Final = "SELECT id AS user_id FROM users WHERE id = ANY(CAST(:user_ids AS uuid[]))"
"""Those of these accounts that exist."""
