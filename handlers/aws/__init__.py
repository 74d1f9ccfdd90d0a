"""One adapter for each service. AWS error codes stop here."""
