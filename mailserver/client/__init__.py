"""Protocol clients, used by the tests and by import."""
