"""Wiring: options, configuration file, services started by twistd."""
