"""Which policies an account must carry."""
