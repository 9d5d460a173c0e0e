"""The administrator's command, `mailctl`."""
