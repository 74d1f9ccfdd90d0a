"""From a join event to an outcome."""
