"""SEARCH, evaluated in the cheapest order."""
