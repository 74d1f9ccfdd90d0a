"""Dead letters: which are meant, whether the cause is gone, sending them again."""
