"""What an operator sees of a running system: status, metrics and health, read from Redis when asked for."""
