"""Sources of accounts and passwords, one module each."""
