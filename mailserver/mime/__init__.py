"""Octets of a message to its description: envelope, structure, offsets, text."""
