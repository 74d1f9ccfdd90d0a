"""Numbers with their nouns and verbs, in the words of texts for people."""


def count(number: int, noun: str) -> str:
    """Return a number with a noun whose plural takes an s, such as `1 message` or `2,000 messages`."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def agree(number: int, one: str, many: str) -> str:
    """Return the word that agrees with a number, such as `is` or `are`."""
    return one if number == 1 else many
