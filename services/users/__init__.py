"""Users: accounts, who may log in, and which tokens are still good.

Owns accounts, refresh tokens and denied access tokens (userservice_db); a copy of the denied ones stands in Redis.
Publishes nothing and reacts to no event.
"""
