"""Who may log in: realms, passwords, throttling."""
