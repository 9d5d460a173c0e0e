"""SQL statements of the store, one module per topic, and its schema."""
