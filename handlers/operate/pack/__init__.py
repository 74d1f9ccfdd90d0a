"""The evidence pack as files. Only `joinguard evidence` imports what renders them, and the packages that needs."""
