"""Frozen values that every layer shares: ids, sets, names, flags, rights, quotas."""
