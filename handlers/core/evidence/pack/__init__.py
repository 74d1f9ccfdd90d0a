"""What the records of a period say: the data of an evidence pack."""
