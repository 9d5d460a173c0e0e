"""What FETCH, STATUS and SEARCH can ask for, one table each."""
