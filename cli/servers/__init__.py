"""Private PostgreSQL, RabbitMQ and Valkey: found or fetched, on the loopback address only, gone without a trace."""
