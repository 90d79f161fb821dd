"""Networks of extractors that no library has; weights come in by name."""
